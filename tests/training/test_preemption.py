"""A scheduler wants the machine back: the run stops where it can go on, and the job's next start ends it as if nothing
had happened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_scontrol import RUNNING, FakeScontrol
from forked import started_cli
from small_runs import DIGITS, At, assert_bit_equal, last, rows, send, small_fit

from litscope.errors import Interrupted, Preempted, RunError
from litscope.live.records import epoch_rows, read_summary
from litscope.live.stop_requests import hear_early
from litscope.rundir import RunDir, append_line, read_lines
from litscope.training.fit import fit
from litscope.training.preemption import Preemption


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeScontrol:
    """This process is in job 17, which runs."""
    return FakeScontrol(tmp_path / "bin", RUNNING).put(monkeypatch)


def sends(*numbers: signal.Signals) -> Callable[[], None]:
    return lambda: [send(number)() for number in numbers] and None


def test_the_job_is_requeued_and_its_next_start_goes_on_bit_for_bit(
    scontrol: FakeScontrol, plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Several signals break nothing: Slurm itself sends two when the time is over, and another when a job goes back."""
    run = RunDir(tmp_path / "run")
    every = sends(signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM)
    with pytest.raises(
        Preempted, match=r"SIGUSR1\) at step 5; .*last\.ckpt is written\. Job 17 is back in the queue\.$"
    ) as end:
        small_fit(run.path, callbacks=[At(5, every)])
    assert (end.value.exit_code, end.value.is_requeued) == (75, True)
    assert scontrol.asked.count("requeue 17") == 1
    assert last(run.path)["global_step"] == 5
    summary = read_summary(run)
    assert summary is not None
    assert summary["status"] == "interrupted"

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    small_fit(run.path)
    assert f"job 17, restart 1: going on with {run.path}" in capsys.readouterr().err
    assert_bit_equal(last(run.path), last(plain_run))
    assert rows(run.path).equals(rows(plain_run))
    assert [row["step"] for row in epoch_rows(run)] == [row["step"] for row in epoch_rows(RunDir(plain_run))]
    assert [line["start_step"] for line in read_lines(run.attempts)] == [0, 5]

    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    before = {path: path.read_bytes() for path in run.path.rglob("*.ckpt")}
    small_fit(run.path)
    assert "is already finished" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.path.rglob("*.ckpt")} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "during", "settings"),
    [
        (1, "train", {"accumulate_grad_batches": 4}),
        (6, "train", {}),
        (6, "validation", {}),
        (7, "train", {"ema_decay": 0.9}),
        (12, "validation", {}),
        (12, "test", {"test_split": 0.1}),
    ],
)
def test_wherever_it_comes(
    step: int,
    during: str,
    settings: dict[str, Any],
    scontrol: FakeScontrol,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Preempted):
        small_fit(tmp_path / "run", **settings, callbacks=[At(step, sends(signal.SIGUSR1, signal.SIGUSR1), during)])
    assert scontrol.asked.count("requeue 17") == 1
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    small_fit(tmp_path / "run", **settings)
    monkeypatch.delenv("SLURM_JOB_ID")
    small_fit(tmp_path / "whole", **settings)
    assert_bit_equal(last(tmp_path / "run"), last(tmp_path / "whole"))
    assert rows(tmp_path / "run").equals(rows(tmp_path / "whole"))


def test_a_cancelled_job_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = "JobState=COMPLETING Reason=None Requeue=1 BatchFlag=1 PreemptTime=None"
    scontrol = FakeScontrol(tmp_path / "bin", job).put(monkeypatch)
    with pytest.raises(
        Interrupted, match=r"Job 17 is not requeued: it was cancelled\. To go on: litscope fit --resume"
    ) as end:
        small_fit(tmp_path / "run", callbacks=[At(5, send(signal.SIGTERM))])
    assert end.value.exit_code == 130
    assert not any(words.startswith("requeue") for words in scontrol.asked)


@pytest.mark.flag("requeue", "signal")
def test_who_does_not_want_to_come_back_does_not(scontrol: FakeScontrol, tmp_path: Path) -> None:
    with pytest.raises(Preempted, match=r"\(SIGHUP\) at step 3; .* To go on: litscope fit --resume") as end:
        small_fit(tmp_path / "run", signal="HUP", no_requeue=True, callbacks=[At(3, send(signal.SIGHUP))])
    assert (end.value.exit_code, end.value.is_requeued) == (75, False)
    assert scontrol.asked == []


def test_outside_of_a_job_the_command_that_goes_on_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(Preempted, match=r"\(SIGUSR1\) at step 5; .*written\. To go on: litscope fit --resume") as end:
        small_fit(tmp_path / "run", callbacks=[At(5, send(signal.SIGUSR1))])
    assert (end.value.exit_code, end.value.is_requeued) == (75, False)


@pytest.mark.slow
def test_a_script_s_own_handler_stays(scontrol: FakeScontrol, tmp_path: Path) -> None:
    """submitit has one, and requeues by itself."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        result = small_fit(tmp_path / "run", callbacks=[At(5, send(signal.SIGUSR1))])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    assert result.summary["global_step"] == 12
    assert scontrol.asked == []


def test_before_the_first_step_the_job_goes_back_too(scontrol: FakeScontrol) -> None:
    with (
        pytest.raises(Preempted, match=r"before the first step; nothing was trained .*Job 17 is back in the queue\."),
        hear_early(),
        Preemption(requeues=True).before_training(),
    ):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert scontrol.asked.count("requeue 17") == 1


def test_a_job_that_comes_no_further_start_after_start_is_left_to_its_user(
    scontrol: FakeScontrol, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told to end before its first step. A start that did come further counts anew."""
    run = RunDir("runs/mine")
    codes = []
    for restart in (0, 1, 3, 4, 5):
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
        (scontrol.folder / "restarts").write_text(str(restart))
        with (
            pytest.raises(Interrupted) as end,
            hear_early(),
            Preemption(requeues=True, run=run).before_training(),
        ):
            os.kill(os.getpid(), signal.SIGUSR1)
        codes.append(end.value.exit_code)
    assert codes == [75, 75, 75, 75, 130]
    assert scontrol.asked.count("requeue 17") == 4
    assert "Job 17 is not requeued: 3 starts in a row came no further" in str(end.value)


@pytest.mark.slow
def test_a_job_that_is_stopped_in_its_last_evaluation_each_time_is_left_too(
    scontrol: FakeScontrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start has trained; the next three only evaluate."""
    run = tmp_path / "run"
    for restart in range(4):
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
        (scontrol.folder / "restarts").write_text(str(restart))
        with pytest.raises(Interrupted) as end:
            small_fit(run, test_split=0.1, callbacks=[At(12, send(signal.SIGUSR1), "test")])
        assert isinstance(end.value, Preempted) == (restart < 3)
    assert scontrol.asked.count("requeue 17") == 3
    assert "3 starts in a row came no further" in str(end.value)
    assert f"To go on: litscope fit --resume {run}" in str(end.value)


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_command_hears_it_before_it_has_read_its_files(
    number: signal.Signals, scontrol: FakeScontrol, tmp_path: Path
) -> None:
    """A file that nobody writes to."""
    os.mkfifo(tmp_path / "slow.yaml")
    process = started_cli("fit", "digits", "--config", str(tmp_path / "slow.yaml"))
    with (tmp_path / "slow.yaml").open("wb"):  # returns when the other end reads
        process.send_signal(number)
        assert process.wait(60) == 75, process.stderr
    assert f"error: Preempted ({number.name}) before the first step" in process.stderr
    assert "Traceback" not in process.stderr
    assert scontrol.asked.count("requeue 17") == 1


@pytest.mark.slow
def test_a_job_whose_script_is_submitted_again_goes_on(
    scontrol: FakeScontrol, plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = RunDir(tmp_path / "run")
    with pytest.raises(Preempted):
        small_fit(run.path, callbacks=[At(5, sends(signal.SIGUSR1))])
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    with pytest.raises(RunError, match="already holds a run"):  # somebody else's job
        small_fit(run.path)
    for job in ("17", "18"):
        append_line(run.jobs, {"job": job, "num_tasks": None, "submitted_at": 0.0})
    small_fit(run.path)
    assert f"job 18: going on with {run.path}" in capsys.readouterr().err
    assert_bit_equal(last(run.path), last(plain_run))
    with pytest.raises(RunError, match="already holds a run"):  # it is finished
        small_fit(run.path)


@pytest.mark.slow
def test_another_recipe_in_the_folder_of_the_job_is_refused(
    scontrol: FakeScontrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Preempted):
        small_fit(tmp_path / "run", callbacks=[At(3, send(signal.SIGUSR1))])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(RunError, match=r"with another recipe: --lr 0\.1 instead of 0\.003\. Give another --run-dir"):
        small_fit(tmp_path / "run", lr=0.1)
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    with pytest.raises(RunError, match="already holds a run"):
        small_fit(tmp_path / "run")


@pytest.mark.slow
def test_without_a_name_the_run_of_the_job_is_found(
    scontrol: FakeScontrol, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below runs/, whatever the job trained beside it."""
    fit(**{**DIGITS, "epochs": 1})
    with pytest.raises(Preempted):
        fit(**DIGITS, callbacks=[At(3, send(signal.SIGUSR1))])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert fit(**{**DIGITS, "epochs": 1}).run.path == fit(**{**DIGITS, "epochs": 1}).run.path
    assert fit(**DIGITS).run.path == Path("runs/digits-convnet-2")
    assert len(list(Path("runs").iterdir())) == 2


@pytest.mark.slow
def test_a_job_that_trains_twice_goes_on_with_the_right_one(
    scontrol: FakeScontrol, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one line of its script gives and another leaves out, or gives as it would be anyway, tells them apart."""
    given = fit("iris", epochs=1, seed=43, lr=0.1).run.path
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    left_out = fit("iris", epochs=1, seed=43).run.path
    as_ever = fit("iris", epochs=1, seed=42, lr=0.1).run.path
    assert len({given, left_out, as_ever}) == 3
    assert fit("iris", epochs=1, seed=43, lr=0.1).run.path == given


def test_what_the_folder_of_the_job_has_and_its_next_start_does_not_is_named(
    scontrol: FakeScontrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit("iris", epochs=1, lr=0.1, run_dir=tmp_path / "run")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(RunError, match=r"with another recipe: --lr 0\.1 is missing\. Give another --run-dir"):
        fit("iris", epochs=1, run_dir=tmp_path / "run")
