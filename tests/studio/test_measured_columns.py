"""What `litscope evaluate --record` measured, as columns of the studio; and how many labels look wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asked_runs import asked_run
from doors import only_run, studio_over

from litscope.ledger.uncertainties import write_uncertainties
from litscope.rundir import RunDir


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
