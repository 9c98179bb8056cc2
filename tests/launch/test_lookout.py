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
from litscope.starter import host_name

HOST = host_name()

# HEARD_S is longer than SILENT_S, as in earnest: who is silent is then known.
DEADLINES = {"HEARD_S": 5.0, "SAY_S": 2.0, "MEETING_S": 300.0}


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


def start(
    run: Path, *, environment: dict[str, str] | None = None, rank_timeout: float = 300, **deadlines: float
) -> Forked:
    return Forked(_fit, run, deadlines, {"rank_timeout": rank_timeout}, environment=environment)


def worker_of(process: Forked) -> int:
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "litscope.training.worker"], capture_output=True, text=True, check=True
    )
    (pid,) = map(int, found.stdout.split())
    return pid


def stopped_run(folder: Path, **settings: float) -> tuple[Forked, int]:
    """A run whose other process is stopped."""
    process = start(folder, **settings)
    wait_for_step(process, folder, 10)
    worker = worker_of(process)
    os.kill(worker, signal.SIGSTOP)
    return process, worker


@pytest.mark.slow
def test_a_stopped_process_is_named_and_goes_on(tmp_path: Path) -> None:
    process, worker = stopped_run(tmp_path / "run")
    process.wait_until_it_says(f"rank 1 (process {worker} on {HOST}) is silent, and the run waits.")
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
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130, process.stderr
    assert time.monotonic() - began < 30
    assert f"SIGTERM: the run cannot end by itself, for rank 1 (process {worker} on {HOST}) is silent" in process.stderr
    assert "Traceback" not in process.stderr
    summary = read_summary(RunDir(tmp_path / "run"))
    assert summary is not None
    assert summary["status"] == "interrupted"
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.slow
@pytest.mark.flag("rank_timeout")
def test_a_run_does_not_wait_for_ever(tmp_path: Path) -> None:
    process, worker = stopped_run(tmp_path / "run", rank_timeout=5)
    assert process.wait(60) == 1, process.stderr
    assert f"error: rank 1 (process {worker} on {HOST}) was silent for 5 s (--rank-timeout)" in process.stderr
    summary = read_summary(RunDir(tmp_path / "run"))
    assert summary is not None
    assert summary["status"] == "failed"
    assert "rank 1" in summary["message"]
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.slow
def test_a_run_whose_first_process_is_stopped_ends(tmp_path: Path) -> None:
    """Its worker says so, and ends both."""
    process = start(tmp_path / "run", rank_timeout=5)
    wait_for_step(process, tmp_path / "run", 10)
    worker = worker_of(process)
    process.send_signal(signal.SIGSTOP)
    assert process.wait(60) == -signal.SIGKILL
    assert f"error: rank 0 (process {process.pid} on {HOST}) was silent for 5 s" in process.stderr
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
        assert "rank 1 did not come to 192.0.2.1:" in process.stderr


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
