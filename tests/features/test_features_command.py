"""`litscope features`: the table of what a network makes of images, by a run's network or one that others trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import timm
import torch
from small_bodies import ARCH, save_sides, save_weights

from litscope.cli import main
from litscope.data.sources.source import open_source
from litscope.training.fit import fit

SMALL = ["--arch", ARCH, "--image-size", "64", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images (`sides`), weights (`seven.pt`), and a run that trained its head on them (`run`)."""
    root = tmp_path_factory.mktemp("home")
    save_weights(root / "seven.pt")
    save_sides(root / "sides")
    fit(
        root / "sides",
        arch=ARCH,
        weights=root / "seven.pt",
        image_size=64,
        epochs=1,
        val_split=0.25,
        finetune="head",
        accelerator="cpu",
        logger=["none"],
        progress=False,
        run_dir=root / "run",
    )
    return root


def of_source(home: Path, output: Path, *more: str) -> pa.Table:
    words = ["features", str(home / "sides"), "-o", str(output), "--weights", str(home / "seven.pt"), *SMALL, *more]
    assert main(words) == 0
    return pq.read_table(output) if output.suffix == ".parquet" else csv.read_csv(output)


def values(table: pa.Table) -> np.ndarray:
    return np.column_stack([table[name].to_numpy() for name in table.column_names if name[1:].isdigit()])


@pytest.mark.slow
def test_a_source_and_the_run_that_trained_its_head_have_the_same_features(home: Path, tmp_path: Path) -> None:
    plain = of_source(home, tmp_path / "plain.parquet", "--val-split", "0.25")
    assert main(["features", str(home / "run"), "-o", str(tmp_path / "run.parquet")]) == 0
    assert pq.read_table(tmp_path / "run.parquet").equals(plain), "the body is the same: the head alone was trained"
    assert plain.column_names[:4] == ["key", "label", "split", "f0"]
    assert plain["key"].to_pylist()[:2] == ["left/00.png", "left/01.png"]
    assert plain["label"].to_pylist() == ["left"] * 12 + ["right"] * 12
    assert plain["split"].to_pylist().count("val") == 6
    assert values(plain).std(0).max() > 0, "images differ"


@pytest.mark.slow
def test_features_of_another_network_with_the_same_weights_are_others(tmp_path: Path) -> None:
    """The two pad otherwise, and their weights have the same names and shapes."""
    save_sides(tmp_path / "sides", each=2)
    torch.save(timm.create_model("mixnet_s").state_dict(), tmp_path / "w.pt")
    made = []
    for arch in ("mixnet_s", "tf_mixnet_s"):
        words = ["--weights", str(tmp_path / "w.pt"), "--arch", arch, "--image-size", "32", "--accelerator", "cpu"]
        assert main(["features", str(tmp_path / "sides"), "-o", str(tmp_path / f"{arch}.parquet"), *words]) == 0
        made.append(values(pq.read_table(tmp_path / f"{arch}.parquet")))
    assert not np.allclose(*made, rtol=0.01)


@pytest.mark.slow
def test_the_table_trains_with_the_names_and_splits_of_the_images(home: Path, tmp_path: Path) -> None:
    table = of_source(home, tmp_path / "plain.csv", "--test-split", "0.25")
    source = open_source(tmp_path / "plain.csv", val_split=0.0)
    assert source.kind == "table"
    assert source.manifest.keys.tolist() == table["key"].to_pylist()
    assert [split or "" for split in source.manifest.splits] == table["split"].to_pylist()
    assert source.reader.array is not None
    np.testing.assert_allclose(source.reader.array, values(table), rtol=1e-6)


def test_images_that_cannot_be_read_and_discarded_ones_are_left_out(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "sides", tmp_path / "sides")
    (tmp_path / "sides" / "left" / "00.png").write_bytes(b"no image")
    table = of_source(tmp_path, tmp_path / "some.parquet", "--weights", str(home / "seven.pt"))
    assert "left/00.png" not in table["key"].to_pylist()
    assert table.num_rows == 23
    assert "1 image is left out" in capsys.readouterr().err
    shutil.copytree(home / "run", tmp_path / "run")
    assert main(["discard", str(tmp_path / "run"), "--key", "right/03.png"]) == 0
    assert main(["relabel", str(tmp_path / "run"), "--to", "left", "--key", "right/04.png"]) == 0
    assert main(["features", str(tmp_path / "run"), "-o", str(tmp_path / "run.parquet")]) == 0
    found = pq.read_table(tmp_path / "run.parquet")
    label = dict(zip(found["key"].to_pylist(), found["label"].to_pylist(), strict=True))
    assert "right/03.png" not in label
    assert (label["right/04.png"], label["right/05.png"]) == ("left", "right")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sides", "-o", "f.txt"], "must end in .parquet or .csv"),
        (["sides", "-o", "f.csv", "--checkpoint", "last"], "--checkpoint is for a run"),
        (["run", "-o", "f.csv", "--weights", "seven.pt"], "--weights is for a data set"),
        (["iris", "-o", "f.csv"], "iris is a table"),
        (["nowhere", "-o", "f.csv"], "nowhere does not exist. Nor is it a data set"),
        (["sides", "-o", "f.csv", "--image-size", "big"], "--image-size: 'big' is not a whole number"),
    ],
)
def test_what_it_cannot_do_is_said(
    home: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert main(["features", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (home / words[2]).exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/x", "a.png", "-n", "11"], "-n 11: it is from 1 to 10"),
        (["runs/x", "a.png", "-n", "0"], "-n 0: it is from 1 to 10"),
        (["runs/x", "-n", "3"], "-n is about the neighbours of one sample. Give its KEY"),
        (["runs/x", "--sheet", "sheet.png"], "--sheet is about the neighbours of one sample. Give its KEY"),
    ],
)
def test_no_flag_of_neighbours_is_ignored(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["neighbours", *words]) == 2
    assert message in capsys.readouterr().err
