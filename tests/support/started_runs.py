"""Runs in a process of their own, so that signals and deaths do not hit the tests."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from forked import Forked
from small_runs import IRIS, small_fit

from litscope.errors import LitscopeError
from litscope.rundir import RunDir, read_lines

TWO: dict[str, Any] = {**IRIS, "devices": "2", "strategy": "ddp", "epochs": 2, "val_split": 0.3, "test_split": 0.1}


def start(run: Path, environment: dict[str, str] | None = None, **flags: Any) -> Forked:
    """`fit` in a process of its own, so that signals and deaths do not hit the tests."""
    return Forked(_fit, run, {**TWO, **flags}, environment=environment)


def _fit(run: Path, settings: dict[str, Any]) -> int:
    try:
        small_fit(run, settings)
    except LitscopeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def wait_for_step(process: Forked, run: Path, step: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        if any(line["step"] >= step for line in read_lines(RunDir(run).step_metrics)):
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the run did not get so far: {process.stderr}")
