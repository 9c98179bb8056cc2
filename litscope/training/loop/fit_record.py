"""FitRecord: the record of a fit in progress: what has been trained, what is still due, what is written down.

It exists, complete, from the start of training on. The `Recorder` tells it of batches and epochs, and decides about
saving and stopping; what a checkpoint must know about both is here. For each training batch, signals are added to a
block on the device, the loss is kept, and a few Python numbers change. Nothing is read from the device except where a
number is written down.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import lightning.pytorch as L
import torch

from litscope.data.loader import num_stacked
from litscope.lightning_internals import start_a_whole_epoch, validate_where_it_stands
from litscope.live.device_use import DeviceUse
from litscope.live.epoch_clock import EpochClock
from litscope.live.records import Row, write_epoch, write_step
from litscope.live.steered import Moment
from litscope.live.stop_requests import StopRequests
from litscope.training.loop.checkpoints import Position, position_of, random_state
from litscope.training.loop.clean_pass import clean_pass
from litscope.training.loop.last_losses import LastLosses
from litscope.training.loop.loss_watch import LossWatch
from litscope.training.loop.rank_states import take_up_metrics, take_up_random
from litscope.training.loop.recording import Recording
from litscope.training.loop.trainer_parts import classifier_of, data_of, metrics_of
from litscope.types import Batch, StepOutput


class FitRecord:
    """What is on record of a fit, and where it stands.

    Args:
        trainer: in `fit`, whose training starts.
        recording: where it is written.
        stop_requests: one of them ends a clean pass early.
        ledger: whether signals are recorded.

    Attributes:
        data, module: what is trained.
        clock, use: of the epoch that runs: its time, and what this process makes of its device.
        step: optimizer steps done.
        is_training_over: whether the training of the epoch is over: its batches are trained, or the run ends here.
        is_validation_due: that is so, and its validation is not over.
        is_clean_pass_due: the same for its clean pass, which blended training rows need.
        is_line_due: the same for its line in metrics/epochs.jsonl.
    """

    def __init__(self, trainer: L.Trainer, recording: Recording, stop_requests: StopRequests, ledger: bool) -> None:
        self.data, self.module = data_of(trainer), classifier_of(trainer)
        self.clock = EpochClock()
        self.step = trainer.global_step
        self.is_training_over = self.is_validation_due = self.is_clean_pass_due = self.is_line_due = False
        self._trainer, self._recording, self._stop_requests = trainer, recording, stop_requests
        self._is_blended = bool(self.data.settings.mixup or self.data.settings.cutmix)
        self._has_clean_passes = self._is_blended and ledger
        self.use = DeviceUse(trainer.strategy.root_device)
        self._losses = LossWatch(self.data.manifest.table["key"], self.module.lost_members)
        learner, device = self.data.pruning or self.data.selection, trainer.strategy.root_device
        self._last_losses = None if learner is None else LastLosses(learner, device, recording.ranks)
        self._rate = 0.0
        self._cut_metrics: dict[str, float] | None = None
        self._random_before_validation = random_state()

    # ---- where it stands -----------------------------------------------------------------------

    def position(self) -> Position:
        """The position of a checkpoint that is written now."""
        return position_of(self.data.position(), self.is_validation_due)

    @property
    def last_epoch(self) -> int:
        """The epoch of the last training batch, from 0; 0 before the first."""
        position = self.position()
        return position.epoch if position.batches_done else max(0, position.epoch - 1)

    @property
    def epoch(self) -> int:
        """The epoch that runs or has just ended. (Lightning's own count has moved on where a run is resumed there.)"""
        return self.last_epoch if self.is_training_over else self.position().epoch

    def moment(self, is_validating: bool = False) -> Moment:
        """The moment of actions that are applied now."""
        batches_done = int(self.data.position()["batches_done"])
        return Moment(self._trainer.global_step, self.epoch, batches_done, self.is_training_over, is_validating)

    def take_up(self, restored: dict[str, Any]) -> None:
        """Go on where a checkpoint was taken. Last of all: the random state.

        Args:
            restored: what `state` returned.
        """
        position, ranks = Position(**restored["position"]), self._recording.ranks
        self._rate = restored["lr"]
        self.is_validation_due = position.stage == "validate"
        self.is_clean_pass_due = self._has_clean_passes and restored["is_clean_pass_due"]
        self._cut_metrics = restored.get("ended_with")
        self.is_line_due = self.is_validation_due or self._cut_metrics is not None
        self.is_training_over = self.is_line_due or self.is_clean_pass_due
        if position.stage == "end":
            start_a_whole_epoch(self._trainer)
        else:
            take_up_metrics(self.module, restored["train_metrics"], ranks)
            self.start_bar(position.batches_done)
        if self.is_validation_due:
            validate_where_it_stands(self._trainer)  # the epoch may have had other samples than now
        self.clock.start(restored["clock"])
        self.use.start(self.data.waited_s)
        if self.is_training_over:
            self.clock.training_ends()
        self._random_before_validation = take_up_random(restored["random"], ranks)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, from all ranks: plain values and tensors.

        Raises:
            NonFiniteLossError: if the loss was not finite since the last look.
            LedgerError: if the signals so far could not be written; they are on the disk when this returns.
        """
        self._losses.look()
        self._recording.capture.flush(wait=True)
        self.merge_last_losses()
        position, pruning, selection = self.position(), self.data.pruning, self.data.selection
        ranks = self._recording.ranks
        random = self._random_before_validation if position.stage == "validate" else random_state()
        is_end_cut = self.is_line_due and not self.is_validation_due
        return {
            "step": self._trainer.global_step,
            "position": asdict(position),
            "random": ranks.gather(random),
            "lr": self._rate,
            "clock": self.clock.state(),
            "is_clean_pass_due": self.is_clean_pass_due,
            "ended_with": self._epoch_metrics() if is_end_cut else None,
            "pruning": {} if pruning is None else pruning.state(),
            "selection": {} if selection is None else selection.state(),
            "train_metrics": ranks.gather(self.module.metric_state()),
        }

    # ---- training ------------------------------------------------------------------------------

    def epoch_starts(self) -> None:
        """Note that an epoch begins."""
        self.is_training_over, self._cut_metrics = False, None
        self.clock.start()
        self.use.start(self.data.waited_s)
        self.start_bar(0)

    def start_bar(self, done: int) -> None:
        """Begin the epoch's bar, with `done` batches already behind."""
        trainer = self._trainer
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        what = f"epoch {trainer.current_epoch + 1}{of}"
        self._recording.progress.start(what, int(trainer.num_training_batches), done)

    def batch_starts(self) -> None:
        """Note the step's learning rate: at the step's end the schedule has moved on."""
        self._rate = float(self._trainer.optimizers[0].param_groups[0]["lr"])

    def add(self, output: StepOutput, batch: Batch) -> bool:
        """Record a batch that was trained on, or a stack of them; returns whether that ended an optimizer step."""
        trainer, capture = self._trainer, self._recording.capture
        before, self.step = self.step, trainer.global_step
        epoch, ids = trainer.current_epoch, batch["sample_id"]
        if ids.ndim == 2:
            window = trainer.accumulate_grad_batches
            self._rate = self.module.steps.lr
            if not self._is_blended:
                capture.add_stack(output, step=before, batches_per_step=window, epoch=epoch)
            self._losses.add_stack(output["loss"], ids, step=before, batches_per_step=window, epoch=epoch)
        else:
            if not self._is_blended:
                capture.add(output, step=before, epoch=epoch, split="train", phase="train")
            self._losses.add(output["loss"], ids, step=before, epoch=epoch)
        if self._last_losses is not None:
            self._last_losses.add(output)
        self.clock.num_samples += ids.numel()
        self.use.look()
        self._recording.progress.advance(num_stacked(batch))
        return self.step != before

    def training_ends(self) -> None:
        """Note that the epoch's last training batch is done; validation comes next, if there is one."""
        self.write_step()
        self.is_training_over = True
        self.clock.training_ends()
        self.use.training_ends(self.data.waited_s)
        self.is_clean_pass_due, self.is_line_due = self._has_clean_passes, True
        self.is_validation_due = num_val_batches(self._trainer) > 0
        if self.is_validation_due:
            self._random_before_validation = random_state()

    def merge_last_losses(self) -> None:
        """Tell pruning or selection, on all ranks, what each of them saw. Every rank comes here at the same moment."""
        if self._last_losses is not None:
            self._last_losses.merge()

    def clean_pass(self) -> None:
        """Record the training samples as an evaluation sees them, because their own rows are blended.

        A stop request cuts the pass, which then stays due. Several ranks have unequal shares and cannot agree on a stop
        within the pass; they finish it.
        """
        add, is_alone = self._recording.capture.add, self._recording.ranks.world_size == 1
        step, epoch = self._trainer.global_step, self.epoch
        self.is_clean_pass_due = not clean_pass(
            self._trainer,
            self.module,
            self.data.active_ids("train"),
            lambda output: add(output, step=step, epoch=epoch, split="train", phase="eval"),
            lambda: is_alone and self._stop_requests.requested is not None,
        )

    # ---- lines ---------------------------------------------------------------------------------

    def write_step(self) -> None:
        """Write down the mean loss since the last time, over all ranks, and tell the loggers. Here a step waits for the
        device, and each rank for the slowest.
        """
        loss, trainer, ranks = self._losses.take_mean(), self._trainer, self._recording.ranks
        if loss is None:
            return
        loss = float(ranks.sum(torch.tensor(loss, dtype=torch.float64))) / ranks.world_size
        if not trainer.is_global_zero:
            return
        loss *= trainer.accumulate_grad_batches  # Lightning's loss is divided by it
        self._recording.claim.check()
        where = {"step": self.step, "epoch": trainer.current_epoch, "attempt": self._recording.attempt}
        write_step(self._recording.run, **where, loss=loss, lr=self._rate)
        for logger in trainer.loggers:
            logger.log_metrics({"train/loss_step": loss, "lr": self._rate}, step=self.step)

    def write_epoch(self, num_edits: int) -> Row | None:
        """Write the line of the epoch that is over, once its signals are on the disk, and print it.

        Args:
            num_edits: edits of validation or test samples so far.

        Returns:
            The line, on the first rank.
        """
        trainer, recording = self._trainer, self._recording
        recording.capture.flush(wait=True)
        self.is_line_due = False
        of_ranks = recording.ranks.gather((self.clock.num_samples, tuple(self.use.read())))
        if not recording.is_first:
            return None
        recording.claim.check()
        row = write_epoch(
            recording.run,
            epoch=self.epoch,
            step=trainer.global_step,
            attempt=recording.attempt,
            clock=self.clock,
            num_samples=sum(count for count, _ in of_ranks),
            lr=self._rate,
            num_edits=num_edits,
            metrics=self._epoch_metrics(),
            uses=[use for _, use in of_ranks],
        )
        recording.progress.epoch_line(row, trainer.max_epochs)
        return row

    def _epoch_metrics(self) -> dict[str, float]:
        """Those of the epoch that ends here, perhaps measured before the run was stopped and went on."""
        return metrics_of(self._trainer) if self._cut_metrics is None else self._cut_metrics


def num_val_batches(trainer: L.Trainer) -> int:
    """Batches of a validation, on this rank."""
    batches = trainer.num_val_batches
    return int(sum(batches) if isinstance(batches, list) else batches)


def num_test_batches(trainer: L.Trainer) -> int:
    """Batches of a test, on this rank."""
    return int(sum(trainer.num_test_batches))
