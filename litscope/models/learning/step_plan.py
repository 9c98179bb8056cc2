"""StepPlan: how many optimizer steps a run has, as Lightning's loops and the data tell it now."""

from __future__ import annotations

import math
from collections.abc import Callable

import lightning.pytorch as L

WARMUP_SHARE = 1 / 20
MOST_WARMUP_EPOCHS = 5.0
"""Default warm-up: a twentieth of the run, at most five epochs."""


class StepPlan:
    """The steps of a fit whose loaders are there.

    Args:
        trainer: in fit.
        epoch_batches: (first, stop) -> the batches expected in each of these epochs, for a run whose epochs differ in
            length; None: every epoch is as long as the current one.
    """

    def __init__(self, trainer: L.Trainer, epoch_batches: Callable[[int, int], list[int]] | None) -> None:
        self._trainer = trainer
        self._epoch_batches = epoch_batches

    def total(self, epochs_done: int, batches_done: int) -> int | None:
        """Steps taken before this epoch, and those of the epochs from here on; None for an open end.

        Earlier epochs may have been of another length (samples were discarded, the batch size changed).

        Args:
            epochs_done: epochs that are complete.
            batches_done: batches done in the current epoch; 0 at its start.
        """
        trainer = self._trainer
        ends = [trainer.max_steps] if trainer.max_steps > 0 else []
        if trainer.max_epochs is not None and trainer.max_epochs > 0 and not math.isinf(self._per_epoch()):
            before = trainer.global_step - math.ceil(batches_done / trainer.accumulate_grad_batches)
            ends.append(before + self._from(epochs_done, trainer.max_epochs))
        return min(ends, default=None)

    def warmup(self, total_steps: int | None, warmup_epochs: float | None) -> int:
        """Steps of the warm-up.

        Args:
            total_steps: steps of the whole run; None for an open end.
            warmup_epochs: as asked for; None for the default.
        """
        steps_per_epoch = self._of_whole_epoch()
        if math.isinf(steps_per_epoch):
            return 0
        if warmup_epochs is None:
            epochs = 0.0 if total_steps is None else total_steps / steps_per_epoch
            warmup_epochs = min(MOST_WARMUP_EPOCHS, epochs * WARMUP_SHARE)
        return round(warmup_epochs * steps_per_epoch)

    def hold(self) -> int:
        """Steps of the first epoch, where two more or an open end follow; else 0. See `schedule.factor`."""
        steps, epochs = self._of_whole_epoch(), self._trainer.max_epochs
        is_short = epochs is not None and 0 < epochs < 3
        return 0 if is_short or math.isinf(steps) else math.ceil(steps)

    def _per_epoch(self) -> float:
        return self._trainer.num_training_batches / self._trainer.accumulate_grad_batches

    def _of_whole_epoch(self) -> float:
        if self._epoch_batches is None:
            return self._per_epoch()
        return self._epoch_batches(0, 1)[0] / self._trainer.accumulate_grad_batches

    def _from(self, epoch: int, stop: int) -> int:
        """Steps of the epochs from `epoch`, which is the current or the next one, to `stop`."""
        this, accumulated = math.ceil(self._per_epoch()), self._trainer.accumulate_grad_batches
        if self._epoch_batches is None:
            return this * (stop - epoch)
        return this + sum(math.ceil(batches / accumulated) for batches in self._epoch_batches(epoch + 1, stop))
