"""One process at a time may write to a run. One that was superseded ends itself, and writes nothing more."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from forked import Forked

from litscope.batch_job import BatchJob, this_job
from litscope.claims import Claim, held, trainer_of
from litscope.errors import RunError, Superseded
from litscope.rundir import RunDir

JOB = {"SLURM_JOB_ID": "17"}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run")


def _hold(folder: Path) -> None:
    with held(RunDir(folder)):
        (folder / "is-held").touch()
        time.sleep(600)


def other(run: RunDir, environment: dict[str, str]) -> Forked:
    """Another process that holds the run."""
    process = Forked(_hold, run.path, environment=environment)
    while not (run.path / "is-held").exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": ""}, None),
        ({"SLURM_JOB_ID": "17"}, BatchJob("17", 0)),
        ({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "2"}, BatchJob("17", 2)),
        ({"SLURM_JOB_ID": "18", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}, BatchJob("17_3", 0)),
    ],
)
def test_the_job_around_a_process(environment: dict[str, str], job: BatchJob | None) -> None:
    assert this_job(environment) == job


def test_a_later_start_is_of_the_same_job() -> None:
    assert BatchJob("17", 1).is_later_than(BatchJob("17", 0))
    assert not BatchJob("17", 1).is_later_than(BatchJob("17", 1))
    assert not BatchJob("18", 1).is_later_than(BatchJob("17", 0))


def test_the_folder_says_who_trains(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with held(run) as claim:
        trainer = trainer_of(run)
        assert (trainer["token"], trainer["pid"], trainer["job"]) == (
            claim.token,
            os.getpid(),
            {"id": "17", "num_restarts": 1},
        )
        claim.check()


def test_who_claims_later_supersedes(run: RunDir) -> None:
    """Two on a file system without locks, or one whose lock a server has given up."""
    with held(run) as first:
        with held(run) as second:  # the lock is the process's own
            second.check()
            with pytest.raises(Superseded, match=rf"trained by another process \({os.getpid()} on .*given up"):
                first.check()
        with pytest.raises(Superseded):
            first.check()


@pytest.mark.parametrize("content", [None, b"", b'{"token": "an', b"[]", b'{"token": "another"}'])
def test_what_says_nothing_supersedes_nobody(run: RunDir, content: bytes | None) -> None:
    """The folder was moved, or a share is gone for a moment."""
    with held(run) as claim:
        run.trainer.unlink()
        if content is not None:
            run.trainer.write_bytes(content)
        claim.check()


def test_an_orphan_of_this_job_is_superseded_and_its_lock_taken(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orphan = other(run, JOB)
    theirs = Claim(run, trainer_of(run)["token"])
    for name, value in (*JOB.items(), ("SLURM_RESTART_COUNT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("litscope.claims.RETRY_S", 0.01)
    with held(run) as claim:
        claim.check()
        assert f"another process ({orphan.pid} on " in capsys.readouterr().err
        with pytest.raises(Superseded):
            theirs.check()
        orphan.kill()
        orphan.wait(30)
        deadline = time.monotonic() + 30
        while threading.active_count() > 1 and any(t.name == "litscope-lock" for t in threading.enumerate()):
            assert time.monotonic() < deadline, "the lock is taken as soon as it is free"
            time.sleep(0.01)
        assert Forked(_is_refused, run.path).wait(30) == 0


def _is_refused(folder: Path) -> int:
    try:
        with held(RunDir(folder)):
            return 1
    except RunError:
        return 0


@pytest.mark.parametrize("environment", [{}, JOB, {"SLURM_JOB_ID": "18", "SLURM_RESTART_COUNT": "1"}])
def test_any_other_process_is_named_and_kept_out(
    run: RunDir, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of no job, of the same start of the job, of another job."""
    process = other(run, JOB)
    before = run.trainer.read_bytes()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=rf"being trained by another process \({process.pid} on .*, job 17\)"), held(run):
        pass
    assert run.trainer.read_bytes() == before
    process.kill()
