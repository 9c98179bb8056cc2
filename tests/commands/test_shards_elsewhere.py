"""A run on tar files of others in an S3 bucket: trained on two ranks, and every command that looks at it afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from foreign_tars import write
from s3_server import ACCESS, S3Server

from litscope import addresses
from litscope.cli import main
from litscope.data.manifest import Manifest
from litscope.data.reading.readers import ArrayReader
from litscope.data.shards.encode import Form, encode
from litscope.rundir import RunDir

pytestmark = pytest.mark.slow

RECIPE = """
data: {use_webdataset: true, train_urls: "s3://photos/train-{0000..0001}.tar", num_workers: 2, batch_size: 8}
model: {arch: convnet, compile_model: false}
training: {epochs: 2}
hardware: {devices: 2, accelerator: cpu, precision: 32-true, strategy: ddp}
logging: {run_dir: run, progress: false, logger: none}
"""
SHORT = ["--epochs", "1", "--accelerator", "cpu", "--devices", "1", "--no-progress", "--logger", "none"]


def write_photos(folder: Path) -> None:
    """Two tar files of 27 and 13 images, light on the left or on the right: uneven, and fewer than batches need."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (40, 16, 16, 3), np.uint8)
    for number in range(40):
        pixels[number, :, 8 * (number % 2) : 8 * (number % 2) + 8] += 180
    reader = ArrayReader(pixels)
    for name, ids in (("train-0000", range(27)), ("train-0001", range(27, 40))):
        members = []
        for number in ids:
            suffix, content = encode(reader, number, Form())
            members += [(f"{number:03d}{suffix}", content), (f"{number:03d}.cls", b"%d" % (number % 2))]
        write(folder / f"{name}.tar", members)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("buckets")
    (folder / "photos").mkdir()
    write_photos(folder / "photos")
    server = S3Server(folder)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def credentials(bucket: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ACCESS, "AWS_ENDPOINT_URL": bucket.url, addresses.VARIABLE: "{}"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def trained(bucket: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on two ranks."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.yaml").write_text(RECIPE)
    place = {**os.environ, **ACCESS, "AWS_ENDPOINT_URL": bucket.url, "LITSCOPE_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "litscope", "fit", "--config", "recipe.yaml"]
    subprocess.run(command, cwd=folder, env=place, check=True, timeout=900)
    return folder / "run"


@pytest.fixture
def run(trained: Path, in_tmp: Path) -> Path:
    shutil.copytree(trained, in_tmp / "run")
    return Path("run")


def test_two_ranks_see_each_sample_once_in_every_epoch(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read(RunDir(run).manifest)
    assert len(manifest) == 40
    assert len(manifest.ids("val")) == 4
    assert sorted(key.rpartition("/")[2] for key in manifest.keys) == [f"{i:03d}" for i in range(40)]
    counts = "count(*) as n, count(distinct sample_id) as ids"
    query = f"select epoch, {counts} from signals where split = 'train' group by epoch"
    assert main(["sql", str(run), query, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["result"]
    assert [(row["n"], row["ids"]) for row in rows] == [(36, 36), (36, 36)]


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "run", "--split", "val"],
        ["evaluate", "run", "--split", "train", "--dataset", "s3://photos/"],
        ["predict", "run", "s3://photos/train-0001.tar"],
        ["predict", "run", "--split", "val"],
        ["check", "s3://photos/"],
        ["suspects", "run", "-n", "3", "--sheet", "sheet.png"],
        ["worst", "run", "-n", "3", "--sheet", "sheet.png"],
        ["sample", "run", "3"],
        ["export", "run", "--to", "csv", "-o", "curated.csv"],
        ["export", "run", "--to", "folder", "-o", "curated"],
        ["prepare", "run", "-o", "curated"],
        ["verify", "s3://photos/"],
        ["cv", "s3://photos/", "--folds", "2", "--arch", "convnet", *SHORT],
        ["tune", "s3://photos/", "--trials", "2", "--arch", "convnet", *SHORT],
        ["replay", "run"],
        ["whatif", "run", "--discard", "sample_id < 3", "--epochs", "1", "--seeds", "2"],
    ],
    ids=lambda words: " ".join(words[:4]),
)
@pytest.mark.usefixtures("run")
def test_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["error"] is None
    assert document["result"]
    if "sheet.png" in words:
        assert Path("sheet.png").stat().st_size > 1000


def test_a_presigned_address_is_written_nowhere_and_asked_for_again(
    bucket: S3Server, in_tmp: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = f"{bucket.url}/photos/train-{{0000..0001}}.tar"
    signed = f"{plain}?X-Amz-Signature=5ec7e7"
    fit = ["fit", "--train-urls", signed, "--arch", "convnet", *SHORT, "--run-dir", "run"]
    assert main(fit) == 0
    files = [path for path in in_tmp.rglob("*") if path.is_file()]
    assert not [path for path in files if b"5ec7e7" in path.read_bytes()]
    said = capsys.readouterr()
    assert "5ec7e7" not in said.out + said.err
    assert f"train_urls: '{plain}?***'" in RunDir("run").recipe.read_text()
    monkeypatch.setenv(addresses.VARIABLE, "{}")  # as in another process
    assert main(["fit", "--resume", "run", "--epochs", "2"]) == 2
    assert "kept nowhere. Give the whole address again, with --train-urls" in capsys.readouterr().err
    assert main(["fit", "--resume", "run", "--epochs", "2", "--train-urls", f"{plain}?X-Amz-Signature=ano7her"]) == 0
    assert len(RunDir("run").epoch_metrics.read_text().splitlines()) == 2


def test_from_a_folder_to_a_bucket_and_what_is_missing(
    bucket: S3Server, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bucket.folder / "new").mkdir(exist_ok=True)
    write_photos(in_tmp)
    sent = ["--cloud-url", "s3://photos/again/here", "--json"]

    def uploaded(*words: str) -> dict[str, int]:
        assert main(["prepare", *words, "-o", "shards", *sent]) == 0
        found: dict[str, int] = json.loads(capsys.readouterr().out)["result"]["uploaded"]
        return found

    first = uploaded("--data-root", str(in_tmp), "--shard-size", "10")
    assert (first["num_sent"], first["num_shards"]) == (5, 5)
    assert uploaded("--upload-only")["num_sent"] == 0
    assert main(["verify", "s3://photos/again/here/"]) == 0
    assert main(["doctor", "s3://photos/again/here"]) == 0
    assert "6 files" in capsys.readouterr().out
    assert main(["prepare", "s3://photos/", "-o", "other", *sent]) == 2
    assert "holds another index" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "127.0.0.1:1"),
        ("AWS_PROFILE", "nobody", "nobody"),
    ],
)
def test_doctor_says_what_is_wrong(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["doctor", "s3://photos"]) == 2
    assert said in capsys.readouterr().err
