"""Recorder: the one callback on the hot path. It records, watches the loss, saves, steers and stops the run.

Every Lightning callback costs time at every hook, so all that must happen at each batch happens here. It reads from the
device only where a number is written down (every `log_every_n_steps`, at a checkpoint, at the epoch's end).
A `FitRecord` holds what has been recorded; this file decides what is due.

To Lightning it is a `Checkpoint`, last in the list. So it runs after the callbacks that change state
(averaged weights, early stopping, the best checkpoints), and what it saves in `last.ckpt` includes
their state.
"""

# ruff: noqa: ARG002 - Lightning passes every hook all its arguments
from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from litscope.claims import Claim
from litscope.config.recipe import Recipe
from litscope.config.training import NEVER, SaveEvery
from litscope.data.loader import num_stacked
from litscope.lightning_internals import (
    callbacks_of,
    is_early_stopped,
    is_fast_dev_run,
    is_overfitting,
    leave_sigterm_alone,
    set_max_epochs,
    set_max_steps,
    wait_anew,
)
from litscope.live.pace import Due, Pace
from litscope.live.steering import Steering
from litscope.live.stop_requests import StopRequests
from litscope.training.job import OnEpoch
from litscope.training.loop.canaries import Canaries
from litscope.training.loop.checkpoints import KEY, Position, guard_checkpoints, write_position
from litscope.training.loop.early_stopping import TO_TRAIN_ON
from litscope.training.loop.fit_record import FitRecord, num_test_batches, num_val_batches
from litscope.training.loop.planting import plant_or_take_out
from litscope.training.loop.recording import Recording
from litscope.training.loop.same_data import check_same_data
from litscope.training.loop.steered_fit import LiveRun
from litscope.training.loop.stride import Stride
from litscope.training.loop.trainer_parts import data_of
from litscope.training.preemption import Preemption
from litscope.training.settings import endings_of, limits_of
from litscope.types import Batch, StepOutput


class Recorder(Checkpoint):
    """Ledger, metrics files, loss guard, progress, last.ckpt and the end of the run.

    Args:
        claim: to the run's folder.
        attempt: number of this attempt, from `attempts.begin_attempt` (rank 0's counts).
        stop_requests: Ctrl-C, SIGTERM and a scheduler's signal.
        preemption: ends the run where one of them asks for it.
        steering: what people ask of the run.
        asked: the recipe as the run was asked for, to which a setting returns when it is undone.
        ledger: record signals of every sample.
        stride: for a run that takes several steps in one call.
        has_guests: whether callbacks of the caller's take part, which may end the run.
        last_checkpoint: path of last.ckpt; also written when the run is interrupted.
        saves_last: also write it at each epoch's end.
        save_every: and so often in the middle of one.
        log_every_n_steps: optimizer steps between two lines of metrics/steps.jsonl.
        max_time_s: stop after this many seconds of training, earlier attempts included.
        monitor: metric that the epoch's line shows.
        shows_bar: draw a progress bar on a terminal.
        has_canaries: whether wrong labels are planted, to measure the ranking.
        canaries: plants them and takes them out again; for rank 0.
        on_epoch: called after each epoch, and may end the run; for rank 0.

    Attributes:
        num_epochs: epochs that are over, earlier attempts included.
        pace: what is due: a stop, a checkpoint, the end of the time.
        is_evaluation_recorded: whether evaluation rows go to the ledger.
    """

    _recording: Recording
    """From `setup` on, which comes before every other hook."""

    _fit: FitRecord
    """From `on_train_start` on, which comes before every other hook of training."""

    def __init__(
        self,
        claim: Claim,
        attempt: int,
        stop_requests: StopRequests,
        preemption: Preemption,
        steering: Steering,
        *,
        asked: Recipe,
        last_checkpoint: Path,
        ledger: bool = True,
        saves_last: bool = True,
        save_every: SaveEvery = NEVER,
        log_every_n_steps: int = 50,
        max_time_s: float | None = None,
        monitor: str | None = None,
        shows_bar: bool = True,
        has_canaries: bool = False,
        canaries: Canaries | None = None,
        stride: Stride | None = None,
        has_guests: bool = False,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        self.pace = Pace(stop_requests, save_every_s=save_every.seconds, max_time_s=max_time_s)
        self.num_epochs = 0
        self.is_evaluation_recorded = True
        self._claim, self._attempt = claim, attempt
        self._stop_requests, self._preemption, self._steering = stop_requests, preemption, steering
        self._asked = asked
        self._ledger = ledger
        self._last_checkpoint = last_checkpoint
        self._saves_last, self._save_every_steps = saves_last, save_every.steps
        self._log_every_n_steps = log_every_n_steps
        self._monitor = monitor
        self._shows_bar = shows_bar
        self._has_canaries, self._canaries = has_canaries, canaries
        self._stride, self._has_guests = stride, has_guests
        self._on_epoch = on_epoch
        self._is_set_up = False
        self._is_ending = self._is_asked_to_end = False
        self._limits: tuple[int | None, int] | None = None
        self._restored: dict[str, Any] | None = None
        self._common_batches = 0

    # ---- beginning ---------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Meet the other ranks and open the ledger, before the first fit, validation or test."""
        if self._is_set_up:
            return
        self._recording = Recording.begin(
            self._claim,
            self._attempt,
            trainer.strategy.root_device,
            ledger=self._ledger,
            shows_bar=self._shows_bar,
            monitor=self._monitor,
        )
        check_same_data(self._recording.ranks, data_of(trainer).manifest)
        guard_checkpoints(trainer, self._recording.claim.check)
        self._is_set_up = True

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep our part of the checkpoint until training starts."""
        if trainer.state.fn != "fit" or KEY not in checkpoint:
            return
        self._lift_limits(trainer)
        restored = self._restored = checkpoint[KEY]
        self._is_ending = restored.get("ending") == endings_of(self._asked)
        position, pruning = Position(**restored["position"]), data_of(trainer).pruning
        if position.batches_done and not self._is_ending:
            # Its epoch is trained on, whatever the run had begun to end with, and will have an end of its own.
            position = replace(position, stage="mid")
            restored.update(position=asdict(position), is_clean_pass_due=False, ended_with=None)
            write_position(checkpoint, position, restored["step"], position.batches_done)
        self.num_epochs = position.epochs_done
        if pruning is not None:
            pruning.load_state(restored.get("pruning", {}), position.batches_done > 0)
        if (selection := data_of(trainer).selection) is not None:
            selection.load_state(restored.get("selection", {}))

    def _lift_limits(self, trainer: L.Trainer) -> None:
        """Where the run's limits are reached, Lightning would not start: what its last epoch lacks would stay lost."""
        self._limits = trainer.max_epochs, trainer.max_steps
        set_max_epochs(trainer, None)
        set_max_steps(trainer, None)

    def _put_back_limits(self, trainer: L.Trainer) -> None:
        """A limit of steps that is reached comes back with the validation that is due, which it would prevent."""
        if self._limits is None:
            return
        max_epochs, max_steps = self._limits
        set_max_epochs(trainer, max_epochs)
        if not self._fit.is_validation_due or max_steps > trainer.global_step:
            set_max_steps(trainer, max_steps)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take up the run where the checkpoint left it; the random state comes last."""
        self._stop_requests.install()
        leave_sigterm_alone(trainer)  # one that came in between is in `stop_requests`
        recording, restored = self._recording, self._restored or {}
        fit = self._fit = FitRecord(trainer, recording, self._stop_requests, self._ledger)
        self.pace.start(restored.get("elapsed_s", 0.0))
        self._end_or_wait_anew(trainer, restored.get("limits"))
        if restored:
            fit.take_up(restored)
            self._put_back_limits(trainer)
        elif recording.ranks.world_size > 1:
            torch.manual_seed(fit.data.seed + recording.ranks.rank)  # dropout differs from rank to rank
        if self._stride is not None:
            ends = [steps for steps in (self._log_every_n_steps, self._save_every_steps) if steps]
            self._stride.start(trainer, fit.module, self._steering.next_scripted, ends, restored.get("stride"))
        live = LiveRun(self._asked, trainer, fit.module, recording.capture, self._last_checkpoint.parent)
        steered, attempt = restored.get("steering", {}), recording.attempt
        self._steering.start(
            live, recording.ranks, self._stop_requests, attempt, steered, fit.moment(), recording.progress.note
        )
        if fit.is_training_over and not fit.is_validation_due:  # the run was stopped between an epoch and its end
            fit.module.on_train_start()  # it plans the run, of which canaries ask how much is over
            self._end_epoch(trainer)
        if self._is_ending and not fit.is_validation_due:
            trainer.should_stop = True

    def _end_or_wait_anew(self, trainer: L.Trainer, limits_then: dict[str, Any] | None) -> None:
        """A run that early stopping ended stays ended, unless it now has more patience, or another length.

        Args:
            limits_then: what ended the run when the checkpoint was written; None where it does not say so.
        """
        stopped = [callback for callback in callbacks_of(trainer) if is_early_stopped(callback)]
        if not stopped:
            return
        if limits_then not in (None, limits_of(self._asked)):
            for callback in stopped:
                wait_anew(callback)
            self._recording.progress.say("early stopping had ended this run; it now waits anew for an improvement")
            return
        trainer.should_stop = True
        self._recording.progress.say(f"early stopping ended this run, and it stays ended; {TO_TRAIN_ON}")

    # ---- training ----------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock and bar."""
        self._agree_to_end(trainer)
        self._steering.epoch_starts()
        self._fit.epoch_starts()

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the step's learning rate."""
        self._fit.batch_starts()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Record the batch; at an optimizer step's end also log, save and stop where that is due."""
        self._agree_to_end(trainer)
        has_stepped = self._fit.add(outputs, batch)
        if batch_idx + num_stacked(batch) >= trainer.num_training_batches:
            self._fit.training_ends()
        elif has_stepped:
            self._step_ends(trainer)
        elif self._is_asked_to_end:
            trainer.should_stop = False  # until the accumulated step is done

    def _step_ends(self, trainer: L.Trainer) -> None:
        """An optimizer step is done and the epoch goes on: a point where the run can stop."""
        fit = self._fit
        if fit.step % self._log_every_n_steps == 0:
            fit.write_step()
        if 0 < trainer.max_steps <= fit.step:
            self._end(trainer)  # unlike Lightning's own limit, this validates before it ends
            fit.training_ends()
            return
        due = self._look(fit.step)
        if due.end or self._is_asked_to_end:
            self._end(trainer)
            fit.training_ends()
        is_save_due = self._save_every_steps is not None and fit.step % self._save_every_steps == 0
        self._save_or_stop(trainer, due._replace(save=due.save or is_save_due))

    def _agree_to_end(self, trainer: L.Trainer) -> None:
        """Where a callback of the caller's ends the run on one rank, it ends on all; else they wait for each other."""
        if self._has_guests:
            (self._is_asked_to_end,) = self._recording.ranks.any(self._is_asked_to_end or trainer.should_stop)
            trainer.should_stop = self._is_asked_to_end

    def _end(self, trainer: L.Trainer) -> None:
        """End the run once the validation and all that belongs to an epoch's end are done, in this attempt or later."""
        trainer.should_stop = self._is_ending = True

    def _look(self, count: int, is_validating: bool = False) -> Due:
        """What is due after `count` steps or batches, once the actions that wait are applied."""
        ranks = self._recording.ranks
        due = self.pace.due(ranks, count, self._steering.has_news())
        if due.news or self._steering.is_scripted(self._fit.step):
            self._steer(is_validating)
            due = self.pace.due(ranks, 0)  # a pause may have lasted, and a stop request ended it
        return due._replace(end=due.end or self._steering.is_ending)

    def _steer(self, is_validating: bool = False) -> None:
        paused_s = self._steering.take(self._fit.moment(is_validating))
        self.pace.skip(paused_s)
        self._fit.clock.skip(paused_s)
        self._fit.use.skip(paused_s)

    # ---- evaluation --------------------------------------------------------------------------

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start its bar, and agree on the number of batches that every rank has.

        Where a run goes on whose last validation was cut, it ends with this one.
        """
        if trainer.state.fn == "fit" and self._limits is not None:
            set_max_steps(trainer, self._limits[1])
            trainer.should_stop |= self._is_ending
        self._common_batches = min(self._recording.ranks.gather(num_val_batches(trainer)))
        self._recording.progress.start("validating", num_val_batches(trainer))

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        """Record the batch. A run that is asked to stop does so here too: the validation starts anew later."""
        self._evaluated(trainer, outputs, "train" if is_overfitting(trainer) else "val")
        if trainer.state.fn != "fit":
            self._stop_evaluation(batch_idx)
            return
        if batch_idx + 1 >= self._common_batches:
            return  # other ranks may have no such batch, and could not agree; or the validation is over anyway
        due = self._look(batch_idx + 1, is_validating=True)
        if due.end:
            self._end(trainer)
        self._save_or_stop(trainer, due)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that the validation is complete, so that a checkpoint does not ask for it again."""
        if trainer.state.fn == "fit":
            self._fit.is_validation_due = False
        self._recording.progress.stop()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Agree on the number of batches that every rank has."""
        self._common_batches = min(self._recording.ranks.gather(num_test_batches(trainer)))

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        """Record the batch; a stop request ends the evaluation here."""
        self._evaluated(trainer, outputs, "test")
        self._stop_evaluation(batch_idx)

    def _stop_evaluation(self, batch_idx: int) -> None:
        """After training there is nothing to save: a stop request ends the evaluation, and a resumed run repeats it."""
        if batch_idx >= self._common_batches:
            return  # other ranks may have no such batch, and could not agree
        stop = self.pace.due(self._recording.ranks, batch_idx + 1).stop
        if stop:
            raise self._preemption.ended(stop, "in the last evaluation; training is done", self._fit.step)

    def _evaluated(self, trainer: L.Trainer, output: StepOutput, split: str) -> None:
        if self.is_evaluation_recorded:
            epoch = trainer.current_epoch if trainer.state.fn == "fit" else self._fit.last_epoch
            self._recording.capture.add(output, step=trainer.global_step, epoch=epoch, split=split, phase="eval")
        self._recording.progress.advance()

    # ---- the epoch's end ---------------------------------------------------------------------

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """All that belongs to an epoch's end."""
        self._end_epoch(trainer)

    def _end_epoch(self, trainer: L.Trainer) -> None:
        """Record clean rows where training rows are blended, write the epoch's line, save, and stop if asked.

        A stop request that comes in the clean pass puts all of this off until the run goes on: an epoch that has its
        line has all its rows. (Earlier versions wrote the line though the pass was cut.)
        """
        fit, recording = self._fit, self._recording
        self._agree_to_end(trainer)
        if fit.is_clean_pass_due:
            fit.clean_pass()
        if fit.is_clean_pass_due:
            self._save_and_stop(trainer, self._stop_requests.number)
        self.num_epochs = fit.position().epochs_done
        row = fit.write_epoch(self._steering.num_edits) if fit.is_line_due else None
        if row is not None and self._on_epoch is not None and self._on_epoch(row):
            self.pace.end()
        if recording.upkeep is not None:
            recording.upkeep.epoch_ended()
        self._plant_and_steer(trainer)
        fit.merge_last_losses()
        self._steering.prepare_epoch()
        due = self.pace.due(recording.ranks, 0)
        if due.end or self._steering.is_ending:
            self._end(trainer)
        if due.stop:
            self._save_and_stop(trainer, due.stop)
        if self._saves_last and not is_fast_dev_run(trainer):
            self._save(trainer)

    def _plant_and_steer(self, trainer: L.Trainer) -> None:
        """Plant or take out canaries, then apply the actions that wait; once more if one of these ends the run."""
        is_last = trainer.should_stop or self.pace.due(self._recording.ranks, 0).end
        self._plant(trainer, is_last)
        self._steer()
        if self._steering.is_ending and not is_last:
            self._plant(trainer, is_last=True)
            self._steer()

    def _plant(self, trainer: L.Trainer, is_last: bool) -> None:
        if self._has_canaries:
            plant_or_take_out(self._canaries, trainer, self._fit, self._recording.ranks, is_last)

    # ---- saving and ending -------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add our part, for which the run must still be ours, the loss finite, and the signals so far on the disk."""
        self._recording.claim.check()
        checkpoint[KEY] = {
            "format": 1,
            "limits": limits_of(self._asked),
            **self._fit.state(),
            "ending": endings_of(self._asked) if self._is_ending else None,
            "elapsed_s": self.pace.elapsed_s,
            "steering": self._steering.state(),
            **({"stride": self._stride.state()} if self._stride is not None else {}),
        }
        write_position(checkpoint, self._fit.position(), trainer.global_step, int(trainer.num_training_batches))

    def _save_or_stop(self, trainer: L.Trainer, due: Due) -> None:
        if due.stop:
            self._save_and_stop(trainer, due.stop)
        if due.save:
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self._last_checkpoint)
        self.pace.saved()

    def _save_and_stop(self, trainer: L.Trainer, number: int) -> None:
        """All ranks' rows and the checkpoint are on the disk when the job is requeued, for it may be ended at once."""
        self._save(trainer)
        step = self._fit.step
        raise self._preemption.ended(number, f"at step {step}; {self._last_checkpoint} is written", step)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the bar, so that the terminal is left in order."""
        if self._is_set_up:  # else another callback's setup failed, before ours
            self._recording.progress.stop()

    def close(self) -> None:
        """Write what is left of the ledger.

        Raises:
            LedgerError: if it cannot be written.
        """
        if self._is_set_up:
            self._recording.close(is_over=self._stop_requests.requested is None)
