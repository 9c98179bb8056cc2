"""A watched script that was killed before its first row begins again in its folder; one that has rows is not hidden."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked, finished
from small_runs import rows
from watched import TRAIN

from litscope.errors import RunError
from litscope.rundir import read_lines
from litscope.watch import run, session


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _watch_until(stage: str, folder: Path) -> None:
    if stage == "no manifest yet":
        session.Session._write_manifest = _die  # type: ignore[method-assign,assignment]
    if stage == "no attempt yet":
        session.begin_attempt = _die  # type: ignore[assignment]
    with run(folder, dataset=TRAIN):
        _die()


@pytest.mark.thorough
@pytest.mark.parametrize("stage", ["no manifest yet", "no attempt yet", "before the first row"])
def test_a_script_that_was_killed_before_its_first_row_begins_again(stage: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ended = finished(Forked(_watch_until, stage, folder))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with run(folder, dataset=TRAIN) as watched:
        watched.record([1, 2], torch.zeros(2, 3), [0, 1])
    assert len(rows(folder)) == 2
    assert {line["start_step"] for line in read_lines(folder / "attempts.jsonl")} == {0}
    with pytest.raises(RunError, match=f"to begin it again, remove {folder}"), run(folder, dataset=TRAIN):
        pass
