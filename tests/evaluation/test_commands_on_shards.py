"""What is asked of a run whose images lie in shards: those of `litscope prepare`, and those of others."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from foreign_tars import image, write
from noise_shards import write_noise
from s3_server import ACCESS, S3Server
from small_runs import small_fit

from litscope.cli import main


def prepared(folder: Path) -> Path:
    return write_noise(folder / "shards", 24, 8, most_samples=16)


def of_others(folder: Path) -> Path:
    """Without an index, so nobody has read the bytes of their images."""
    (folder / "tars").mkdir()
    for split, count in (("train", 24), ("val", 8)):
        members = [(f"{i}.{suffix}", content) for i in range(count)
                   for suffix, content in (("jpg", image(i)), ("cls", str(i % 2).encode()))]  # fmt: skip
        write(folder / "tars" / f"{split}-0000.tar", members)
    return folder / "tars"


@pytest.mark.slow
@pytest.mark.parametrize("make", [prepared, of_others])
def test_features_and_a_model_for_elsewhere(make: object, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands that compute features ended with a KeyError."""
    data = make(in_tmp)  # type: ignore[operator]
    small_fit(in_tmp / "run", {"dataset": str(data), "arch": "convnet", "epochs": 1, "accelerator": "cpu"})
    assert main(["features", "run", "-o", "features.parquet"]) == 0
    assert pq.read_table("features.parquet").num_rows == 32
    capsys.readouterr()
    assert main(["neighbours", "run"]) == 0
    assert main(["export", "run", "--to", "onnx", "-o", "model.onnx"]) == 0
    assert "checked on" in capsys.readouterr().err
    assert Path("model.onnx").stat().st_size > 1000


@pytest.mark.slow
def test_new_data_are_asked_of_the_server_of_the_run(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fit --endpoint-url` is written down; `predict` went to Amazon all the same."""
    write_noise(in_tmp / "buckets/mine/noise", 24, 8, most_samples=16)
    for name, value in {**ACCESS, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    server = S3Server(in_tmp / "buckets")
    try:
        given = {"dataset": "s3://mine/noise/", "endpoint_url": server.url, "arch": "convnet", "epochs": 1}
        small_fit(in_tmp / "run", given, accelerator="cpu")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        assert main(["predict", "run", "s3://mine/noise/", "-o", "predictions.csv"]) == 0
    finally:
        server.kill()
    assert len(Path("predictions.csv").read_text().splitlines()) == 33
