"""The curves of a run whose first epoch is under way."""

from __future__ import annotations

from pathlib import Path

from litscope.rundir import RunDir
from litscope.studio.runs.curves import Logged, curves


def test_curves_before_the_first_epoch_ends(tmp_path: Path) -> None:
    """No epoch is logged yet, so there is none in which edits of evaluation samples could count."""
    logged = Logged([{"step": 5, "train/loss": 2.0}], [])
    found = curves(RunDir(tmp_path), logged, ["train/loss"], "step", 100)
    assert found.edits_from_x == []
    assert found.series["train/loss"].y == [2.0]
