"""The runs below `runs/`: which there are, which is the newest, which is training now. No torch."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from litscope.errors import RunError
from litscope.rundir import RunDir, read_lines

RUNS = Path("runs")
"""Where runs lie when --run-dir does not say otherwise."""


def list_runs() -> list[RunDir]:
    """Runs below runs/, the newest (last started or resumed) first."""
    found = [RunDir(recipe.parent) for recipe in RUNS.glob("*/recipe.yaml")]
    return sorted(found, key=_started, reverse=True)


def _started(run: RunDir) -> float:
    return (run.attempts if run.attempts.exists() else run.recipe).stat().st_mtime


def newest_run() -> RunDir:
    """The run below runs/ that was last started or resumed.

    Raises:
        RunError: if there is none.
    """
    for run in list_runs():
        return run
    raise RunError(f"There are no runs below {RUNS}/. Give the folder of one.")


def is_watched(run: RunDir) -> bool:
    """Whether litscope.watch recorded this run: only its own script can build its model and data."""
    return any(line.startswith("watch:") for line in run.recipe.read_text(encoding="utf-8").splitlines())


def what_goes_on(run: RunDir) -> str:
    """The command that goes on with a run, in words."""
    return "its own script, from a checkpoint," if is_watched(run) else f"litscope fit --resume {run.path}"


def is_training(run: RunDir) -> bool | None:
    """Whether a process trains this run now: None if it was started on another machine, which cannot be asked.

    A run that ended in order has a summary; a killed one has a process number that is no longer in use.
    """
    attempts = read_lines(run.attempts)
    if run.summary.exists() or not attempts:
        return False
    last = attempts[-1]
    if last.get("host") != socket.gethostname():
        return None
    try:
        os.kill(last["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        return True
    return True
