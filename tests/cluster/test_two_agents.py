"""Two machines without Slurm: torchrun's agents, one on each, meet and train one run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from places import ROOT
from small_runs import rows
from started_together import IRIS_ON_TWO, free_port

from litscope.live.records import read_summary
from litscope.rundir import RunDir, read_lines


@pytest.mark.slow
def test_the_same_line_on_two_machines_trains_one_run(tmp_path: Path) -> None:
    """Both are this machine; the agents know of each other only what the meeting place tells them."""
    meeting = ["--nnodes", "2", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "two"]
    line = [sys.executable, "-m", "litscope", "launch", "torchrun", *meeting, "--"]
    words = [*IRIS_ON_TWO, "--epochs", "1", "--run-dir", "run"]
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    agents = [
        subprocess.Popen(
            [*line, *words], cwd=tmp_path, env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        said = [agent.communicate(timeout=300)[1] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert "".join(said).count("epoch 1/1") == 1, "one run, one voice"
    run = RunDir(tmp_path / "run")
    summary = read_summary(run)
    assert summary is not None
    assert (summary["status"], summary["num_devices"]) == ("finished", 2)
    assert len(read_lines(run.attempts)) == 1
    counts = Counter(rows(run.path, split="train")["sample_id"].to_pylist())
    assert set(counts.values()) == {1}
    assert len(counts) == summary["num_samples"]["train"]
