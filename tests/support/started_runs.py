"""Runs in a process of their own, so that signals and deaths do not hit the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from places import SUPPORT
from small_runs import IRIS

from litscope.rundir import RunDir, read_lines

TWO: dict[str, Any] = {**IRIS, "devices": "2", "strategy": "ddp", "epochs": 2, "val_split": 0.3, "test_split": 0.1}


def start(run: Path, more: str = "", environment: dict[str, str] | None = None, **flags: Any) -> subprocess.Popen[str]:
    """`fit` in a process of its own, so that signals and deaths do not hit the tests."""
    code = f"""
        import sys
        import litscope
        sys.path.insert(0, {str(SUPPORT)!r})
        from litscope.errors import LitscopeError
        from small_runs import small_fit
        {more}
        try:
            small_fit({str(run)!r}, { ({**TWO, **flags})!r})
        except LitscopeError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)
    """
    env = {**os.environ, **(environment or {})}
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.PIPE, text=True, env=env)


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        if any(line["step"] >= step for line in read_lines(RunDir(run).step_metrics)):
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the run did not get so far: {process.communicate()[1]}")
