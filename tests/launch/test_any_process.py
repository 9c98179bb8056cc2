"""A scheduler's signal reaches one process of a run, whichever: all of them stop at one step."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from small_runs import last
from started_runs import start, wait_for_step

from litscope.live.records import read_summary
from litscope.rundir import RunDir


@pytest.mark.slow
def test_a_signal_to_the_other_process_stops_both(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    process = start(run.path, {"SLURM_JOB_ID": ""}, epochs=4000, log_every_n_steps=1)
    wait_for_step(process, run.path, 10)
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGUSR1)
    assert process.wait(120) == 75, process.stderr
    step = last(run.path)["global_step"]
    assert f"Preempted (SIGUSR1) at step {step}; " in process.stderr
    assert "Traceback" not in process.stderr
    summary = read_summary(run)
    assert summary is not None
    assert summary["status"] == "interrupted"
