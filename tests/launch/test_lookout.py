"""A process of a run is silent: it is named, a signal ends the run, and so does a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from small_runs import small_fit
from started_runs import TWO, wait_for_step

from litscope.errors import LitscopeError
from litscope.launch import lookout, places
from litscope.live.records import read_summary
from litscope.rundir import RunDir

DEADLINES = {"HEARD_S": 2.0, "SAY_S": 0.5, "SILENT_S": 300.0, "MEETING_S": 300.0}


def _fit(run: Path, deadlines: dict[str, float], settings: dict[str, Any]) -> int:
    for name, seconds in {**DEADLINES, **deadlines}.items():
        setattr(lookout, name, seconds)
    places.HERE = os.environ.get("MEETS_AT", places.HERE)
    try:
        small_fit(run, {**TWO, "epochs": 4000, "log_every_n_steps": 1, **settings})
    except LitscopeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def start(run: Path, *, environment: dict[str, str] | None = None, **deadlines: float) -> Forked:
    return Forked(_fit, run, deadlines, {}, environment=environment)


def worker_of(process: Forked) -> int:
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "litscope.training.worker"], capture_output=True, text=True, check=True
    )
    (pid,) = map(int, found.stdout.split())
    return pid


def stopped_run(folder: Path, **deadlines: float) -> tuple[Forked, int]:
    """A run whose other process is stopped."""
    process = start(folder, **deadlines)
    wait_for_step(process, folder, 10)
    worker = worker_of(process)
    os.kill(worker, signal.SIGSTOP)
    return process, worker


@pytest.mark.slow
def test_a_stopped_process_is_named_and_goes_on(tmp_path: Path) -> None:
    process, worker = stopped_run(tmp_path / "run")
    process.wait_until_it_says(f"local rank 1 (process {worker}) is stopped, and the run waits for it.")
    assert f"kill -CONT {worker}" in process.stderr
    os.kill(worker, signal.SIGCONT)
    last = max(line["step"] for line in _steps(tmp_path / "run"))
    wait_for_step(process, tmp_path / "run", last + 10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130, process.stderr
    assert "finishing this step" in process.stderr


@pytest.mark.slow
def test_a_signal_ends_a_run_whose_other_process_is_stopped(tmp_path: Path) -> None:
    process, worker = stopped_run(tmp_path / "run")
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130, process.stderr
    assert time.monotonic() - began < 30
    assert f"SIGTERM: the run cannot end by itself, for local rank 1 (process {worker}) is stopped" in process.stderr
    assert "Traceback" not in process.stderr
    summary = read_summary(RunDir(tmp_path / "run"))
    assert summary is not None
    assert summary["status"] == "interrupted"
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.slow
def test_a_run_does_not_wait_for_ever(tmp_path: Path) -> None:
    process, worker = stopped_run(tmp_path / "run", SILENT_S=3.0)
    assert process.wait(60) == 1, process.stderr
    assert f"error: local rank 1 (process {worker}) was stopped for 3 s" in process.stderr
    summary = read_summary(RunDir(tmp_path / "run"))
    assert summary is not None
    assert summary["status"] == "failed"
    assert "local rank 1" in summary["message"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["signal", "deadline"])
def test_a_rendezvous_without_a_network_ends(tmp_path: Path, how: str) -> None:
    """An address of the documentation's network, which no machine has."""
    nowhere = {"MEETS_AT": "192.0.2.1"}
    process = start(tmp_path / "run", environment=nowhere, MEETING_S=300.0 if how == "signal" else 3.0)
    if how == "signal":
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "attempts.jsonl").exists():
            assert time.monotonic() < deadline, process.stderr
            time.sleep(0.05)
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    code = process.wait(120)
    assert time.monotonic() - began < 100
    assert "Traceback" not in process.stderr
    if how == "signal":
        assert code == 130, process.stderr
        assert "SIGTERM: the run cannot end by itself, for it waits for" in process.stderr
    else:
        assert code == 1, process.stderr
        assert "did not find each other at 192.0.2.1:" in process.stderr


def _steps(run: Path) -> list[dict[str, Any]]:
    from litscope.rundir import read_lines

    return read_lines(RunDir(run).step_metrics)


def test_which_processes_are_stopped() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert not lookout.is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not lookout.is_stopped(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGCONT)
        while lookout.is_stopped(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert not lookout.is_stopped(process.pid)
