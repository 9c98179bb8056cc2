"""The ranking of labels by a linear head on features; `litscope suspects` of images on which nobody has trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.csv as csv
import pytest
from PIL import Image
from small_bodies import ARCH, save_sides, save_weights

from litscope.cli import main
from litscope.features.label_errors import find_label_errors


def clouds(each: int, num_classes: int = 4, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, F) float16 around a centre for each class, and the classes (n,)."""
    draw = np.random.default_rng(5)
    centres = draw.normal(0, 1, (num_classes, size))
    label = np.repeat(np.arange(num_classes), each)
    return (centres[label] + draw.normal(0, 0.5, (len(label), size)) + 3).astype(np.float16), label


def test_planted_labels_stand_first_with_the_class_that_they_had() -> None:
    rows, right = clouds(60)
    label = right.copy()
    wrong = np.arange(0, 240, 20)
    label[wrong] = (right[wrong] + 1) % 4
    ids = np.arange(240)
    found = find_label_errors(rows, ids, label, 4)
    assert set(np.argsort(-found.suspicion)[:12]) == set(wrong)
    assert np.array_equal(found.believed_label[wrong], right[wrong])
    assert found.suspicion.max() == 1
    assert found.suspicion.min() == 0
    assert found.p_label[wrong].max() < found.p_label[np.setdiff1d(ids, wrong)].min()
    assert found.aum[wrong].max() < 0


def test_only_the_rows_that_are_asked_for_count() -> None:
    rows, right = clouds(20)
    ids = np.arange(80)[::-1].copy()
    label = right[ids]
    label[0] = (label[0] + 1) % 4
    there = find_label_errors(rows, ids, label, 4)
    among = np.full((200, rows.shape[1]), np.nan, np.float16)
    among[ids + 100] = rows[ids]
    again = find_label_errors(among, ids + 100, label, 4)
    for one, two in zip(there, again, strict=True):
        assert np.array_equal(one, two)
    assert there.suspicion[0] == 1


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images in two classes (`sides`), of which left/00.png belongs to the other one, and weights."""
    root = tmp_path_factory.mktemp("home")
    save_weights(root / "seven.pt")
    save_sides(root / "sides", each=20)
    (root / "sides" / "right" / "00.png").rename(root / "sides" / "left" / "wrong.png")
    return root


FLAGS = ["--arch", ARCH, "--weights", "seven.pt", "--image-size", "64", "--accelerator", "cpu"]


def test_a_folder_that_nobody_trained_on_is_ranked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    sheet, table = tmp_path / "sheet.png", tmp_path / "ranking.csv"
    assert main(["suspects", "sides", *FLAGS, "-n", "3", "--sheet", str(sheet)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split()[:4] == ["1", "left/wrong.png", "left", "right"]
    assert "... and 37 less suspicious" in said.out
    assert "next: litscope fit sides" in said.err
    with Image.open(sheet) as drawn:
        assert drawn.width > 400
    assert main(["suspects", "sides", *FLAGS, "--json", "--csv", str(table)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["run"] is None
    rows = document["result"]["suspects"]
    assert len(rows) == 40
    assert rows[0].items() >= {"key": "left/wrong.png", "believed_name": "right", "suspicion": 1.0}.items()
    assert csv.read_csv(table)["key"].to_pylist() == [row["key"] for row in rows]
    assert not (home / "runs").exists()


def test_a_split_of_the_ranking(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    words = ["suspects", "sides", *FLAGS, "--json"]
    assert main([*words, "--split", "test", "--test-split", "0.25"]) == 0
    rows = json.loads(capsys.readouterr().out)["result"]["suspects"]
    assert [row["rank"] for row in rows] == list(range(1, 11))
    assert {row["split"] for row in rows} == {"test"}
    assert main([*words, "--split", "val"]) == 2
    said = capsys.readouterr().err
    assert "--split val: sides has no labelled image there; it has train." in said
    assert "features:" not in said, "none are computed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sides", "--validate"], "--validate is for a run, and sides is a data set"),
        (["sides", "--all"], "--all is for a run"),
        (["sides", "--lr", "1"], "unrecognized arguments: --lr"),
        (["made", "--arch", "x"], "--arch is for a data set"),
    ],
)
def test_flags_of_the_other_kind_are_refused(
    home: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    (home / "made").mkdir(exist_ok=True)
    (home / "made" / "recipe.yaml").touch()
    assert main(["suspects", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_name_of_a_run_and_of_data_is_the_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sides").symlink_to(home / "sides")
    (tmp_path / "runs" / "sides").mkdir(parents=True)
    (tmp_path / "runs" / "sides" / "recipe.yaml").touch()
    assert main(["suspects", "sides"]) == 2
    assert "sides is taken as the run runs/sides; for the data that lie here, write ./sides" in capsys.readouterr().err
    assert main(["suspects", "./sides", *FLAGS[:2], "--weights", str(home / "seven.pt"), "-n", "1"]) == 0
    assert "left/wrong.png" in capsys.readouterr().out
