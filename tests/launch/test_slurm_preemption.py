"""A real Slurm takes a run's machine away, by a signal and by its death, and is asked to cancel a job. Nothing is faked
but that its two nodes are one machine.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from forked import run_cli
from private_slurm import PrivateSlurm
from small_runs import assert_bit_equal, last, rows
from started_together import end, start_two

from litscope.claims import trainer_of
from litscope.ledger.journal.actions import entries
from litscope.live.records import epoch_rows, read_summary
from litscope.rundir import RunDir, read_lines

pytestmark = pytest.mark.slow

FIT = (
    "fit iris --arch mlp --accelerator cpu --batch-size 4 --lr 1e-3 --logger none --no-progress --num-threads 1 "
    "--log-every-n-steps 5"
)

SCRIPT = """#!/bin/bash
#SBATCH --nodes={nodes} --ntasks-per-node=1 --cpus-per-task=2 --requeue --open-mode=append --output={folder}/log
srun --kill-on-bad-exit=1 {python} -m litscope {fit} {words} --run-dir {folder}/run
"""


class Job:
    """A job of one task on each node, which train in a folder."""

    def __init__(self, slurm: PrivateSlurm, folder: Path, nodes: int, words: str) -> None:
        folder.mkdir()
        script = folder / "job.sbatch"
        script.write_text(SCRIPT.format(folder=folder, nodes=nodes, python=sys.executable, fit=FIT, words=words))
        self.slurm, self.folder, self.run = slurm, folder, RunDir(folder / "run")
        self.number = slurm.run("sbatch", "--parsable", str(script)).strip()

    @property
    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text() if file.exists() else ""

    def step(self) -> int:
        """The last step on record."""
        return max((line["step"] for line in read_lines(self.run.step_metrics)), default=0)

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + 240
        while self.step() < step:
            assert time.monotonic() < deadline, f"step {self.step()}: {self.slurm.shown(self.number)}\n{self.log}"
            time.sleep(0.05)

    def wait_for(self, *states: str) -> None:
        try:
            self.slurm.wait_for(self.number, *states, timeout=240)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    def start_again(self) -> None:
        self.wait_for("PENDING")
        self.slurm.start_now(self.number)


def test_a_run_loses_a_machine_twice_and_ends_as_if_it_had_not(slurm: PrivateSlurm, tmp_path: Path) -> None:
    """Two tasks on two nodes: a signal that both of them get, then the death of the second one's node, which Slurm
    hears of last."""
    words = "--epochs 40 --checkpoint-every 20steps --rank-timeout 10"
    job = Job(slurm, tmp_path / "job", 2, words)
    job.wait_for_step(20)
    slurm.run("scancel", "--signal=USR1", job.number)
    job.wait_for("PENDING")
    step = last(job.run.path)["global_step"]
    assert (
        f"stopped at step {step}; {job.run.last_checkpoint} is written; asking whether job {job.number} may" in job.log
    )
    assert job.log.count("SIGUSR1: finishing this step") == 1, "the other process is quiet"
    assert "Traceback" not in job.log
    assert slurm.shown(job.number)["Restarts"] == "1", "asked for once"

    job.start_again()
    job.wait_for_step(step + 40)
    assert f"job {job.number}, restart 1: going on with {job.run.path}" in job.log
    slurm.cut_off("n1")
    slurm.wait_until(lambda: slurm.shown(job.number)["Restarts"] == "2", f"it did not go back\n{job.log}")
    assert " on n1) was silent for 10 s (--rank-timeout)" in job.log
    slurm.fail_node("n1")
    job.wait_for("PENDING")
    slurm.revive_node("n1")
    job.start_again()
    whole = start_two(tmp_path, *words.split(), "--run-dir", "whole", num_nodes=2, words=FIT.split())
    job.wait_for("COMPLETED")
    assert end(whole) == [0, 0], whole[0].stderr

    starts = [line["start_step"] for line in read_lines(job.run.attempts)]
    assert starts[:2] == [0, step]
    assert step < starts[2], "from the last checkpoint, not from the beginning"
    assert len(starts) == 3
    assert read_summary(job.run)["num_devices"] == 2
    assert_bit_equal(last(job.run.path), last(tmp_path / "whole"))
    assert rows(job.run.path).equals(rows(tmp_path / "whole")), "no gap, and nothing twice"
    assert [row["step"] for row in epoch_rows(job.run)] == [
        row["step"] for row in epoch_rows(RunDir(tmp_path / "whole"))
    ]


def test_a_job_is_steered_through_its_folder_and_stays_away_once_it_is_cancelled(
    slurm: PrivateSlurm, tmp_path: Path
) -> None:
    job = Job(slurm, tmp_path / "job", 1, "--epochs 9000 --steps-per-call 1")
    job.wait_for_step(20)
    assert listening_ports(trainer_of(job.run)["pid"]) == []
    run = str(job.run.path)
    for words in (["discard", run, "--id", "7"], ["set", run, "lr=1e-4"]):
        done = run_cli(*words, "--wait", "60")
        assert done.returncode == 0, done.stderr
    assert [(entry.action["what"], entry.status) for entry in entries(job.run)] == [
        ("discard", "applied"),
        ("set", "applied"),
    ]
    slurm.run("scancel", job.number)
    job.wait_for("CANCELLED")
    said = f"stopped at step {last(job.run.path)['global_step']}; {job.run.last_checkpoint} is written"
    slurm.wait_until(lambda: said in job.log, job.log)  # Slurm kills what is left of a job after five seconds here
    facts = slurm.shown(job.number)
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0")


def listening_ports(pid: int) -> list[str]:
    """Addresses on which a process waits for others, as the kernel writes them."""
    sockets = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    return [words[1] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in sockets]
