"""Ctrl-C at a terminal goes to all processes of a run: it ends with one line, and no traceback."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from forked import Forked
from started_runs import TWO, wait_for_step

from litscope.cli import main

pytestmark = pytest.mark.slow


def _in_a_terminal(run: Path) -> int:
    """`litscope fit` as the foreground process of a terminal: the leader of its processes."""
    import sys

    os.setsid()
    flags = [
        "--batch-size",
        "16",
        "--devices",
        "2",
        "--val-split",
        "0.3",
        "--epochs",
        "9000",
        "--log-every-n-steps",
        "1",
    ]
    sys.argv = ["litscope", "fit", TWO["dataset"], "--accelerator", "cpu", *flags, "--run-dir", str(run)]
    return main()


def _worker_of(process: Forked) -> bool:
    return bool(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())


@pytest.mark.parametrize("when", ["while it prepares", "while it trains"])
def test_ctrl_c_says_one_line(tmp_path: Path, when: str) -> None:
    process, run = Forked(_in_a_terminal, tmp_path / "run"), tmp_path / "run"
    if when == "while it trains":
        wait_for_step(process, run, 5)
    else:
        deadline = time.monotonic() + 120
        while not _worker_of(process):
            assert time.monotonic() < deadline, process.stderr
            assert process.poll() is None, process.stderr
            time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(150) == 130, process.stderr
    assert "Traceback" not in process.stderr
    assert "local rank" not in process.stderr
    assert process.stderr.lower().count("interrupted") == 1, process.stderr
