"""Recorder: the one callback on the hot path. It records, watches the loss, saves, steers and stops the run.

Every Lightning callback pays for every hook, so what must happen at each batch happens here. Per
training batch: signals are added to a block on the device, the loss is kept, a few Python numbers
change. Nothing is read from the device except where a number is written down (every
`log_every_n_steps`, at a checkpoint, at the epoch's end).

It is a `Checkpoint` to Lightning, and stands last in the list: so it runs after the callbacks
that change state (averaged weights, early stopping, the best checkpoints), and what it saves in
`last.ckpt` holds them all.
"""

# ruff: noqa: ARG002 - Lightning passes every hook all its arguments
from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from litscope.config.recipe import Recipe
from litscope.data.loaders import num_stacked
from litscope.errors import Interrupted
from litscope.ledger.scoring.scorekeeper import BackgroundScores
from litscope.ledger.store import LedgerWriter
from litscope.lightning_internals import (
    callbacks_of,
    is_early_stopped,
    is_fast_dev_run,
    is_overfitting,
    leave_sigterm_alone,
    start_a_whole_epoch,
    validate_where_it_stands,
)
from litscope.live.capture import Capture
from litscope.live.epoch_clock import EpochClock
from litscope.live.pace import Due, Pace
from litscope.live.ranks import Ranks
from litscope.live.steered import Moment
from litscope.live.steering import Steering
from litscope.live.stop_requests import StopRequests
from litscope.rundir import RunDir
from litscope.training.job import OnEpoch
from litscope.training.loop.canaries import Canaries
from litscope.training.loop.checkpoints import KEY, Position, position_of, random_state, write_position
from litscope.training.loop.clean_pass import clean_pass
from litscope.training.loop.last_losses import LastLosses
from litscope.training.loop.loss_watch import LossWatch
from litscope.training.loop.metric_lines import write_epoch, write_step
from litscope.training.loop.progress import Progress
from litscope.training.loop.rank_states import take_up_metrics, take_up_random
from litscope.training.loop.steered_fit import LiveRun
from litscope.training.loop.stride import Stride
from litscope.training.loop.trainer_parts import data_of
from litscope.types import Batch, StepOutput

FLUSH_S = 5.0
"""Age of the signals that a crash may lose, in seconds."""


class Recorder(Checkpoint):
    """Ledger, metrics files, loss guard, progress, last.ckpt and the end of the run.

    Args:
        run: the run's folder.
        attempt: number of this attempt, from `rundir.begin_attempt` (rank 0's counts).
        stop_requests: Ctrl-C and SIGTERM.
        steering: what people ask of the run.
        asked: the recipe as the run was asked for: what a setting goes back to when it is undone.
        ledger: record signals of every sample.
        stride: of a run that takes several steps in one call.
        last_checkpoint: path of last.ckpt; also written when the run is interrupted.
        saves_last: also write it at each epoch's end and every two minutes.
        log_every_n_steps: optimizer steps between two lines of metrics/steps.jsonl.
        max_time_s: stop after so many seconds of training, earlier attempts included.
        monitor: metric that the epoch's line shows.
        shows_bar: draw a progress bar on a terminal.
        canaries: plants wrong labels and takes them out again; for rank 0.
        on_epoch: who is told of each epoch, and may end the run; for rank 0.

    Attributes:
        clock: of the epoch that runs.
        num_epochs: epochs that are over, earlier attempts included.
        pace: what is due: a stop, a checkpoint, the end of the time.
        is_evaluation_recorded: whether evaluation rows go to the ledger.
    """

    def __init__(
        self,
        run: RunDir,
        attempt: int,
        stop_requests: StopRequests,
        steering: Steering,
        *,
        asked: Recipe,
        last_checkpoint: Path,
        ledger: bool = True,
        saves_last: bool = True,
        log_every_n_steps: int = 50,
        max_time_s: float | None = None,
        monitor: str | None = None,
        shows_bar: bool = True,
        canaries: Canaries | None = None,
        stride: Stride | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        self.run = run
        self.attempt = attempt
        self.stop_requests = stop_requests
        self.steering = steering
        self.clock = EpochClock()
        self.pace = Pace(stop_requests, saves=saves_last, max_time_s=max_time_s)
        self.num_epochs = 0
        self.is_evaluation_recorded = True
        self._asked = asked
        self._ledger = ledger
        self._last_checkpoint = last_checkpoint
        self._saves_last = saves_last
        self._log_every_n_steps = log_every_n_steps
        self._monitor = monitor
        self._shows_bar = shows_bar
        self._canaries = canaries
        self._stride = stride
        self._on_epoch = on_epoch
        self._scores: BackgroundScores | None = None
        self._losses = LossWatch()
        self._last_losses: LastLosses | None = None
        self._ranks: Ranks | None = None
        self._capture: Capture | None = None
        self._restored: dict[str, Any] | None = None
        self._step = 0
        self._rate = 0.0
        self._is_validation_due = False
        self._is_clean_pass_due = False
        self._is_training_over = False
        self._is_blended = False
        self._random_before_validation = random_state()
        self._common_val_batches = 0

    # ---- beginning ---------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Meet the other ranks and open the ledger, before the first fit, validation or test."""
        if self._ranks is not None:
            return
        self._ranks = Ranks()
        self.attempt = self._ranks.first(self.attempt)
        writer = LedgerWriter(self.run, self.attempt, self._ranks.rank) if self._ledger else None
        self._capture = Capture(writer, trainer.strategy.root_device, FLUSH_S)
        if self._ledger and self._ranks.rank == 0:
            self._scores = BackgroundScores(self.run)
        self._progress = Progress(show=self._ranks.rank == 0, bar=self._shows_bar, monitor=self._monitor)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep our part of the checkpoint until training starts."""
        if trainer.state.fn == "fit":
            self._restored = checkpoint.get(KEY)
            pruning = data_of(trainer).pruning
            if pruning is not None and self._restored is not None:
                is_inside = self._restored["position"]["stage"] == "mid"
                pruning.load_state(self._restored.get("pruning", {}), is_inside)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take up the run where the checkpoint left it. Last of all: the random state."""
        self.stop_requests.install()
        leave_sigterm_alone(trainer)  # one that came in between is in `stop_requests`
        assert self._ranks is not None
        self._step = trainer.global_step
        self._losses = LossWatch(data_of(trainer).manifest.keys)
        self._is_blended = bool(data_of(trainer).mixup or data_of(trainer).cutmix)
        pruning = data_of(trainer).pruning
        if pruning is not None:
            self._last_losses = LastLosses(pruning, trainer.strategy.root_device, self._ranks)
        self.pace.start()
        self._stop_if_early_stopped(trainer)
        if self._restored is not None:
            self._take_up(trainer, pl_module, self._restored)
        elif self._ranks.world_size > 1:
            data = data_of(trainer)
            torch.manual_seed(data.seed + self._ranks.rank)  # dropout differs from rank to rank
        self._is_training_over = self._is_validation_due
        if self._stride is not None:
            restored = (self._restored or {}).get("stride")
            self._stride.start(trainer, self.steering.next_scripted, self._log_every_n_steps, restored)
        steered = (self._restored or {}).get("steering", {})
        assert self._capture is not None
        live = LiveRun(self._asked, trainer, pl_module, self._capture, self._last_checkpoint.parent)
        self.steering.start(live, self._ranks, self.stop_requests, self.attempt, steered, self._moment(trainer))

    def _stop_if_early_stopped(self, trainer: L.Trainer) -> None:
        """A run that early stopping ended stays ended, unless it now has more patience."""
        if any(map(is_early_stopped, callbacks_of(trainer))):
            trainer.should_stop = True

    def _take_up(self, trainer: L.Trainer, module: L.LightningModule, restored: dict[str, Any]) -> None:
        assert self._ranks is not None
        position = Position(**restored["position"])
        self.num_epochs = position.epochs_done
        self.pace.start(restored["elapsed_s"])
        self._rate = restored["lr"]
        self._is_validation_due = position.stage == "validate"
        if position.stage == "end":
            start_a_whole_epoch(trainer)
        else:
            if position.stage == "validate":
                validate_where_it_stands(trainer)  # the epoch may have had other samples than now
            self.clock.start(restored["clock"])
            take_up_metrics(module, restored["train_metrics"], self._ranks)
            self._start_bar(trainer, position.batches_done)
        if restored["is_clean_pass_due"]:
            epoch = position.epoch if position.stage == "mid" else position.epoch - 1
            self._clean_pass(trainer, module, restored["step"], epoch)
        self._random_before_validation = take_up_random(restored["random"], self._ranks)

    # ---- training ----------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock and bar."""
        self._is_training_over = False
        self.steering.epoch_starts()
        self.clock.start()
        self._start_bar(trainer, 0)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the step's learning rate: at the step's end the schedule has moved on."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Record the batch; at an optimizer step's end also log, save and stop where that is due."""
        assert self._capture is not None
        before, self._step = self._step, trainer.global_step
        epoch, count = trainer.current_epoch, num_stacked(batch)
        if batch["sample_id"].ndim == 2:
            place = {"step": before, "batches_per_step": trainer.accumulate_grad_batches, "epoch": epoch}
            self._rate = float(pl_module.steps.lr)  # type: ignore[union-attr, arg-type]
            if not self._is_blended:
                self._capture.add_stack(outputs, **place)
            self._losses.add_stack(outputs["loss"], batch["sample_id"], **place)
        else:
            if not self._is_blended:
                self._capture.add(outputs, step=before, epoch=epoch, split="train", phase="train")
            self._losses.add(outputs["loss"], batch["sample_id"], step=before, epoch=epoch)
        if self._last_losses is not None:
            self._last_losses.add(outputs)
        self.clock.num_samples += batch["sample_id"].numel()
        self._progress.advance(count)
        if batch_idx + count >= trainer.num_training_batches:
            self._training_ends(trainer)
        elif self._step != before:
            self._step_ends(trainer)

    def _step_ends(self, trainer: L.Trainer) -> None:
        """An optimizer step is done and the epoch goes on: a point where the run can stop."""
        if self._step % self._log_every_n_steps == 0:
            self._log_step(trainer)
        if 0 < trainer.max_steps <= self._step:
            trainer.should_stop = True  # unlike Lightning's own limit, this validates before it ends
            self._training_ends(trainer)
            return
        due = self._look(trainer, self._step)
        if due.stop:
            self._save_and_stop(trainer)
        if due.save:
            self._save(trainer)
        if due.end:
            trainer.should_stop = True
            self._training_ends(trainer)

    def _look(self, trainer: L.Trainer, count: int, is_validating: bool = False) -> Due:
        """What is due after `count` steps or batches, once the actions that wait are applied."""
        assert self._ranks is not None
        due = self.pace.due(self._ranks, count, self.steering.has_news())
        if due.news or self.steering.is_scripted(self._step):
            self._steer(trainer, is_validating)
            due = self.pace.due(self._ranks, 0)  # a pause may have lasted, and a stop request ended it
        return due._replace(end=due.end or self.steering.is_ending)

    def _steer(self, trainer: L.Trainer, is_validating: bool = False) -> None:
        paused_s = self.steering.take(self._moment(trainer)._replace(is_validating=is_validating))
        self.pace.skip(paused_s)
        self.clock.skip(paused_s)

    def _moment(self, trainer: L.Trainer) -> Moment:
        data = data_of(trainer)
        batches_done = int(data.position()["batches_done"])
        return Moment(trainer.global_step, trainer.current_epoch, batches_done, self._is_training_over)

    def _training_ends(self, trainer: L.Trainer) -> None:
        """The epoch's last training batch is done; validation comes next, where there is one."""
        self._log_step(trainer)
        self._is_training_over = True
        self.clock.training_ends()
        self._is_clean_pass_due = self._is_blended and self._ledger
        self._is_validation_due = _num_val_batches(trainer) > 0
        if self._is_validation_due:
            self._random_before_validation = random_state()

    def _log_step(self, trainer: L.Trainer) -> None:
        """Write down the mean loss since the last time. The one place where a step waits for the device."""
        loss = self._losses.take_mean()
        if loss is None or not trainer.is_global_zero:
            return
        loss *= trainer.accumulate_grad_batches  # Lightning's loss is divided by it
        write_step(self.run, trainer, step=self._step, attempt=self.attempt, loss=loss, rate=self._rate)

    # ---- evaluation --------------------------------------------------------------------------

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show a bar of its own."""
        assert self._ranks is not None
        self._common_val_batches = min(self._ranks.gather(_num_val_batches(trainer)))
        self._progress.start("validating", _num_val_batches(trainer))

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        """Record the batch. A run that is asked to stop does so here too: the validation starts anew later."""
        # With --overfit-batches the training samples are validated.
        split = "train" if is_overfitting(trainer) else "val"
        self._evaluated(trainer, outputs, split)
        if trainer.state.fn != "fit":
            self._stop_evaluation()
            return
        if batch_idx + 1 >= self._common_val_batches:
            return  # other ranks may have no such batch, and could not agree; or the validation is over anyway
        due = self._look(trainer, batch_idx + 1, is_validating=True)
        if due.stop:
            self._save_and_stop(trainer)
        if due.save:
            self._save(trainer)
        if due.end:
            trainer.should_stop = True

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The validation counts from here on."""
        self._is_validation_due = False
        self._progress.stop()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        """Record the batch."""
        self._evaluated(trainer, outputs, "test")
        self._stop_evaluation()

    def _stop_evaluation(self) -> None:
        """After training there is nothing to save: a stop request ends the evaluation, and a resumed run repeats it."""
        if self.stop_requests.requested is not None:
            raise Interrupted("Interrupted in the last evaluation; training is done.")

    def _evaluated(self, trainer: L.Trainer, output: StepOutput, split: str) -> None:
        if self.is_evaluation_recorded:
            assert self._capture is not None
            epoch = max(0, trainer.current_epoch - (trainer.state.fn != "fit"))
            self._capture.add(output, step=trainer.global_step, epoch=epoch, split=split, phase="eval")
        self._progress.advance()

    # ---- the epoch's end ---------------------------------------------------------------------

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record clean rows where training rows are blended, write the epoch's line, save, and stop if asked."""
        if self._is_clean_pass_due:
            self._clean_pass(trainer, pl_module, trainer.global_step, trainer.current_epoch)
        assert self._ranks is not None
        assert self._capture is not None
        self.num_epochs = self._position(trainer).epochs_done
        self._capture.flush(wait=True)  # a line in epochs.jsonl says that the epoch's signals are on the disk
        num_samples = sum(self._ranks.gather(self.clock.num_samples))
        if self._ranks.rank == 0:
            row = write_epoch(
                self.run,
                trainer,
                attempt=self.attempt,
                clock=self.clock,
                num_samples=num_samples,
                rate=self._rate,
                num_edits=self.steering.num_edits,
            )
            self._progress.epoch_line(row, trainer.max_epochs)
            if self._on_epoch is not None and self._on_epoch(row):
                self.pace.end()
        if self._scores is not None:
            self._scores.epoch_ended()
        is_last = trainer.should_stop or self.pace.due(self._ranks, 0).end
        self._plant_or_take_out(trainer, pl_module, is_last)
        self._steer(trainer)
        if self.steering.is_ending and not is_last:
            self._plant_or_take_out(trainer, pl_module, is_last=True)
            self._steer(trainer)
        if self._last_losses is not None:
            self._last_losses.merge()
        self.steering.prepare_epoch()
        due = self.pace.due(self._ranks, 0)
        if due.end or self.steering.is_ending:
            trainer.should_stop = True
        if due.stop:
            self._save_and_stop(trainer)
        if self._saves_last and not is_fast_dev_run(trainer):
            self._save(trainer)

    def _plant_or_take_out(self, trainer: L.Trainer, module: Any, is_last: bool) -> None:
        """Canaries: their turn comes when the epoch's signals are on the disk."""
        if self._canaries is not None:
            total = module.schedule.total_steps
            done = 1.0 if is_last else trainer.global_step / total if total else 0.0
            ids = data_of(trainer).active_ids("train")
            self._canaries.epoch_ended(trainer.current_epoch, ids, done)

    def _clean_pass(self, trainer: L.Trainer, module: L.LightningModule, step: int, epoch: int) -> None:
        """Several ranks have unequal shares and cannot agree on a stop within the pass; they finish it."""
        assert self._capture is not None
        assert self._ranks is not None
        add, is_alone = self._capture.add, self._ranks.world_size == 1
        self._is_clean_pass_due = not clean_pass(
            trainer,
            module,
            data_of(trainer).active_ids("train"),
            lambda output: add(output, step=step, epoch=epoch, split="train", phase="eval"),
            lambda: is_alone and self.stop_requests.requested is not None,
        )

    # ---- saving and ending -------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Before any checkpoint is written: the loss was finite, and the signals so far are on the disk."""
        assert self._capture is not None
        assert self._ranks is not None
        self._losses.look()
        self._capture.flush(wait=True)
        position = self._position(trainer)
        pruning = data_of(trainer).pruning
        if self._last_losses is not None:
            self._last_losses.merge()
        random = self._random_before_validation if position.stage == "validate" else random_state()
        checkpoint[KEY] = {
            "format": 1,
            "step": trainer.global_step,
            "position": asdict(position),
            "random": self._ranks.gather(random),
            "elapsed_s": self.pace.elapsed_s,
            "lr": self._rate,
            "clock": self.clock.state(),
            "is_clean_pass_due": self._is_clean_pass_due,
            "steering": self.steering.state(),
            "pruning": {} if pruning is None else pruning.state(),
            **({"stride": self._stride.state()} if self._stride is not None else {}),
            "train_metrics": self._ranks.gather(pl_module.metric_state()),  # type: ignore[operator]
        }
        write_position(checkpoint, position, trainer.global_step, int(trainer.num_training_batches))

    def _position(self, trainer: L.Trainer) -> Position:
        data = data_of(trainer)
        return position_of(data.position(), self._is_validation_due)

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self._last_checkpoint)
        self.pace.saved()

    def _save_and_stop(self, trainer: L.Trainer) -> None:
        self._save(trainer)
        raise Interrupted(f"Interrupted at step {self._step}; {self._last_checkpoint} is written.")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        if self._ranks is not None:  # else another callback's setup failed, before ours
            self._progress.stop()

    def close(self) -> None:
        """Write what is left of the ledger.

        Raises:
            LedgerError: if it cannot be written.
        """
        if self._ranks is not None:
            self._progress.stop()
        try:
            if self._capture is not None:
                self._capture.close()
        finally:
            if self._scores is not None:
                self._scores.close()

    def _start_bar(self, trainer: L.Trainer, done: int) -> None:
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        self._progress.start(f"epoch {trainer.current_epoch + 1}{of}", int(trainer.num_training_batches), done)


def _num_val_batches(trainer: L.Trainer) -> int:
    batches = trainer.num_val_batches
    return int(sum(batches) if isinstance(batches, list) else batches)
