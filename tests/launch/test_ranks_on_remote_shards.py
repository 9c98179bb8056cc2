"""Two ranks on shards that lie elsewhere: uneven ones, and fewer than ranks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from forked import run_cli
from noise_shards import each_once, visits, write_noise
from proxied_server import proxied
from s3_server import S3Server

_TWO_RANKS = (
    "--arch convnet --batch-size 8 --no-cache --num-workers 1 --devices 2 --strategy ddp --accelerator cpu "
    "--logger none --no-progress --log-every-n-steps 1 --run-dir run"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Training samples in shards of 37, 37 and 17; and 23 in a single one."""
    folder = tmp_path_factory.mktemp("buckets")
    write_noise(folder / "bucket/three", 91, 9, most_samples=37)
    write_noise(folder / "bucket/one", 23, 9, most_samples=37)
    found = S3Server(folder)
    yield found
    found.kill()


@pytest.fixture(autouse=True)
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultProxy]:
    with proxied(server, monkeypatch, tmp_path / "kept") as found:
        yield found


@pytest.mark.parametrize(("name", "num", "num_shards"), [("three", 91, 3), ("one", 23, 1)])
def test_every_epoch_is_parted_among_the_ranks(
    name: str, num: int, num_shards: int, server: S3Server, tmp_path: Path
) -> None:
    """They share a cache as well."""
    assert len(list((server.folder / "bucket" / name).glob("train-*.tar"))) == num_shards
    words = ["--epochs", "3", "--shuffle-window", "10K", "--cache-dir", "kept"]
    done = run_cli("fit", f"s3://bucket/{name}/", *words, *_TWO_RANKS.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert each_once(run).total() == num
    assert visits(run) == dict.fromkeys(range(3), each_once(run))
    assert list((tmp_path / "kept/shards/blocks").rglob("*-0"))
