"""Ctrl-C and SIGTERM, in each phase of a run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as L
import pytest
from small_runs import DIGITS, At, last, rows, send, small_fit
from started_runs import start

from litscope.errors import Interrupted
from litscope.live.records import read_summary
from litscope.live.stop_requests import catch_stop_requests
from litscope.rundir import RunDir
from litscope.training.fit import fit


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_finishes_the_step_and_saves(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"step 5.*litscope fit --resume") as stopped:
        small_fit(tmp_path / "run", callbacks=[At(5, send(number))])
    assert stopped.value.exit_code == 130
    assert last(tmp_path / "run")["global_step"] == 5
    assert set(rows(tmp_path / "run")["step"].to_pylist()) == {0, 1, 2, 3, 4}, "the ledger is closed in order"
    summary = read_summary(RunDir(tmp_path / "run"))
    assert summary["status"] == "interrupted"
    assert summary["resume"] == f"litscope fit --resume {tmp_path / 'run'}"
    assert summary["checkpoints"]["last"] == str(RunDir(tmp_path / "run").last_checkpoint)
    assert signal.getsignal(number) is before, "the handlers are given back"


def test_inside_an_accumulated_step_it_waits_for_the_steps_end(tmp_path: Path) -> None:
    class AtBatch(At):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):  # type: ignore[no-untyped-def]
            if batch_idx == 1:
                self._maybe(trainer, "train")

    with pytest.raises(Interrupted, match="step 1;"):
        small_fit(tmp_path / "run", accumulate_grad_batches=4, callbacks=[AtBatch(0, send(signal.SIGTERM))])


@pytest.mark.slow
def test_while_testing(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="--resume"):
        small_fit(tmp_path / "run", test_split=0.1, callbacks=[At(12, send(signal.SIGINT), "test")])
    assert read_summary(RunDir(tmp_path / "run"))["status"] == "interrupted"
    result = fit(resume=str(tmp_path / "run"))
    assert "test/accuracy" in result.metrics
    assert (result.summary["global_step"], result.summary["epochs"]) == (12, 2)


@pytest.mark.slow
def test_without_save_last_an_interrupted_run_still_resumes(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        small_fit(tmp_path / "run", save_last=False, callbacks=[At(5, send(signal.SIGINT))])
    assert fit(resume=str(tmp_path / "run")).summary["global_step"] == 12


def test_before_training_it_is_a_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), catch_stop_requests():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_one_stops_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with catch_stop_requests() as stop_requests, stop_requests.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_requests.requested == "SIGINT"
        with pytest.raises(Interrupted, match="at once"):
            os.kill(os.getpid(), signal.SIGINT)
    assert "finishing this step" in capsys.readouterr().err


@contextmanager
def with_one_that_came_too_late(number: signal.Signals) -> Iterator[None]:
    """A training that is interrupted after its last look."""
    with catch_stop_requests() as stop_requests, stop_requests.deferred():
        os.kill(os.getpid(), number)
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_nobody_acted_on_reaches_the_loop_around(number: signal.Signals) -> None:
    trained = []
    with pytest.raises(KeyboardInterrupt), catch_stop_requests(), with_one_that_came_too_late(number):
        trained.append("to its end")
    assert trained == ["to its end"]


def test_a_loop_of_ones_own_around_fit_ends_too(tmp_path: Path) -> None:
    class AtTheEnd(L.Callback):
        def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
            if stage == "validate":
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        small_fit(tmp_path / "run", callbacks=[AtTheEnd()])
    assert read_summary(RunDir(tmp_path / "run"))["status"] == "finished"


def test_one_that_nobody_acted_on_leaves_a_finished_run_finished() -> None:
    with with_one_that_came_too_late(signal.SIGINT):
        pass


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """A real SIGINT from outside, at a time of its own choosing; the folder resumes."""
    process = start(tmp_path / "run", **{**DIGITS, "devices": "1", "strategy": "auto", "epochs": 500})
    run = RunDir(tmp_path / "run")
    deadline = time.monotonic() + 120
    while not run.last_checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130, words
    assert "Traceback" not in words
    step = last(run.path)["global_step"]
    assert fit(resume=str(run.path), max_steps=step + 3).summary["global_step"] == step + 3
