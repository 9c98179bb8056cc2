"""The lines of metrics/*.jsonl and summary.json, whoever writes them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from small_runs import IRIS, small_fit
from watched import Module, loaders, trainer

from litscope.attempts import begin_attempt
from litscope.live.epoch_clock import EpochClock
from litscope.live.records import (
    COLUMNS,
    Ending,
    epoch_rows,
    metric_facts,
    metrics_in,
    read_summary,
    write_epoch,
    write_step,
    write_summary,
)
from litscope.rundir import RunDir, read_lines
from litscope.watch import Scope


def clock(epoch_s: float, train_s: float) -> EpochClock:
    found = EpochClock()
    found.start({"epoch_s": epoch_s, "train_s": train_s})
    found.training_ends()
    return found


def add_epoch(run: RunDir, epoch: int, attempt: int = 1, num_edits: int = 0, **metrics: float) -> dict[str, object]:
    return write_epoch(
        run,
        epoch=epoch,
        step=10 * (epoch + 1),
        attempt=attempt,
        clock=clock(5.0, 4.0),
        num_samples=100,
        lr=0.1,
        num_edits=num_edits,
        metrics=metrics,
    )


def test_a_line_of_steps(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_step(run, step=50, epoch=2, attempt=3, loss=0.5, lr=None)
    assert read_lines(run.step_metrics) == [{"step": 50, "epoch": 2, "attempt": 3, "train/loss": 0.5, "lr": None}]


def test_a_line_of_epochs(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    row = add_epoch(run, 0, **{"val/loss": 0.25, "lr": 7.0, "mine": 3.0})
    assert tuple(row)[: len(COLUMNS)] == COLUMNS
    assert (row["lr"], row["epoch_s"], row["samples_per_s"]) == (
        0.1,
        pytest.approx(5, abs=0.1),
        pytest.approx(25, abs=0.1),
    )
    assert metrics_in(row) == {"val/loss": 0.25, "mine": 3.0}, "a metric does not take the place of a column"
    assert read_lines(run.epoch_metrics) == [json.loads(json.dumps(row))]


def test_what_a_later_attempt_repeated_is_left_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    begin_attempt(run, 0, None)
    for epoch in (0, 1):
        add_epoch(run, epoch)
    begin_attempt(run, 10, "last.ckpt")
    add_epoch(run, 1, attempt=2, **{"val/loss": 0.5})
    assert [(row["epoch"], row["attempt"]) for row in epoch_rows(run)] == [(0, 1), (1, 2)]


def ending(monitor: str | None) -> Ending:
    return Ending(
        status="finished",
        message="",
        wall_s=1.23456,
        epochs=3,
        global_step=30,
        classes=("a", "b"),
        num_samples={"train": 3, "val": 2, "test": 1},
        num_devices=2,
        monitor=monitor,
        mode="max" if monitor else None,
        tested={"test/f1": 0.7},
        facts={"dataset": "mine"},
    )


@pytest.mark.parametrize(("monitor", "best"), [("val/f1", 1), (None, 2)])
def test_a_summary(monitor: str | None, best: int, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    begin_attempt(run, 0, None)
    scores = (0.2, 0.9, 0.5)
    for epoch, score in enumerate(scores):
        add_epoch(run, epoch, **{"val/f1": score})
    assert read_summary(run) is None
    summary = write_summary(run, ending(monitor))
    assert read_summary(run) == summary
    assert summary["metrics"] == {"final": {"val/f1": 0.5}, "best": {"val/f1": scores[best], "test/f1": 0.7}}
    assert (summary["best_epoch"], summary["wall_s"], summary["dataset"]) == (best, 1.235, "mine")
    assert (summary["epochs"], summary["global_step"], summary["num_devices"]) == (3, 30, 2)
    assert summary["checkpoints"] == {"last": None, "best": None, "kept": []}
    assert summary["monitored"] == ({"val/f1": 0.9, "test/f1": 0.7} if monitor else {})


def test_times_of_a_summary_are_in_milliseconds_and_rates_in_tenths() -> None:
    lines = [{"epoch": i, "epoch_s": s, "samples_per_s": r} for i, s, r in ((0, 1.23456, 100.0), (1, 2.0004, 100.47))]
    facts = metric_facts(lines, None, None)
    assert (facts["epoch_s"], facts["samples_per_s"]) == ([1.235, 2.0], 100.2)


def test_metrics_from_before_an_edit_are_of_other_data(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    begin_attempt(run, 0, None)
    for epoch, (score, num_edits) in enumerate([(0.9, 0), (0.5, 1), (0.4, 1)]):
        add_epoch(run, epoch, num_edits=num_edits, **{"val/f1": score})
    assert write_summary(run, ending("val/f1"))["best_epoch"] == 1


def test_a_line_without_numbers_is_json(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    add_epoch(run, 0, **{"val/loss": math.nan})
    assert json.loads(run.epoch_metrics.read_text())["val/loss"] is None


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning")
def test_a_fit_and_a_watched_run_write_the_same_names(tmp_path: Path) -> None:
    ours = small_fit(tmp_path / "fit", IRIS, epochs=1).run
    trainer(Scope(tmp_path / "watched")).fit(Module(), *loaders())
    theirs = RunDir(tmp_path / "watched")
    for run in (ours, theirs):
        assert set(COLUMNS) <= set(epoch_rows(run)[-1])
        assert set(read_lines(run.step_metrics)[-1]) == {"step", "epoch", "attempt", "train/loss", "lr"}
    one, two = read_summary(ours), read_summary(theirs)
    assert one is not None
    assert two is not None
    known_to_fit = {"dataset", "arch", "num_parameters", "device", "precision", "resume", "confused_pairs", "hardest"}
    known_to_fit |= {"near_duplicates", "global_batch_size", "peak_lr", "ensemble"}
    assert set(one) - set(two) == known_to_fit
    assert not set(two) - set(one)
