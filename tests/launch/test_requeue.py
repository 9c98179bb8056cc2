"""A batch job goes back into the queue: when that is right, once, and however busy its scheduler is."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from fake_scontrol import RUNNING, FakeScontrol

from litscope.batch_job import BatchJob
from litscope.launch import requeue as module
from litscope.launch.requeue import requeue, why_not

JOB = BatchJob("17", 0)


@pytest.mark.parametrize(
    ("shown", "has_trained", "reason"),
    [
        ({"JobState": "RUNNING", "Reason": "None"}, True, None),
        ({"JobState": "COMPLETING", "Reason": "TimeLimit"}, True, None),  # as Slurm 22.05 shows them
        ({"JobState": "COMPLETING", "Reason": "TimeLimit"}, False, "its time limit ended before its first step"),
        ({"JobState": "COMPLETING", "Reason": "None"}, True, "it was cancelled"),
        ({"JobState": "COMPLETING", "Reason": "None", "PreemptTime": "2026-11-30T13:20:08"}, True, None),
        ({"JobState": "RUNNING", "Requeue": "0"}, True, "submitted with --no-requeue"),
        ({"JobState": "RUNNING", "BatchFlag": "0"}, True, "no batch job"),
    ],
)
def test_which_jobs_go_back(shown: dict[str, str], has_trained: bool, reason: str | None) -> None:
    found = why_not({"Requeue": "1", "BatchFlag": "1", "PreemptTime": "None", **shown}, has_trained)
    assert found is None if reason is None else reason in str(found)


def test_a_running_job_goes_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol = FakeScontrol(tmp_path / "bin", RUNNING).put(monkeypatch)
    for _ in range(2):  # two of its processes
        assert requeue(JOB) == (True, "Job 17 is back in the queue.")
    assert scontrol.asked.count("requeue 17") == 1


@pytest.mark.parametrize(
    ("job", "script", "words"),
    [
        ("JobState=COMPLETING Reason=None Requeue=1 BatchFlag=1", "true", "it was cancelled."),
        (RUNNING, "echo 'Access denied.' >&2; exit 1", "Access denied."),
        (RUNNING, "exit 3", "exit code 3."),
    ],
)
def test_why_one_does_not_is_said(
    job: str, script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeScontrol(tmp_path / "bin", job, script).put(monkeypatch)
    assert requeue(JOB) == (False, f"Job 17 is not requeued: {words}")


def test_another_process_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks between our question and our request, which Slurm then refuses."""
    FakeScontrol(tmp_path / "bin", RUNNING, "echo 1 > restarts; echo 'Job is pending execution' >&2; exit 1").put(
        monkeypatch
    )
    assert requeue(JOB).is_done


def test_no_scontrol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a container, mostly."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert requeue(JOB) == (
        False,
        "Job 17 is not requeued: scontrol, which does that, is not here or does not answer.",
    )


def test_a_scheduler_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    scontrol = FakeScontrol(tmp_path / "bin", RUNNING).put(monkeypatch)
    (scontrol.folder / "scontrol").write_text("#!/bin/sh\nexec sleep 5\n")
    assert "does not answer" in requeue(JOB).words


def test_what_the_scheduler_sends_meanwhile_does_not_end_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It signals all processes of the job, so also the one that asks; ours hears it afterwards."""
    heard: list[int] = []
    before = {n: signal.signal(n, lambda number, _: heard.append(number)) for n in (signal.SIGTERM, signal.SIGUSR1)}
    script = "kill -TERM $$; kill -USR1 $$; kill -USR1 $PPID; echo 1 > restarts"
    FakeScontrol(tmp_path / "bin", RUNNING, script).put(monkeypatch)
    try:
        assert requeue(JOB).is_done
        assert heard == [signal.SIGUSR1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
