"""`litscope launch torchrun` becomes torchrun: its processes, its words, its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from litscope.live.records import epoch_rows, read_summary
from litscope.rundir import RunDir

ROOT = Path(__file__).resolve().parents[2]

SHOW = """\
import os, sys
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], sys.argv[1:], flush=True)
sys.exit(int(sys.argv[2]))
"""


def launched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "show.py").write_text(SHOW)
    line = [sys.executable, "-m", "litscope", "launch", "torchrun", *words]
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, cwd=folder, env=place, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_script_runs_in_each_process(tmp_path: Path) -> None:
    done = launched(tmp_path, "--nproc-per-node", "2", "--", "python", "show.py", "a b", "0")
    assert done.returncode == 0, done.stderr
    lines = sorted(line for line in done.stdout.splitlines() if line.startswith("rank"))
    assert lines == [f"rank {rank} of 2 ['a b', '0']" for rank in (0, 1)]


@pytest.mark.slow
def test_its_failure_is_that_of_the_command(tmp_path: Path) -> None:
    done = launched(tmp_path, "--", "show.py", "x", "3")
    assert done.returncode == 1
    assert "exitcode  : 3" in done.stderr


@pytest.mark.slow
def test_a_schedulers_signal_reaches_the_processes_which_save(tmp_path: Path) -> None:
    """A scheduler may send it to torchrun alone, which dies of it unless told otherwise."""
    words = ["--nproc-per-node", "2", "--", "fit", "iris", "--epochs", "100000", "--run-dir", "run", "--logger", "none"]
    line = [sys.executable, "-m", "litscope", "launch", "torchrun", *words]
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, cwd=tmp_path, env=place, stderr=subprocess.PIPE, text=True) as process:
        run = RunDir(tmp_path / "run")
        deadline = time.monotonic() + 200
        while not (run.is_run() and epoch_rows(run)):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGUSR1)
        said = process.communicate(timeout=120)[1]
    assert "Preempted (SIGUSR1) at step" in said
    assert process.returncode == 1
    summary = read_summary(run)
    assert summary is not None
    assert summary["status"] == "interrupted"
