"""Shards in Google's storage, as an emulator on loopback answers for it: from a folder to a training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import run_cli
from noise_shards import each_once, visits, write_noise
from s3_server import free_port, wait_for_port

from litscope.data.shards.index import Index
from litscope.data.storage.store import Store

pytestmark = pytest.mark.slow

_SERVER = (
    "import sys; from gcp_storage_emulator.server import create_server; "
    "create_server('127.0.0.1', int(sys.argv[1]), in_memory=True, default_bucket='bucket').run()"
)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    port = free_port()
    command = [sys.executable, "-c", _SERVER, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("storage")
def test_from_a_folder_to_a_training(tmp_path: Path) -> None:
    def did(*words: str) -> str:
        done = run_cli(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stderr

    write_noise(tmp_path / "shards", 91, 20, most_samples=40)
    upload = ("prepare", "--output-dir", "shards", "--upload-only", "--cloud-url", "gs://bucket/noise")
    assert "sent now: 4 shards" in did(*upload)
    assert "sent now: nothing" in did(*upload)
    did("verify", "gs://bucket/noise/")
    fit = "--arch convnet --batch-size 16 --no-cache --cache-dir kept --accelerator cpu --epochs 2 --logger none"
    did("fit", "gs://bucket/noise/", *fit.split(), "--no-progress", "--run-dir", "run")
    run = tmp_path / "run"
    assert each_once(run).total() == 91
    assert visits(run) == dict.fromkeys(range(2), each_once(run))
    assert list((tmp_path / "kept/shards/blocks").rglob("*-0"))

    for file in (tmp_path / "shards").glob("*.tar"):  # those of somebody else have no index
        Store().put(file, f"gs://bucket/foreign/{file.name}")
    did("index", "gs://bucket/foreign/", "-o", "index")
    assert len(Index.read(tmp_path / "index" / "index.parquet")) == 111
