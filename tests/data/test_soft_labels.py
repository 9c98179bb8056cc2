"""Soft labels: grades of a list or a table become what training aims at, and nothing else."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pyarrow.csv as csv
import pytest
import torch
from small_runs import IRIS, At, assert_bit_equal, last, rows, send, small_fit

from litscope.data.datamodule import ClassificationData
from litscope.data.mixing import mix_batch
from litscope.data.overlay import Overlay
from litscope.data.sources.source import Source, open_source
from litscope.errors import ConfigError, DataError, Interrupted, RunError

ROWS = ("0.1,0,0", "0.2,1,3", "0.3,0,1", "0.4,1,2", "0.5,0,", "0.6,1,1", "0.7,0,0", "0.8,1,3")
"""A feature, a label, a grade from 0 to 3."""


def table(folder: Path, lines: tuple[str, ...] = ROWS, header: str = "x,label,grade") -> Path:
    path = folder / "rows.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def opened(path: Path, *columns: str, **flags: object) -> Source:
    return open_source(path, soft_label_column=columns, val_split=0.0, **flags)  # type: ignore[arg-type]


@pytest.mark.flag("soft_label_column", "soft_label_max")
def test_a_grade_over_the_largest_is_the_share_of_the_positive_class(tmp_path: Path) -> None:
    source = opened(table(tmp_path), "grade")
    expected = np.array([0, 3, 1, 2, np.nan, 1, 0, 3]) / 3
    assert source.soft_labels is not None
    np.testing.assert_allclose(source.soft_labels, np.stack([1 - expected, expected], 1), rtol=1e-6)
    assert source.manifest.labels.tolist() == [0, 1] * 4, "the label column stays the hard label"
    assert source.encoding["feature_names"] == ["x"], "a grade is no feature"
    assert source.manifest.table["soft_label"].null_count == 1
    notes = " ".join(source.notes)
    assert "'grade' / 3, of 7 rows; 1 rows have none" in notes
    assert "1 of 7 labels are not the class of the largest share" in notes
    half = opened(table(tmp_path), "grade", soft_label_max=6.0)
    assert half.soft_labels is not None
    assert half.soft_labels[1, 1] == 0.5
    shares = opened(table(tmp_path, ("0,0,0.2", "1,1,0.9")), "grade")
    assert shares.soft_labels is not None
    assert shares.soft_labels[1, 1] == np.float32(0.9), "nothing above 1: they are shares"


def test_grades_are_written_as_the_features_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("x;label;grade\n0,5;0;0,3\n1,5;1;3,0\n2,5;0;\n3,5;1;2,7\n")
    source = opened(path, "grade")
    assert source.soft_labels is not None
    np.testing.assert_allclose(source.soft_labels[:, 1], np.array([0.3, 3, np.nan, 2.7]) / 3, rtol=1e-6)


@pytest.mark.parametrize("target", [None, "none"])
def test_without_a_label_column_half_decides(tmp_path: Path, target: str | None) -> None:
    header = "x,label,grade" if target else "x,y,grade"
    source = opened(table(tmp_path, header=header), "grade", target=target)
    assert source.manifest.classes == ("not grade", "grade")
    assert source.manifest.labels.tolist() == [0, 1, 0, 1, -1, 0, 0, 1]


def test_a_column_for_each_class(tmp_path: Path) -> None:
    lines = ("1,b,0,3,1", "2,a,2,0,2", "3,c,0,0,5", "4,a,0,0,0")
    path = table(tmp_path, lines, "x,label,c,b,a")
    source = opened(path, "a", "b", "c")
    assert source.soft_labels is not None
    expected = [[0.25, 0.75, 0], [0.5, 0, 0.5], [1, 0, 0], [np.nan] * 3]
    np.testing.assert_allclose(source.soft_labels, expected)
    alone = opened(path, "c", "b", "a", target="none")
    assert alone.manifest.classes == ("c", "b", "a")
    assert alone.manifest.labels.tolist() == [1, 0, 2, -1]


@pytest.mark.parametrize(
    ("lines", "columns", "flags", "error", "message"),
    [
        (("1,0,-1", "2,1,3"), ("grade",), {}, DataError, "'grade' is -1 in row 1 below the header"),
        (("1,0,x", "2,1,3"), ("grade",), {}, DataError, "is 'x' in row 1"),
        (("1,0,5", "2,1,3"), ("grade",), {"soft_label_max": 4}, DataError, "is 5 in row 1 .*above --soft-label-max 4"),
        (("1,0,", "2,1,"), ("grade",), {}, DataError, "holds no grade"),
        (("1,0,1", "2,1,3"), ("grad",), {}, ConfigError, "'grad' is no column of .*grade"),
        (("1,0,1", "2,1,3"), ("label",), {}, ConfigError, "is the label column"),
        (("1,0,1", "2,1,3", "3,2,1"), ("grade",), {}, ConfigError, "one column is for two classes, and these are 3"),
        (("1,0,1", "2,1,3"), ("grade", "x"), {}, ConfigError, "a column for each class"),
        (("1,0,1", "2,1,3"), ("grade", "x"), {"soft_label_max": 3}, ConfigError, "divided by its sum"),
        (("1,0,1", "2,1,1"), ("grade",), {"target": "none"}, DataError, "one class only, 'grade'"),
        (("1,0,inf", "2,1,3"), ("grade",), {}, DataError, "number|infinite"),
    ],
)
def test_what_is_no_grade_is_named(
    tmp_path: Path, lines: tuple[str, ...], columns: tuple[str, ...], flags: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        opened(table(tmp_path, lines), *columns, **flags)


def test_only_a_file_has_grades(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--soft-label-column 'grade' names a column of a CSV or Parquet file"):
        opened(Path("digits"), "grade")
    with pytest.raises(ConfigError, match="--soft-label-max 3"):
        small_fit(tmp_path / "run", IRIS, soft_label_max=3.0)


@pytest.mark.flag("positive_class")
def test_the_positive_class_is_the_second(tmp_path: Path) -> None:
    as_is, other = (opened(table(tmp_path), "grade", positive_class=name) for name in ("1", "0"))
    assert (as_is.manifest.classes, other.manifest.classes) == (("0", "1"), ("1", "0"))
    assert (as_is.manifest.labels == 1 - other.manifest.labels).all()
    assert as_is.soft_labels is not None
    np.testing.assert_array_equal(as_is.soft_labels, other.soft_labels)  # a grade is for the positive class
    with pytest.raises(ConfigError, match="'2' is none of '0', '1'"):
        opened(table(tmp_path), positive_class="2")
    with pytest.raises(ConfigError, match="it is one of two, and iris has 3 classes"):
        open_source("iris", positive_class="setosa")


def test_a_changed_label_is_certain() -> None:
    soft = np.array([[0.7, 0.3], [0.4, 0.6], [np.nan, np.nan]], np.float32)
    overlay = Overlay(np.array([0, 1, 1]), soft_labels=soft)
    ids = torch.tensor([[0, 1, 2]])
    torch.testing.assert_close(overlay.soft_of(ids), torch.tensor([[[0.7, 0.3], [0.4, 0.6], [0.0, 1.0]]]))
    overlay.set([], {0: 1}, {})
    torch.testing.assert_close(overlay.soft_of(ids), torch.tensor([[[0.0, 1.0], [0.4, 0.6], [0.0, 1.0]]]))
    assert Overlay(np.array([0, 1])).soft_of(ids) is None


def test_grades_are_blended_as_labels_are() -> None:
    soft = torch.tensor([[0.2, 0.8], [1.0, 0.0]])
    x = torch.tensor([[0.0], [1.0]])
    mixed, target = mix_batch(x, torch.tensor([1, 0]), 2, mixup=1.0, cutmix=0.0, key=(1, 2, 3), soft_label=soft)
    share = 1 - float(mixed[0])  # of the first sample in its own blend
    torch.testing.assert_close(target[0], share * soft[0] + (1 - share) * soft[1])


def graded_rows(folder: Path) -> Path:
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    grade = np.clip(np.round(2 * x + random.normal(size=200) + 1.5), 0, 3)
    return table(folder, tuple(f"{a:.4f},{int(g >= 2)},{g:.0f}" for a, g in zip(x, grade, strict=True)))


GRADED = {**IRIS, "soft_label_column": "grade", "batch_size": 32}


@pytest.mark.slow
def test_a_run_aims_at_its_grades_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    path = graded_rows(tmp_path)
    settings = {**GRADED, "dataset": str(path)}
    one, cut = tmp_path / "one", tmp_path / "cut"
    small_fit(one, settings)
    with pytest.raises(Interrupted):
        small_fit(cut, settings, callbacks=[At(9, send(signal.SIGTERM))])
    small_fit(cut, settings, resume=str(cut))
    assert_bit_equal(last(cut), last(one))
    table_ = rows(one, split="train", min_epoch=2)
    assert set(table_["label"].to_pylist()) == {0, 1}, "the ledger's label is the hard one"
    *others, final = path.read_text().splitlines()
    path.write_text("\n".join([*others, final[:-1] + ("3" if final[-1] == "0" else "0"), ""]))
    with pytest.raises(RunError, match="other soft labels"):
        small_fit(cut, settings, resume=str(cut), epochs=5)


@pytest.mark.slow
def test_probabilities_follow_the_grades(tmp_path: Path) -> None:
    """One feature value, labels all of class 1, grades of a third: the network says a third."""
    lines = tuple(f"{i % 2},{i % 2},{(i % 2)}" for i in range(300))  # g = 1 for x = 1, 0 for x = 0, over a maximum of 3
    path = table(tmp_path, lines)
    settings = {**GRADED, "dataset": str(path), "soft_label_max": 3.0, "epochs": 30, "lr": 0.02, "arch": "mlp"}
    small_fit(tmp_path / "run", {**settings, "soft_label_column": "grade", "label_smoothing": 0.0})
    table_ = rows(tmp_path / "run", split="train", min_epoch=29)
    is_one = np.array(table_["label"].to_pylist()) == 1
    assert np.exp(-table_["loss"].to_numpy()[is_one]).mean() == pytest.approx(1 / 3, abs=0.05)


def test_a_loader_hands_grades_over(tmp_path: Path) -> None:
    data = ClassificationData(graded_rows(tmp_path), soft_label_column="grade", batch_size=16).open()
    batch = next(iter(data.train_dataloader()))
    grades = csv.read_csv(tmp_path / "rows.csv")["grade"].to_numpy()
    np.testing.assert_allclose(batch["soft_label"][:, 1], grades[batch["sample_id"]] / 3, rtol=1e-6)
