"""What `litscope evaluate --record` measured, as columns of the studio; and how many labels look wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asked_runs import asked_run
from doors import only_run, studio_over

from litscope.ledger.uncertainties import Recording, write_uncertainties
from litscope.rundir import RunDir
from litscope.seals import sealed_parquet


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made: RunDir = asked_run(tmp_path / "runs" / "one")
    return made


def test_measured_uncertainties_are_columns_to_sort_and_filter_by(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "cache")
    name = only_run(studio)
    assert "predictive_entropy" not in {column.name for column in studio.page(name).columns}
    ids = np.array([12, 13, 14])
    write_uncertainties(run, ids, {"predictive_entropy": np.array([0.2, 0.9, 0.4]), "set_size": np.array([1.0, 3, 2])})

    columns = {column.name: column for column in studio.page(name).columns}
    assert (columns["predictive_entropy"].unit, columns["predictive_entropy"].group) == ("nats", "score")
    assert "set_size" in columns
    assert "mutual_information" not in columns, "it was not measured"
    found = studio.samples(name, sort="-predictive_entropy", count=4, columns=["predictive_entropy"])
    assert [row.sample_id for row in found.rows[:3]] == [13, 14, 12]
    assert found.rows[0].values["predictive_entropy"] == pytest.approx(0.9)
    assert studio.count(name, "set_size > 1") == 2
    assert studio.count(name, "set_size is missing") == 12


def test_measured_probabilities_and_sets_are_columns(run: RunDir, tmp_path: Path) -> None:
    sets = np.array([[True, False, False], [True, True, False], [False, False, False]])
    write_uncertainties(
        run,
        np.array([12, 13, 14]),
        {"measured_p_pred": np.array([0.7, 0.5, 0.6]), "measured_p_label": np.array([0.7, 0.4, 0.1])},
        label=np.array([0, 1, 2]),
        pred=np.array([0, 0, 1]),
        sets=sets,
    )
    studio = studio_over(run.path.parent, cache=tmp_path / "cache")
    name = only_run(studio)
    columns = {column.name: column for column in studio.page(name).columns}
    assert (columns["measured_p_label"].kind, columns["measured_p_label"].is_high_bad) == ("number", False)
    assert (columns["conformal_set"].kind, columns["measured_pred_name"].kind) == ("text", "class")
    asked = ["measured_p_label", "measured_label_name", "conformal_set"]
    rows = studio.samples(name, sort="measured_p_label", count=4, columns=asked).rows
    assert [row.sample_id for row in rows[:3]] == [14, 13, 12]
    assert [row.values["conformal_set"] for row in rows] == ["-", "ant, bee", "ant", None]
    assert rows[0].values["measured_label_name"] == "wasp"
    assert [studio.count(name, f"conformal_set {rest}") for rest in ("= bee", "~ AN", "!= bee", "is missing")] == [
        *(1, 2, 2, 12)
    ]
    assert studio.count(name, "conformal_set in (bee, wasp)") == 1
    assert [row.sample_id for row in studio.samples(name, sort="-conformal_set", count=2).rows] == [13, 12]
    assert studio.count(name, "measured_pred_name != measured_label_name") == 2
    assert studio.sample(name, 13).sample.values["conformal_set"] == "ant, bee"


def test_the_page_of_a_run_says_that_a_record_is_outdated(run: RunDir, tmp_path: Path) -> None:
    run.checkpoints.mkdir(exist_ok=True)
    run.best_checkpoint.write_bytes(b"".join(sealed_parquet(run.manifest.read_bytes())))
    recording = Recording.of(run, run.best_checkpoint, "logits as they are")
    write_uncertainties(run, np.array([12]), {"set_size": np.array([1.0])}, recording=recording)
    studio = studio_over(run.path.parent, cache=tmp_path / "cache")
    name = only_run(studio)
    assert not any("outdated" in note for note in studio.page(name).notes)
    assert studio.count(name, "is_measure_outdated = false") == 1
    run.best_checkpoint.write_bytes(b"".join(sealed_parquet(run.score_table.read_bytes())))
    assert any("1 of 1 samples is outdated" in note for note in studio.page(name).notes)
    assert studio.count(name, "is_measure_outdated") == 1
    assert studio.count(name, 'measured_by ~ "as they are"') == 1


def test_a_damaged_record_is_told_and_hurts_nothing_else(run: RunDir, tmp_path: Path) -> None:
    run.uncertainties.write_bytes(b"PAR1 and no more")
    studio = studio_over(run.path.parent, cache=tmp_path / "cache")
    page = studio.page(only_run(studio))
    assert "predictive_entropy" not in {column.name for column in page.columns}
    assert any("is damaged" in note and "--record" in note for note in page.notes)


def test_the_review_says_how_many_labels_look_wrong(run: RunDir, tmp_path: Path) -> None:
    studio = studio_over(run.path.parent, cache=tmp_path / "cache")
    found = studio.review(only_run(studio), "train")
    assert (found.num_wrong, found.num_left) == (2, 12)
