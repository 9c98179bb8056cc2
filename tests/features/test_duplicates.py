"""Neighbours and near-duplicates: found among all pairs, told in check, in the summary and beside the scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from small_bodies import ARCH, save_weights

from litscope.cli import main
from litscope.data.manifest import build_manifest
from litscope.errors import DataError
from litscope.features.duplicates import near_duplicates
from litscope.features.neighbours import Neighbours, find_neighbours
from litscope.training.fit import fit

DRAW = np.random.default_rng(3)


def test_neighbours_are_the_nearest_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litscope.features.neighbours._BLOCK", 7)
    rows = DRAW.normal(1, 1, (60, 8)).astype(np.float16)
    ids = np.setdiff1d(np.arange(60), [3, 50])
    found = find_neighbours(rows, ids)
    unit = rows[ids].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    np.fill_diagonal(distance, 9)
    order = np.argsort(distance, axis=1)[:, :10]
    assert np.array_equal(found.nearest, ids[order])
    np.testing.assert_allclose(found.distances, np.take_along_axis(distance, order, 1), atol=1e-6)


def test_agreement_counts_labelled_neighbours() -> None:
    ids = np.array([0, 2, 3])
    found = Neighbours(ids, np.array([[2, 3], [0, 3], [0, 2]]), np.zeros((3, 2), np.float32))
    assert found.agreement(np.array([0, 9, 0, 1])).tolist() == [0.5, 0.5, 0.0]
    one, two, three = found.agreement(np.array([0, 9, 0, -1]))
    assert (one, two) == (1.0, 1.0)
    assert np.isnan(three)


def test_too_many_or_too_few_images_are_refused() -> None:
    for count in (1, 100_001):
        with pytest.raises(DataError, match=f"2 to 100,000 images, and there are {count:,}"):
            find_neighbours(np.zeros((count, 1), np.float16), np.arange(count))


def picture(seed: int) -> np.ndarray:
    """(64, 64, 3) uint8: smooth patches, as photographs have."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))


def test_features_propose_and_pixels_decide() -> None:
    one = Image.fromarray(picture(1))
    images: list[Any] = [
        np.asarray(one),
        np.asarray(ImageOps.mirror(one)),
        np.asarray(one.resize((48, 48))),
        picture(2),
        None,
        np.full((64, 64, 3), 7, np.uint8),
        np.full((64, 64, 3), 9, np.uint8),
    ]

    def read(sample_id: int) -> np.ndarray:
        if images[sample_id] is None:
            raise DataError("gone")
        return np.asarray(images[sample_id])

    manifest = build_manifest(
        list("abcdefg"), np.array([0, 1, 0, 0, 0, 1, 1]), ["x", "y"], splits=["train", "val", "train", *["test"] * 4]
    )
    near, far = np.ones(4), np.array([1.0, -1, 1, -1])
    found = find_neighbours(np.stack([near] * 7).astype(np.float16), np.arange(7))
    pairs = near_duplicates(found, manifest, read)
    assert {pair[:2] for pair in pairs.pairs} == {(0, 1), (0, 2), (1, 2), (5, 6)}
    assert {pair[:2] for pair in pairs.across_splits} == {(0, 1), (1, 2)}
    assert {pair[:2] for pair in pairs.conflicts} == {(0, 1), (1, 2)}
    assert pairs.leaked("val").tolist() == [1]
    assert pairs.leaked("test").tolist() == []
    assert "near-duplicates in more than one split: 2 pairs" in pairs.lines()
    assert "  a (train, x) ~ b (val, y), distance 0.00" in pairs.lines()
    apart = find_neighbours(np.stack([near, far, near, far, near, far, near]).astype(np.float16), np.arange(7))
    assert {pair[:2] for pair in near_duplicates(apart, manifest, read).pairs} == {(0, 2)}, (
        "as far in features as can be"
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in train/ and val/, of which val/left/copy.png is train/left/00.png encoded anew, and a run on them."""
    root = tmp_path_factory.mktemp("home")
    save_weights(root / "seven.pt")
    for split, each in (("train", 12), ("val", 4)):
        for label in ("left", "right"):
            folder = root / "sides" / split / label
            folder.mkdir(parents=True)
            for i in range(each):
                Image.fromarray(picture(1_000 * (split == "val") + 100 * (label == "left") + i)).save(
                    folder / f"{i:02d}.png"
                )
    with Image.open(root / "sides" / "train" / "left" / "00.png") as image:
        image.save(root / "sides" / "val" / "left" / "copy.jpg", quality=95)
    (root / "sides" / "val" / "left" / "00.png").unlink()
    fit(
        root / "sides",
        arch=ARCH,
        weights=root / "seven.pt",
        image_size=64,
        epochs=2,
        finetune="head",
        accelerator="cpu",
        logger=["none"],
        progress=False,
        run_dir=root / "run",
    )
    return root


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["result"]


def test_the_summary_of_a_run_on_features_has_the_metrics_without_what_leaks(home: Path) -> None:
    summary = json.loads((home / "run" / "summary.json").read_text())
    found = summary["near_duplicates"]
    keys = [sorted(sample["key"] for sample in pair["samples"]) for pair in found["across_splits"]]
    assert keys == [["train/left/00.png", "val/left/copy.jpg"]]
    assert found["num_leaked"] == {"val": 1, "test": 0}
    without = found["without"]
    assert (without["split"], without["num_left_out"], without["num_samples"]) == ("val", 1, 7)
    table = main_rows(home / "run")
    kept = [row for row in table if not row["key"].endswith("copy.jpg")]
    assert len(kept) == 7
    assert without["metrics"]["val/loss"] == pytest.approx(np.mean([row["loss"] for row in kept]), abs=1e-4)
    assert without["metrics"]["val/accuracy"] == np.mean([row["label"] == row["pred"] for row in kept])


def main_rows(run: Path) -> list[dict[str, Any]]:
    """What the ledger has of the validation samples in the best epoch."""
    from litscope.ledger.views import sql
    from litscope.rundir import RunDir

    best = json.loads((run / "summary.json").read_text())["best_epoch"]
    query = (
        f"SELECT m.key, s.* FROM signals s JOIN manifest m USING (sample_id) WHERE s.split = 'val' AND epoch = {best}"
    )
    return [dict(row) for row in sql(RunDir(run), query).to_pylist()]


def test_the_closing_lines_tell_of_it(home: Path) -> None:
    from litscope.training.summary import closing_lines

    lines = closing_lines(json.loads((home / "run" / "summary.json").read_text()))
    assert any(
        line.startswith("near-duplicates in more than one split: 1 pair (train/left/00.png ~ ") for line in lines
    )
    assert any(line.startswith("without the 1 sample of val that training has a near-duplicate of: ") for line in lines)


@pytest.mark.slow
def test_check_looks_for_them_when_asked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", str(home / "sides"), "--arch", ARCH, "--weights", str(home / "seven.pt"), "--image-size", "64"]
    words += ["--accelerator", "cpu", "--cutmix", "1.0", "--finetune", "full"]
    assert answer(capsys, *words)["near_duplicates"] is None
    found = answer(capsys, *words, "--features")["near_duplicates"]
    assert found["num_across_splits"] == 1
    assert main([*words, "--features"]) == 0
    assert "train/left/00.png (train, left) ~ val/left/copy.jpg (val, left)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_neighbours_of_a_sample(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(shutil.copytree(home / "run", tmp_path / "run"))
    found = answer(capsys, "neighbours", run, "copy.jpg", "-n", "3")
    assert found["key"] == "val/left/copy.jpg"
    assert [row["rank"] for row in found["neighbours"]] == [1, 2, 3]
    assert found["neighbours"][0]["key"] == "train/left/00.png"
    assert found["neighbours"][0]["distance"] == found["neighbour_distance"]
    (tmp_path / "run" / "neighbours.parquet").unlink()
    sheet = tmp_path / "sheet.png"
    assert main(["neighbours", run, "copy.jpg", "--sheet", str(sheet)]) == 0
    said = capsys.readouterr()
    assert "train/left/00.png" in said.out.splitlines()[1]
    assert "of its neighbours have its label" in said.err
    assert sheet.exists()
    again = answer(capsys, "neighbours", run, "copy.jpg", "-n", "3")
    assert again["neighbours"] == found["neighbours"], "by the run's own network, whose body did not change"
    assert answer(capsys, "neighbours", run)["num_across_splits"] == 1


@pytest.mark.slow
def test_two_numbers_stand_beside_the_scores(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(shutil.copytree(home / "run", tmp_path / "run"))
    rows = answer(capsys, "scores", run, "--sort", "neighbour_distance")
    assert {rows[0]["key"], rows[1]["key"]} == {"train/left/00.png", "val/left/copy.jpg"}
    assert all(0 <= row["neighbour_agreement"] <= 1 for row in rows)
    worst = answer(capsys, "worst", run, "--by", "neighbour_distance", "--split", "val", "-n", "8", "--no-sheet")
    assert worst["samples"][-1]["key"] == "val/left/copy.jpg"
    values = [row["mean"] for row in worst["samples"]]
    assert values == sorted(values, reverse=True)
    least = answer(capsys, "worst", run, "--by", "neighbour_agreement", "-n", "2", "--no-sheet")["samples"]
    in_split = [row["neighbour_agreement"] for row in rows if row["split"] == "train"]
    assert least[0]["mean"] == pytest.approx(min(in_split))
    (tmp_path / "run" / "neighbours.parquet").unlink()
    assert main(["worst", run, "--by", "neighbour_distance"]) == 2
    assert "has no neighbours yet. To look for them: litscope neighbours" in capsys.readouterr().err
    assert main(["scores", run, "--sort", "neighbour_distance"]) == 2
    assert "neighbour_distance" not in answer(capsys, "scores", run)[0]


def test_damaged_neighbours_are_told(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(home / "run", tmp_path / "run")
    file = run / "neighbours.parquet"
    content = bytearray(file.read_bytes())
    content[40] ^= 8
    file.write_bytes(content)
    assert main(["neighbours", str(run), "copy.jpg"]) == 2
    assert "neighbours.parquet is damaged" in capsys.readouterr().err
