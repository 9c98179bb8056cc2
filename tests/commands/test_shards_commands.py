"""`litscope prepare` and `verify`: from a folder to shards to a run, and from a run to shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from flips import flip
from PIL import Image

from litscope.cli import main
from litscope.data.shards.index import Index
from litscope.rundir import RunDir


@pytest.fixture
def photos(in_tmp: Path) -> Path:
    """24 images of two classes, one of each broken."""
    rng = np.random.default_rng(0)
    for number in range(24):
        path = Path(f"photos/{('left', 'right')[number % 2]}/{number:02d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (16, 16, 3), np.uint8)
        pixels[:, 8 * (number % 2) : 8 * (number % 2) + 8] += 180
        Image.fromarray(pixels).save(path)
    Path("photos/left/00.png").write_bytes(b"no image")
    return Path("photos")


def result(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)["result"]
    return found


@pytest.mark.usefixtures("photos")
def test_a_folder_becomes_shards_that_train_and_predict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "photos", "--output-dir", "shards", "--shard-size", "10", "--val-split", "0.25"]) == 0
    said = capsys.readouterr().err
    assert "left out: left/00.png" in said
    assert "23 samples in 3 shards" in said
    assert said.endswith("next: litscope fit shards\n")
    again = result(capsys, "prepare", "photos", "-o", "shards", "--shard-size", "10", "--val-split", "0.25")
    assert (again["is_new"], again["splits"]) == (False, {"train": 17, "val": 6})
    fit = ["fit", "shards", "--epochs", "2", "--arch", "convnet", "--run-dir", "run", "--no-progress"]
    assert main(fit) == 0
    manifest = RunDir("run").path / "manifest.parquet"
    assert manifest.exists()
    assert result(capsys, "evaluate", "run", "--split", "val")["num_samples"] == 6
    assert len(result(capsys, "predict", "run", "shards")["predictions"]) == 23  # type: ignore[arg-type]
    assert main(["worst", "run", "-n", "3", "--sheet", "worst.png"]) == 0
    assert Path("worst.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.usefixtures("photos")
def test_the_curated_data_of_a_run_become_shards(capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", "photos", "--epochs", "1", "--arch", "convnet", "--run-dir", "run", "--no-progress"]
    assert main(fit) == 0
    assert main(["relabel", "run", "--key", "left/02.png", "--to", "right"]) == 0
    assert main(["discard", "run", "--key", "left/00.png", "left/04.png"]) == 0
    found = result(capsys, "prepare", "run", "-o", "curated")
    assert found["num_samples"] == 22
    index = Index.read(Path("curated/index.parquet"))
    label = dict(zip(index.table["key"].to_pylist(), index.table["label"].to_pylist(), strict=True))
    assert "left/04.png" not in label
    assert index.classes[label["left/02.png"]] == "right"
    capsys.readouterr()
    assert main(["export", "run", "--to", "folder", "--output", "folder", "--copy"]) == 0
    Path("photos").rename("gone")
    assert main(["export", "run", "--to", "folder", "--output", "from_shards", "--dataset", "curated"]) == 0
    files = {file.relative_to("folder"): file.read_bytes() for file in Path("folder").rglob("*.png")}
    assert files == {file.relative_to("from_shards"): file.read_bytes() for file in Path("from_shards").rglob("*.png")}


@pytest.mark.usefixtures("photos")
def test_verify_names_what_is_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "photos", "-o", "shards"]) == 0
    assert result(capsys, "verify", "shards")["is_whole"] is True
    flip(Path("shards/val-0000.tar"), 8 * 600)
    assert list(result(capsys, "verify", "shards", code=1)["shards"]) == ["val-0000.tar"]  # type: ignore[call-overload]
    assert main(["verify", "photos"]) == 2
    assert "holds no index of shards" in capsys.readouterr().err
    assert main(["verify", "nowhere"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos", "--keep-bytes", "--image-size", "8"], "give one of them"),
        (["photos", "--quality", "90"], "Give --image-size too"),
        (["photos", "--image-size", "8", "--quality", "101"], "from 1 to 100"),
        (["photos", "--shard-bytes", "many"], "such as 5000000, 256M or 1.5G"),
        (["photos", "--shard-size", "0"], "--shard-size 0"),
        (["photos", "--dataset", "x"], "is for a run"),
        (["iris"], "is a table"),
        (["nowhere"], "neither a file or folder"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *words, "--output-dir", "shards"]) == 2
    assert said in capsys.readouterr().err
    assert not Path("shards").exists()
