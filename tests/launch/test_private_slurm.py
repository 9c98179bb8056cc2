"""The Slurm that tests start for themselves is a real one: two nodes, requeue, signals, a node that dies."""

from __future__ import annotations

from pathlib import Path

import pytest
from private_slurm import PrivateSlurm

pytestmark = pytest.mark.slow


def batch(slurm: PrivateSlurm, output: Path, command: str, *words: str) -> str:
    return slurm.run("sbatch", "--parsable", f"--output={output}", "-N2", *words, "--wrap", command).strip()


def test_a_job_runs_on_both_nodes_with_its_gpus_counted(slurm: PrivateSlurm, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    command = "srun bash -c 'echo $SLURMD_NODENAME $SLURM_PROCID $SLURM_GPUS_ON_NODE'"
    job = batch(slurm, output, command, "--ntasks-per-node=1", "--gres=gpu:2")
    assert slurm.wait_for(job) == "COMPLETED"
    assert sorted(output.read_text().splitlines()) == ["n0 0 2", "n1 1 2"]


def test_a_job_is_requeued_when_a_node_dies(slurm: PrivateSlurm, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    command = "echo attempt ${SLURM_RESTART_COUNT:-0}; [ ${SLURM_RESTART_COUNT:-0} = 1 ] || srun sleep 300"
    job = batch(slurm, output, command, "--requeue", "--open-mode=append")
    slurm.wait_until(lambda: output.exists() and bool(output.read_text()), "it did not start")
    slurm.fail_node("n1")
    slurm.wait_for(job, "PENDING")
    slurm.revive_node("n1")
    slurm.start_now(job)
    assert slurm.wait_for(job) == "COMPLETED"
    assert "attempt 0" in output.read_text()
    assert "attempt 1" in output.read_text()
