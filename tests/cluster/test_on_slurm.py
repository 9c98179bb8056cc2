"""Jobs on a real Slurm of two nodes: submitted, followed over a requeue, cancelled; words and folders as they are."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from private_slurm import PrivateSlurm
from small_runs import rows

from litscope.cli import main
from litscope.cluster import logs
from litscope.cluster.records import records
from litscope.live.records import read_summary
from litscope.rundir import RunDir

pytestmark = pytest.mark.slow

ON_CPU = ["launch", "slurm", "--site", "none", "--gpu-request", "none", "--env", "MASTER_ADDR=127.0.0.1"]

SUM_OF_RANKS = """\
import sys
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
total = torch.tensor(float(dist.get_rank() + 1))
dist.all_reduce(total)
print(f"rank {dist.get_rank()} of {dist.get_world_size()}: {total.item():g} {sys.argv[1:]}")
dist.destroy_process_group()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: PrivateSlurm) -> Path:
    """A working directory whose name a careless script would fall over."""
    folder = tmp_path / 'it\'s a %j #1 $HOME "x"'
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(logs, "ASK_S", 0.5)
    return folder


def job_of(run: str) -> str:
    return records(RunDir(run))[-1].job


def test_a_script_of_ones_own_meets_over_two_nodes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("meet.py").write_text(SUM_OF_RANKS)
    words = ["a b", "$HOME", "it's", "x\ny", "#", "--n"]
    assert main([*ON_CPU, "--nodes", "2", "--time", "5", "--", "python", "meet.py", *words]) == 0
    assert main(["logs", "meet-1", "-f"]) == 0
    said = capsys.readouterr()
    told = [line for line in said.out.splitlines() if line.startswith("rank")]
    assert sorted(told) == [f"rank {rank} of 2: 3 {words}" for rank in (0, 1)]
    assert said.err.splitlines()[-1].endswith("ended well")
    assert main(["jobs"]) == 0
    assert "ended well" in capsys.readouterr().out


def test_logs_follow_a_job_over_its_requeue(
    place: Path, slurm: PrivateSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    command = 'echo "attempt ${SLURM_RESTART_COUNT:-0}"; [ "${SLURM_RESTART_COUNT:-0}" = 1 ] || sleep 300'
    assert main([*ON_CPU, "--", "sh", "-c", command]) == 0
    follows = threading.Thread(target=main, args=(["logs", "sh-1", "-f"],))
    follows.start()
    log = RunDir("runs/sh-1").job_logs / f"{job_of('runs/sh-1')}.out"
    slurm.wait_until(lambda: log.exists() and "attempt 0" in log.read_text(), "it did not start")
    slurm.run("scontrol", "requeue", job_of("runs/sh-1"))
    slurm.start_now(job_of("runs/sh-1"))
    follows.join(120)
    assert not follows.is_alive()
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith("attempt")] == ["attempt 0", "attempt 1"], said


def test_a_waiting_and_a_running_job_are_told_apart_and_cancelled(
    place: Path, slurm: PrivateSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ON_CPU, "--run-dir", "runs/first", "--", "sleep", "300"]) == 0
    assert main([*ON_CPU, "--run-dir", "runs/later", "--sbatch", "begin=now+1hour", "--", "sleep", "300"]) == 0
    slurm.wait_for(job_of("runs/first"), "RUNNING")
    slurm.wait_until(lambda: slurm.shown(job_of("runs/later"))["Reason"] == "BeginTime", "it has no reason to wait")
    capsys.readouterr()
    assert main(["jobs"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "  runs  " in rows["runs/first"]
    assert "waits" in rows["runs/later"]
    assert "(BeginTime)" in rows["runs/later"]
    began = time.monotonic()
    assert main(["cancel", "first", "later"]) == 0
    assert time.monotonic() - began < 60
    assert capsys.readouterr().out.count("was cancelled") == 2
    assert slurm.state(job_of("runs/first")) == slurm.state(job_of("runs/later")) == "CANCELLED"


def test_two_ranks_on_two_nodes_train_on_images(
    place: Path, cifar10_small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["launch", "slurm", "--site", "none", "--gpu-request", "none", "--nodes", "2", "--time", "10"]
    short = ["--epochs", "1", "--arch", "convnet", "--batch-size", "32", "--logger", "none", "--no-cache"]
    assert main([*job, "--", "fit", str(cifar10_small), "--run-dir", "runs/two", *short]) == 0
    assert main(["logs", "two", "-f"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].endswith("ended well"), f"{said.out}\n{said.err}"
    assert said.out.count("epoch 1/1") == 1, "one run, one voice"
    run = RunDir("runs/two")
    assert read_summary(run)["num_devices"] == 2
    assert {path.name.split("-")[1] for path in run.signals.glob("*.parquet")} == {"r000", "r001"}
    seen = rows(run.path, split="train")["sample_id"].to_pylist()
    assert len(seen) == len(set(seen)) == read_summary(run)["num_samples"]["train"], "each sample once"
    assert main(["jobs"]) == 0
    assert "ended well" in capsys.readouterr().out


def test_a_search_is_trained_by_the_tasks_of_an_array(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["tune", "iris", "--trials", "2", "--epochs", "1", "--logger", "none", "--search", "lr=1e-3..1e-1"]
    assert main([*line, "--launcher", "slurm --site none --gpu-request none --time 10"]) == 0
    assert main(["logs", "tune-1", "-f"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].endswith("ended well"), said
    assert {text[:2] for text in said.out.splitlines() if "trial " in text} == {"1:", "2:"}
    assert main([*line, "--run-dir", "runs/tune-1"]) == 0
    assert "2 trials" in capsys.readouterr().out


def test_what_slurm_refuses_is_told_and_leaves_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ON_CPU, "--partition", "nowhere", "--", "true"]) == 2
    assert "invalid partition" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("asked_by", ["gpus-per-node", "gres"])
def test_slurm_takes_both_ways_to_ask_for_gpus(
    asked_by: str, place: Path, slurm: PrivateSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["launch", "slurm", "--site", "none", "--gpu-request", asked_by, "--devices-per-node", "2"]
    assert main([*line, "--", "sh", "-c", 'echo "$SLURM_GPUS_ON_NODE GPUs"']) == 0
    assert slurm.wait_for(job_of("runs/sh-1")) == "COMPLETED"
    capsys.readouterr()
    assert main(["logs", "sh-1"]) == 0
    assert capsys.readouterr().out.splitlines() == ["2 GPUs", "2 GPUs"]


def test_a_script_that_a_person_submits_is_on_record(
    place: Path, slurm: PrivateSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ON_CPU, "--run-dir", "runs/own", "--", "sh", "-c", "echo told; sleep 300"]) == 0
    slurm.wait_for(job_of("runs/own"), "RUNNING")
    assert main(["cancel", "own"]) == 0
    assert len(records(RunDir("runs/own"))) == 1, "who launched it and the job itself do not count twice"
    job = slurm.run("sbatch", "--parsable", "runs/own/job.sbatch").strip()
    slurm.wait_for(job, "RUNNING")
    slurm.wait_until(lambda: job_of("runs/own") == job, "it is not on record")
    log = RunDir("runs/own").job_logs / f"{job}.out"
    slurm.wait_until(lambda: log.exists() and "told" in log.read_text(), "it says nothing")
    capsys.readouterr()
    assert main(["jobs"]) == 0
    assert job in capsys.readouterr().out
    assert main(["logs", "own"]) == 0
    assert "told" in capsys.readouterr().out
    assert main(["cancel", "own"]) == 0
    assert slurm.state(job) == "CANCELLED"


def test_a_training_that_a_person_submits_goes_on_over_a_requeue_and_another_job(
    place: Path, slurm: PrivateSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["launch", "slurm", "--site", "none", "--gpu-request", "none", "--time", "10", "--dry-run"]
    assert main([*job, "--", "fit", "digits", "--epochs", "400", "--logger", "none", "--run-dir", "runs/hand"]) == 0
    said = capsys.readouterr()
    assert "mkdir -p" in said.err
    Path("my.sbatch").write_text(said.out)
    run = RunDir("runs/hand")
    run.job_logs.mkdir(parents=True)

    def submit() -> tuple[str, Path]:
        number = slurm.run("sbatch", "--parsable", "my.sbatch").strip()
        return number, run.job_logs / f"{number}.out"

    number, log = submit()
    slurm.wait_until(run.last_checkpoint.exists, "it has not trained")
    slurm.run("scontrol", "requeue", number)
    slurm.start_now(number)
    slurm.wait_until(lambda: "going on with" in log.read_text(), "it did not go on")
    assert main(["jobs"]) == 0
    assert number in capsys.readouterr().out
    assert main(["cancel", "hand"]) == 0
    assert [record.job for record in records(run)] == [number]
    again, log = submit()
    slurm.wait_until(lambda: log.exists() and "going on with" in log.read_text(), "the second job did not go on")
    assert job_of("runs/hand") == again
    assert main(["cancel", "hand"]) == 0
    assert slurm.state(again) == "CANCELLED"
