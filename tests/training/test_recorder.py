"""What is recorded of a run besides signals: losses, clocks, lines; and what stops it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from small_runs import DIGITS, IRIS, At, last, rows, small_fit

from litscope.errors import LedgerError, NonFiniteLossError
from litscope.ledger.reader import LedgerReader
from litscope.live.epoch_clock import EpochClock
from litscope.live.records import epoch_rows, read_summary
from litscope.rundir import RunDir, read_lines
from litscope.training.loop.loss_watch import LossWatch
from litscope.training.loop.progress import Progress


class Poison(L.Callback):
    """Makes the inputs of one step infinite."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.sample_ids: list[int] = []

    def on_train_batch_start(self, trainer: L.Trainer, _module: L.LightningModule, batch: Any, _idx: int) -> None:
        if trainer.global_step == self.step:
            batch["image"].fill_(float("inf"))
            self.sample_ids = batch["sample_id"].tolist()


class FailingSetup(L.Callback):
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        raise RuntimeError("mine")


def test_what_fails_before_the_recorder_is_set_up_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        small_fit(tmp_path / "run", IRIS, callbacks=[FailingSetup()])


@pytest.mark.parametrize("log_every_n_steps", [1, 1000])
def test_a_loss_that_is_not_finite_stops_the_run(log_every_n_steps: int, tmp_path: Path) -> None:
    poison = Poison(8)
    with pytest.raises(NonFiniteLossError, match=r"at step 8 \(epoch 2\)") as failed:
        small_fit(tmp_path / "run", callbacks=[poison], log_every_n_steps=log_every_n_steps)
    assert failed.value.exit_code == 1
    assert ", ".join(map(str, poison.sample_ids)) in str(failed.value)
    assert last(tmp_path / "run")["global_step"] == 6, "the checkpoint before it stays"
    assert all(torch.isfinite(v).all() for v in last(tmp_path / "run")["state_dict"].values())
    summary = read_summary(RunDir(tmp_path / "run"))
    assert (summary["status"], summary["message"]) == ("failed", str(failed.value))


def test_the_first_bad_batch_is_named() -> None:
    watch = LossWatch([f"key{i}" for i in range(100)])
    for step, loss in enumerate([1.0, 2.0, float("nan"), float("inf")]):
        watch.add(torch.tensor(loss), torch.tensor([10 * step, 10 * step + 1]), step=step, epoch=0)
    with pytest.raises(NonFiniteLossError, match=r"became nan at step 2 .* 20, 21\. .*20 \(key20\), 21 \(key21\)"):
        watch.look()


def test_the_mean_covers_all_batches_since_it_was_taken() -> None:
    watch = LossWatch()
    assert watch.take_mean() is None
    for loss in (1.0, 3.0):
        watch.add(torch.tensor(loss), torch.tensor([0]), step=0, epoch=0)
    watch.look()
    watch.add(torch.tensor(5.0), torch.tensor([0]), step=0, epoch=0)
    assert watch.take_mean() == 3.0
    assert watch.take_mean() is None


@pytest.mark.flag("log_every_n_steps", "accumulate_grad_batches")
def test_lines_of_steps(tmp_path: Path) -> None:
    class Losses(L.Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_train_batch_end(self, _t: L.Trainer, _m: L.LightningModule, outputs: Any, *_: Any) -> None:
            self.losses.append(float(outputs["sample_loss"].mean()))

    seen = Losses()
    small_fit(tmp_path / "run", log_every_n_steps=2, accumulate_grad_batches=2, epochs=1, callbacks=[seen])
    lines = read_lines(RunDir(tmp_path / "run").step_metrics)
    assert [line["step"] for line in lines] == [2, 3], "every second step, and the epoch's last"
    assert lines[0]["train/loss"] == pytest.approx(np.mean(seen.losses[:4]))
    assert lines[1]["train/loss"] == pytest.approx(np.mean(seen.losses[4:]))
    assert all(line["lr"] > 0 and line["attempt"] == 1 and line["epoch"] == 0 for line in lines)


def test_lines_of_epochs_have_time_and_speed(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run")
    lines = epoch_rows(result.run)
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, 6), (1, 12)]
    for line in lines:
        assert 0 < line["epoch_s"] < 60
        assert line["samples_per_s"] > 6 * 32 / line["epoch_s"] * 0.99, "validation does not count as training time"
        assert {"train/loss", "val/loss", "val/auroc", "val/ap", "val/f1"} <= line.keys()
    assert result.summary["epoch_s"] == [round(line["epoch_s"], 3) for line in lines]
    assert result.summary["samples_per_s"] > 0


def test_a_clock_goes_on_after_an_interruption() -> None:
    clock = EpochClock()
    clock.start({"epoch_s": 100.0, "train_s": 60.0, "num_samples": 7.0})
    assert 100 <= clock.epoch_s < 101
    assert 60 <= clock.train_s < 61
    clock.training_ends()
    assert clock.train_s == clock.train_s
    assert clock.state()["num_samples"] == 7


@pytest.mark.flag("max_steps")
def test_max_steps_validates_before_it_ends(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", max_steps=8)
    assert (result.summary["global_step"], result.summary["epochs"]) == (8, 1)
    assert [line["step"] for line in epoch_rows(result.run)] == [6, 8]
    assert len(rows(tmp_path / "run", split="val")) == 2 * 96


@pytest.mark.slow
@pytest.mark.flag("max_time")
def test_max_time_counts_earlier_attempts(tmp_path: Path) -> None:
    from litscope.training.fit import fit

    result = small_fit(tmp_path / "run", epochs=100_000, max_time="1s")
    steps = result.summary["global_step"]
    assert steps > 0
    assert last(tmp_path / "run")["litscope"]["elapsed_s"] >= 1
    again = fit(resume=str(tmp_path / "run"), epochs=100_001)
    assert again.summary["global_step"] <= steps + 1


@pytest.mark.slow
@pytest.mark.flag("max_time")
def test_max_time_with_epochs_of_one_step(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", epochs=100_000, max_time="0.5s", limit_train_batches=1)
    assert 0 < result.summary["epochs"] == result.summary["global_step"] < 1000


@pytest.mark.flag("progress")
def test_one_plain_line_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_fit(tmp_path / "run", IRIS)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3
    assert re.match(
        r"epoch 1/3  train/loss [\d.]+  val/loss [\d.]+  val/accuracy [\d.]+  [\d.]+ s  [\d,]+ samples/s", lines[0]
    )
    assert "lightning" not in err.lower()


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("litscope.training.loop.progress.is_terminal", lambda: True)
    monkeypatch.setattr("litscope.training.loop.progress.REDRAW_S", 0.0)
    progress = Progress(show=True, bar=True)
    progress.start("epoch 1/2", 10, done=3)
    progress.advance()
    assert progress._bar.tasks[0].completed == 4
    progress.stop()
    assert progress._bar is None


def test_signals_older_than_a_few_seconds_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While training goes on, and without a checkpoint."""
    monkeypatch.setattr("litscope.training.loop.recording.FLUSH_S", 0.0)
    counts: list[int] = []
    run = RunDir(tmp_path / "run")

    def count() -> None:
        import time

        deadline = time.monotonic() + 20
        while not (found := len(LedgerReader(run).table(["step"]))) and time.monotonic() < deadline:
            time.sleep(0.01)
        counts.append(found)

    small_fit(tmp_path / "run", callbacks=[At(5, count)])
    assert counts[0] >= 32


def test_before_a_checkpoint_all_earlier_rows_are_durable(tmp_path: Path) -> None:
    found: list[set[int]] = []

    class AtSave(L.Callback):
        """Its hook comes before the recorder's, so it looks at the file after it was written: at the next batch."""

        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            run = RunDir(tmp_path / "run")
            if run.last_checkpoint.exists() and not found:
                found.append(set(LedgerReader(run).table(["step"], split="train")["step"].to_pylist()))

    small_fit(tmp_path / "run", callbacks=[AtSave()])
    assert found == [set(range(6))]


def test_a_ledger_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    def take_away() -> None:
        run = RunDir(tmp_path / "run")
        for part in run.signals.iterdir():
            part.unlink()
        run.signals.rmdir()
        run.signals.write_text("no folder")

    with pytest.raises(LedgerError):
        small_fit(tmp_path / "run", callbacks=[At(8, take_away)])
    assert read_summary(RunDir(tmp_path / "run"))["status"] == "failed"


def test_rows_say_split_phase_step_and_epoch(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", test_split=0.1)
    table = rows(tmp_path / "run").to_pylist()
    train = [r for r in table if r["split"] == "train"]
    assert {(r["step"] // 6, r["phase"]) for r in train} == {(r["epoch"], r["phase"]) for r in train}
    assert {r["phase"] for r in train} == {"train"}
    assert {(r["step"], r["epoch"]) for r in table if r["split"] == "val"} == {(6, 0), (12, 1)}
    assert {(r["step"], r["epoch"], r["phase"]) for r in table if r["split"] == "test"} == {(12, 1, "eval")}
    assert sum(r["split"] == "test" for r in table) == result.summary["num_samples"]["test"]


@pytest.mark.flag("overfit_batches")
def test_overfitted_batches_are_recorded_as_training_samples(tmp_path: Path) -> None:
    small_fit(tmp_path / "run", {**DIGITS, "limit_train_batches": None, "limit_val_batches": None}, overfit_batches=2)
    table = rows(tmp_path / "run").to_pylist()
    assert {r["split"] for r in table} == {"train"}
    assert len({r["sample_id"] for r in table if r["phase"] == "train"}) == 64


def test_metrics_files_are_json_lines(tmp_path: Path) -> None:
    small_fit(tmp_path / "run", IRIS)
    for path in (RunDir(tmp_path / "run").epoch_metrics, RunDir(tmp_path / "run").step_metrics):
        for line in path.read_text().splitlines():
            assert json.loads(line)["attempt"] == 1
