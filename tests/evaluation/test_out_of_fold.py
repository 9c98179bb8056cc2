"""The file of out-of-fold predictions, and the suspects that it names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cleanlab.rank import get_label_quality_scores
from PIL import Image
from sklearn.metrics import log_loss

from litscope.cli import main
from litscope.data.sources.source import open_source
from litscope.errors import RunError
from litscope.evaluation.out_of_fold import OutOfFold, calibration, out_of_fold, read_out_of_fold, write_out_of_fold

CLASSES = ("max", "cat, tabby", "Käfer")


def save_table(folder: Path, with_groups: bool) -> Path:
    """A table of thirty rows in ten groups, some rows without one."""
    file = folder / "t.csv"
    group = [f"g{i // 3}" if i % 7 else "" for i in range(30)]
    rows = [f'{i},"{CLASSES[i % 3]}"' + (f",{group[i]}" if with_groups else "") for i in range(30)]
    file.write_text("x,label" + (",patient" if with_groups else "") + "\n" + "\n".join(rows) + "\n")
    return file


def written(folder: Path, with_groups: bool = False) -> OutOfFold:
    source = open_source(
        save_table(folder, with_groups), group_column="patient" if with_groups else None, val_split=0.0
    )
    random = np.random.default_rng(0)
    fold = np.arange(30, dtype=np.int64) % 4
    fold[5] = -1  # nobody predicts it
    probs = random.dirichlet(np.ones(3), 30).astype(np.float32)
    found = out_of_fold(source, source.manifest.classes, fold, probs)
    write_out_of_fold(found, source, folder)
    return found


@pytest.mark.parametrize("with_groups", [False, True])
def test_what_is_written_is_read(with_groups: bool, tmp_path: Path) -> None:
    found, again = written(tmp_path, with_groups), read_out_of_fold(tmp_path)
    assert again.classes == found.classes
    assert sorted(again.classes) == sorted(CLASSES)
    assert len(again.sample_id) == 29
    assert 5 not in again.sample_id
    for name in ("sample_id", "keys", "fold", "label", "probs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    columns = pq.read_table(tmp_path / "out-of-fold.parquet").column_names
    assert columns[:3] == ["sample_id", "key", "fold"]
    assert ("group" in columns) == with_groups
    if with_groups:
        assert again.groups is not None
        assert again.groups.tolist()[:5] == [None, "g0", "g0", "g1", "g1"]
        units = again.answers().groups
        assert units is not None
        assert len(set(units)) == len({name or i for i, name in enumerate(again.groups)})


def test_a_temperature_is_judged_on_folds_that_it_was_not_fitted_on(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    label = random.integers(0, 3, 3000)
    logits = 1.5 * np.eye(3)[label] + random.normal(0, 1, (3000, 3))
    sure = np.exp(3 * logits)
    probs = (sure / sure.sum(1, keepdims=True)).astype(np.float32)
    ids = np.arange(3000)
    found = OutOfFold(ids, ids.astype(str).astype(object), ids % 5, label, probs, CLASSES)
    worth = calibration(found)
    exact = probs.astype(np.float64)
    assert worth["before"]["nll"] == pytest.approx(log_loss(label, exact / exact.sum(1, keepdims=True)))
    assert worth["temperature"] > 1.5
    assert worth["after"]["nll"] < worth["before"]["nll"]
    assert worth["after"]["ece"] < 0.03 < worth["before"]["ece"]


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no `litscope cv` was completed there"):
        read_out_of_fold(tmp_path)
    written(tmp_path)
    file = tmp_path / "out-of-fold.parquet"
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata(None), file)
    with pytest.raises(RunError, match="an earlier version wrote it"):
        read_out_of_fold(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RunError, match="cannot be read"):
        read_out_of_fold(tmp_path)


def test_labels_are_ranked_as_cleanlab_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = written(tmp_path)
    assert main(["suspects", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["result"]
    rows = told["suspects"]
    assert [row["rank"] for row in rows] == list(range(1, 30))
    score = get_label_quality_scores(found.label, found.probs.astype(np.float64), method="normalized_margin")
    assert [row["sample_id"] for row in rows] == found.sample_id[np.lexsort((found.sample_id, score))].tolist()
    assert (rows[0]["suspicion"], rows[-1]["suspicion"]) == (1.0, 0.0)
    for row in rows:
        at = found.sample_id.tolist().index(row["sample_id"])
        assert row["fold"] == found.fold[at]
        assert row["p_label"] == pytest.approx(found.probs[at, found.label[at]])
        assert row["believed_label"] == found.probs[at].argmax()
        assert row["label_name"] == found.classes[row["label"]]
    assert told["num_doubted"] == sum(row["is_doubted"] for row in rows) > 0
    assert main(["suspects", str(tmp_path), "-n", "4"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6
    assert "... and 25 less suspicious" in out
    assert "by confident learning" in err


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--validate"], "--validate is not for"),
        (["--split", "val"], "--split is not for"),
        (["--arch", "resnet18"], "--arch is for a data set"),
        (["--sheet", "s.png"], "has no images to draw"),
        (["-n", "0"], "-n 0"),
    ],
)
def test_what_has_no_place_there(flags: list[str], word: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(in_tmp)
    (in_tmp / "cv.yaml").write_text("data: {dataset: t.csv}\n")
    assert main(["suspects", str(in_tmp), *flags]) == 2
    assert word in capsys.readouterr().err


@pytest.mark.pictures
def test_suspects_among_images_are_drawn_from_the_data_of_the_recipe(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, colour in (("dark", 0), ("light", 255)):
        (in_tmp / "pics" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (8, 8), colour).save(in_tmp / "pics" / name / f"{i}.png")
    source = open_source("pics", val_split=0.0)
    probs = np.tile(np.array([[0.9, 0.1]], np.float32), (8, 1))
    folder = in_tmp / "runs" / "cv-1"
    folder.mkdir(parents=True)
    write_out_of_fold(out_of_fold(source, source.manifest.classes, np.arange(8) % 2, probs), source, folder)
    (folder / "cv.yaml").write_text("data: {dataset: pics, num_folds: 2, fold: 0}\n")
    assert main(["suspects", "cv-1", "--sheet", "sheet.png", "--csv", "all.csv"]) == 0
    assert "contact sheet: sheet.png" in capsys.readouterr().err
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 100
    assert (in_tmp / "all.csv").read_text().splitlines()[1].startswith("1,4,light/0.png,0,1,light,0,dark,1")
