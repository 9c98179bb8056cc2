"""Stopped or killed at any point, once or several times, a training goes on and ends as if nothing had happened.

`python tests/support/stops.py 50` makes as many trials as one has time for.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from stops import KINDS, draw, make_whole, run_trial

NUM_TRIALS = 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_is_stopped_anywhere(kind: str, tmp_path: Path) -> None:
    whole, chance = make_whole(kind, tmp_path / "whole"), random.Random(kind)
    for i in range(NUM_TRIALS):
        run_trial(draw(kind, whole, chance), tmp_path / str(i), whole.folder)
