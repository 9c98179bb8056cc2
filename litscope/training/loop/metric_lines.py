"""The lines of metrics/steps.jsonl and metrics/epochs.jsonl, and what the loggers are told. For rank 0."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L

from litscope.live.epoch_clock import EpochClock
from litscope.rundir import RunDir, append_line


def write_step(run: RunDir, trainer: L.Trainer, *, step: int, attempt: int, loss: float, rate: float) -> None:
    """One line about the steps since the last one, and the same to the loggers.

    Args:
        step: optimizer steps done.
        loss: mean over these steps.
        rate: learning rate of the last of them.
    """
    line = {"step": step, "epoch": trainer.current_epoch, "attempt": attempt}
    append_line(run.step_metrics, {**line, "train/loss": loss, "lr": rate})
    for logger in trainer.loggers:
        logger.log_metrics({"train/loss_step": loss, "lr": rate}, step=step)


def write_epoch(
    run: RunDir, trainer: L.Trainer, *, attempt: int, clock: EpochClock, num_samples: int, rate: float, num_edits: int
) -> dict[str, Any]:
    """One line about the epoch that has ended, and return it.

    Args:
        clock: of that epoch.
        num_samples: trained on, on all ranks.
        rate: learning rate of its last step.
        num_edits: edits of validation or test samples so far.
    """
    row = {
        "epoch": trainer.current_epoch,
        "step": trainer.global_step,
        "attempt": attempt,
        "num_samples": num_samples,
        "epoch_s": clock.epoch_s,
        "samples_per_s": num_samples / max(clock.train_s, 1e-9),
        "lr": rate,
        "num_edits": num_edits,
        **metric_values(trainer),
    }
    append_line(run.epoch_metrics, row)
    return row


def metric_values(trainer: L.Trainer) -> dict[str, float]:
    """The metrics of the last epoch or evaluation by name, as Python numbers. Waits for the device."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
