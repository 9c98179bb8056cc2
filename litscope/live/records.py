"""The records of a run that people and programs read: the lines of metrics/*.jsonl, and summary.json. Their one writer.

Whoever runs the loop writes through these functions, `litscope fit` and `litscope.watch` alike, so that a line and a
summary have the same names wherever they come from. Epochs are stored from 0; texts count them from 1. No torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from litscope.attempts import valid_lines
from litscope.defaults import monitored
from litscope.live.epoch_clock import EpochClock
from litscope.rundir import RunDir, append_line, read_lines, write_json

OF_RANKS = ("gpu_use", "cpu_use", "peak_memory_bytes", "data_wait")
"""What a line of metrics/epochs.jsonl holds of each process, in a list by rank; see `device_use.Use`."""

COLUMNS = ("epoch", "step", "attempt", "num_samples", "epoch_s", "samples_per_s", "lr", "num_edits", *OF_RANKS)
"""What a line of metrics/epochs.jsonl holds beside the metrics."""

SPLITS = ("train", "val", "test")

Row = dict[str, Any]

# ---- lines -----------------------------------------------------------------------------------------


def write_step(run: RunDir, *, step: int, epoch: int, attempt: int, loss: float, lr: float | None) -> None:
    """Append a line to metrics/steps.jsonl.

    Args:
        step: optimizer steps done.
        epoch: the current epoch, from 0.
        attempt: number of the run's attempt, from 1.
        loss: mean over the steps since the line before.
        lr: learning rate of the last of them; None where it is not known.
    """
    line = {"step": step, "epoch": epoch, "attempt": attempt}
    append_line(run.step_metrics, {**line, "train/loss": loss, "lr": lr})


def write_values(run: RunDir, *, step: int, epoch: int, attempt: int, values: Mapping[str, float]) -> None:
    """Append a line to metrics/steps.jsonl with numbers that a script named itself.

    Args:
        step: optimizer steps done.
        epoch: the current epoch, from 0.
        attempt: number of the run's attempt, from 1.
        values: by name; one with the name of a column is left out.
    """
    own = {name: defined(value) for name, value in metrics_in(values).items()}
    append_line(run.step_metrics, {"step": step, "epoch": epoch, "attempt": attempt, **own})


def write_epoch(
    run: RunDir,
    *,
    epoch: int,
    step: int,
    attempt: int,
    clock: EpochClock,
    num_samples: int,
    lr: float | None,
    num_edits: int,
    metrics: Mapping[str, float],
    uses: Sequence[Sequence[float | None]] = (),
) -> Row:
    """Append a line to metrics/epochs.jsonl, and return it.

    Args:
        epoch: the epoch that is over, from 0.
        step: optimizer steps done.
        attempt: number of the run's attempt, from 1.
        clock: the epoch's clock.
        num_samples: samples trained on, on all ranks.
        lr: learning rate of its last step; None where it is not known.
        num_edits: edits of validation or test samples so far.
        metrics: by name; one with the name of a column is left out.
        uses: of each rank, the values of `OF_RANKS`; empty where nobody measured them.
    """
    row: Row = {
        "epoch": epoch,
        "step": step,
        "attempt": attempt,
        "num_samples": num_samples,
        "epoch_s": clock.epoch_s,
        "samples_per_s": num_samples / max(clock.train_s, 1e-9),
        "lr": lr,
        "num_edits": num_edits,
        **_by_rank(uses),
    }
    row |= metrics_in({name: defined(value) for name, value in metrics.items()})
    append_line(run.epoch_metrics, row)
    return row


def _by_rank(uses: Sequence[Sequence[float | None]]) -> dict[str, list[float | None] | None]:
    """Name -> a value of each rank; None where none is known."""
    if not uses:
        return dict.fromkeys(OF_RANKS)
    columns = [list(values) for values in zip(*uses, strict=True)]
    found = zip(OF_RANKS, columns, strict=True)
    return {name: None if all(value is None for value in values) else values for name, values in found}


def defined(value: float) -> float | None:
    """A metric as it is written, compared and shown: None where it is undefined (the AUROC of an absent class)."""
    return value if math.isfinite(value) else None


def metrics_in(row: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a line of metrics/epochs.jsonl."""
    return {name: value for name, value in row.items() if name not in COLUMNS}


def epoch_rows(run: RunDir) -> list[Row]:
    """The valid lines of metrics/epochs.jsonl, by epoch, without what a later attempt repeated."""
    rows = valid_lines(read_lines(run.epoch_metrics), read_lines(run.attempts))
    return list({row["epoch"]: row for row in rows}.values())


# ---- summary.json ----------------------------------------------------------------------------------

Status = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Ending:
    """How a run ended, and what is in it.

    Attributes:
        status: finished, interrupted or failed.
        message: why, if it did not finish.
        wall_s: seconds of this attempt.
        epochs: number of complete epochs, earlier attempts included.
        global_step: optimizer steps so far.
        classes: their names.
        num_samples: by split: train, val, test.
        num_devices: number of devices on all machines.
        checkpoints: paths: last, best, and all that are kept.
        monitor: metric by which the best epoch is chosen; None: the last one.
        mode: "min" or "max" of it.
        best_epoch: that of the weights in `checkpoints["best"]`, from 0; None: the best by the monitor.
        tested: metrics of the test set with the best weights.
        facts: what only this kind of run knows, by name.
    """

    status: Status
    message: str
    wall_s: float
    epochs: int
    global_step: int
    classes: Sequence[str]
    num_samples: Mapping[str, int]
    num_devices: int
    checkpoints: Mapping[str, Any] = field(default_factory=lambda: {"last": None, "best": None, "kept": []})
    monitor: str | None = None
    mode: str | None = None
    best_epoch: int | None = None
    tested: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_summary(run: RunDir, ending: Ending) -> dict[str, Any]:
    """Write summary.json, and return what it holds."""
    summary: dict[str, Any] = {
        "status": ending.status,
        "message": ending.message,
        "name": run.path.name,
        "run_dir": str(run.path),
        "classes": list(ending.classes),
        "num_samples": {split: ending.num_samples[split] for split in SPLITS},
        "epochs": ending.epochs,
        "global_step": ending.global_step,
        "monitor": ending.monitor,
        "mode": ending.mode,
        **metric_facts(epoch_rows(run), ending.monitor, ending.mode, ending.best_epoch),
        "checkpoints": dict(ending.checkpoints),
        "num_devices": ending.num_devices,
        "wall_s": round(ending.wall_s, 3),
        **ending.facts,
    }
    summary["metrics"]["best"] |= {name: defined(value) for name, value in ending.tested.items()}
    summary["monitored"] = monitored(summary["metrics"]["best"], ending.monitor)
    write_json(run.summary, summary)
    return summary


def read_summary(run: RunDir) -> dict[str, Any] | None:
    """The summary of a run, or None if it has none (it is running, or was killed)."""
    if not run.summary.exists():
        return None
    summary: dict[str, Any] = json.loads(run.summary.read_text())
    return summary


def metric_facts(
    rows: Sequence[Row], monitor: str | None, mode: str | None, best_epoch: int | None = None
) -> dict[str, Any]:
    """Final and best metrics from the epochs' lines.

    Args:
        best_epoch: the best one, where it is known; else the monitor decides.

    Returns:
        metrics {"final", "best"}, best_epoch (from 0; None without epochs), epoch_s, samples_per_s
        (mean over the epochs).
    """
    if not rows:
        return {"metrics": {"final": {}, "best": {}}, "best_epoch": None, "epoch_s": [], "samples_per_s": None}
    best = next((row for row in rows if row["epoch"] == best_epoch), None) or best_row(rows, monitor, mode)
    return {
        "metrics": {"final": metrics_in(rows[-1]), "best": metrics_in(best)},
        "best_epoch": best["epoch"],
        "epoch_s": [round(row["epoch_s"], 3) for row in rows],
        "samples_per_s": round(sum(row["samples_per_s"] for row in rows) / len(rows), 1),
    }


def best_row(rows: Sequence[Row], monitor: str | None, mode: str | None) -> Row:
    """The best epoch by a metric. Of epochs before samples of val or test were edited, metrics are of other data."""
    scored = [
        row
        for row in rows
        if monitor and row.get(monitor) is not None and row.get("num_edits", 0) == rows[-1].get("num_edits", 0)
    ]
    choose = min if mode == "min" else max
    return choose(scored, key=lambda row: row[str(monitor)]) if scored else rows[-1]
