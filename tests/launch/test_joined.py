"""A run whose processes torchrun or srun started is one run: one folder, one voice, one end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from private_slurm import PrivateSlurm
from small_runs import rows
from started_runs import wait_for_step
from started_together import IRIS_ON_TWO, end, start_two

from litscope.live.records import read_summary
from litscope.rundir import RunDir, read_lines
from litscope.starter import host_name

pytestmark = pytest.mark.slow

HOST = host_name()

TORCHS_WARNING = re.compile(r"\[W\d{4} [^\n]*TCPStore\.cpp.*?\n\n", re.DOTALL)
"""What torch itself writes, with frames of C++, where the process that keeps the store was a moment faster to leave."""

ENDLESS = ("--epochs", "4000", "--log-every-n-steps", "1", "--run-dir", "run", "--rank-timeout", "5")


def assert_whole(run: Path, epochs: int) -> None:
    """Two processes trained it, and each sample was seen once an epoch."""
    summary = read_summary(RunDir(run))
    assert (summary["status"], summary["num_devices"], summary["epochs"]) == ("finished", 2, epochs)
    assert len(read_lines(RunDir(run).attempts)) == 1
    counts = Counter(rows(run, split="train")["sample_id"].to_pylist())
    assert len(counts) == summary["num_samples"]["train"]
    assert set(counts.values()) == {epochs}


def said_by(text: str) -> str:
    """What we said, of what a process wrote."""
    return TORCHS_WARNING.sub("", text)


def test_torchrun_starts_one_run(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "litscope"]
    done = subprocess.run(
        [*torchrun, *IRIS_ON_TWO, "--epochs", "1", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["iris-mlp-1"]
    assert json.loads(done.stdout)["result"]["num_devices"] == 2  # one document, of one process
    assert done.stderr.count("epoch 1/1") == 1
    assert_whole(tmp_path / "runs" / "iris-mlp-1", epochs=1)


def test_srun_starts_one_run(slurm: PrivateSlurm, tmp_path: Path) -> None:
    """Two tasks on two nodes, whose names only Slurm knows; and what else is started in two tasks is refused."""
    python = f"{sys.executable} -m litscope"
    script = "\n".join(
        [
            "#!/bin/bash",
            f"srun {python} {' '.join(IRIS_ON_TWO)} --epochs 1; echo fit $?",
            f"srun {python} {' '.join(IRIS_ON_TWO)} --devices 2; echo devices $?",
            f"srun {python} evaluate runs/iris-mlp-1; echo evaluate $?",
        ]
    )
    (tmp_path / "job.sh").write_text(script)
    words = ["--chdir", str(tmp_path), "--output", str(tmp_path / "out.txt"), "-N2", "--ntasks-per-node=1"]
    job = slurm.run("sbatch", "--parsable", *words, str(tmp_path / "job.sh")).strip()
    slurm.wait_for(job, timeout=300)
    said = (tmp_path / "out.txt").read_text()
    assert "fit 0" in said, said
    assert said.count("epoch 1/1") == 1
    assert_whole(tmp_path / "runs" / "iris-mlp-1", epochs=1)
    assert "devices 2" in said
    assert said.count("error: --devices 2: srun started 2 tasks, 1 on each of 2 machines. Give --devices 1") == 1
    assert "evaluate 2" in said
    assert said.count("error: litscope evaluate works in one process") == 2  # the first of each machine says so
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.flag("rank_timeout")
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_process_that_is_killed_or_stopped_ends_the_run_by_name(tmp_path: Path, how: str, victim: int) -> None:
    processes = start_two(tmp_path, *ENDLESS, num_nodes=2)
    wait_for_step(processes[0], tmp_path / "run", 10)
    began = time.monotonic()
    os.kill(processes[victim].pid, signal.Signals[how])
    other = processes[1 - victim]
    try:
        assert other.wait(60) == 1, other.stderr
    finally:
        for process in processes:
            process.kill()
    assert time.monotonic() - began < 40
    who = f"rank {victim} (process {processes[victim].pid} on {HOST})"
    what = "ended, and the run could not go on" if how == "SIGKILL" else "was silent for 5 s (--rank-timeout)"
    assert f"error: {who} {what}" in other.stderr, other.stderr
    assert "Traceback" not in other.stderr
    if victim == 1:
        summary = read_summary(RunDir(tmp_path / "run"))
        assert summary["status"] == "failed"
        assert who in summary["message"]


def test_a_signal_to_one_process_ends_all_at_one_step(tmp_path: Path) -> None:
    processes = start_two(tmp_path, *ENDLESS)
    wait_for_step(processes[0], tmp_path / "run", 10)
    processes[1].send_signal(signal.SIGTERM)
    assert end(processes, 60) == [130, 130], [process.stderr for process in processes]
    assert "To go on: litscope fit --resume run" in processes[0].stderr
    assert said_by(processes[1].stderr) == ""
    assert read_summary(RunDir(tmp_path / "run"))["status"] == "interrupted"


def test_torchrun_starts_again_what_it_had_begun(tmp_path: Path) -> None:
    words = ("--epochs", "40", "--log-every-n-steps", "1", "--run-dir", "run")
    first = start_two(tmp_path, *words)
    wait_for_step(first[0], tmp_path / "run", 10)
    first[1].kill()
    end(first, 60)
    again = start_two(tmp_path, *words, start=1)
    assert end(again) == [0, 0], again[0].stderr
    assert "torchrun, start 2: going on with run" in again[0].stderr
    starts = read_lines(RunDir(tmp_path / "run").attempts)
    assert len(starts) == 2
    assert starts[1]["start_step"] > 0
    assert read_summary(RunDir(tmp_path / "run"))["epochs"] == 40
    nameless = start_two(tmp_path, start=1)
    assert end(nameless, 60) == [2, 2]
    assert "torchrun --max-restarts starts all processes again" in nameless[0].stderr


def test_what_one_process_cannot_do_ends_all_and_is_said_once(tmp_path: Path) -> None:
    """The first refuses: the others leave with its exit code and no word. Another one refuses: the first says who."""
    processes = start_two(tmp_path, "--val-split", "0.2", "--monitor", "val/nonsense")
    assert end(processes, 60) == [2, 2]
    assert processes[0].stderr.count("error:") == 1
    assert said_by(processes[1].stderr) == ""
    assert not (tmp_path / "runs").exists()
