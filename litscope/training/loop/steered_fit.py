"""LiveRun: how a change reaches the objects of a training in progress.

`steering` decides what people's actions add up to; this file tells Lightning's loops, the data
module, the schedule and the optimizer. Every change is the same on every rank, and none
draws a random number. What Lightning reads only when an epoch starts (the number of batches, the
validation set) is prepared at the end of the epoch before.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from litscope.config.recipe import Recipe
from litscope.data.sampler import Ids
from litscope.errors import ConfigError, did_you_mean
from litscope.ledger.journal.actions import Decisions
from litscope.lightning_internals import (
    ask_for_train_loader,
    ask_for_val_loader,
    callbacks_of,
    forget_best,
    set_callbacks,
    set_max_epochs,
)
from litscope.live.capture import Capture
from litscope.live.steered import Later, Moment
from litscope.models.classifier import Classifier
from litscope.models.learning.optim import set_weight_decay
from litscope.models.metrics import PhaseMetrics
from litscope.training.loop.checkpoints import BestCheckpoints
from litscope.training.loop.clean_pass import clean_pass
from litscope.training.loop.early_stopping import make_early_stopping
from litscope.training.loop.ema import AveragedWeights
from litscope.training.loop.trainer_parts import data_of
from litscope.training.settings import Settings, facts_of
from litscope.types import StepOutput

HELD_OUT = ("val", "test")

Samples = dict[str, tuple[Any, Any]]
"""Split -> the ids that count, and their labels."""


class LiveRun:
    """A fit that is under way: what `Steering` steers.

    Args:
        recipe: resolved, as the run was asked for; a setting returns to it when it is undone.
        trainer: Lightning's, in `fit`, with our data module.
        module: our classifier.
        capture: where evaluations are recorded.
        folder: where checkpoints are written when somebody asks for one.

    Attributes:
        num_edits: edits of validation or test samples so far; metrics before and after one differ in meaning.
    """

    def __init__(self, recipe: Recipe, trainer: L.Trainer, module: Classifier, capture: Capture, folder: Path) -> None:
        self.trainer, self.module = trainer, module
        self.data = data_of(trainer)
        self.num_edits = 0
        self._recipe, self._capture, self._folder = recipe, capture, folder
        self._base = Settings.of_recipe(recipe)
        self._settings = self._base
        self._is_layout_changed = False
        if self.data.pruning is not None:
            module.epoch_batches = self._expected_batches

    @property
    def num_samples(self) -> int:
        """Number of samples in the manifest."""
        return len(self.data.manifest)

    def ids_of(self, split: str) -> Ids:
        """The samples of a split that are labelled, readable and not discarded."""
        return self.data.active_ids(split)

    def readable(self, ids: Ids) -> Ids:
        """The `ids` whose files could be read."""
        return self.data.readable(ids)

    def asked(self) -> dict[str, Any]:
        """The recipe's settings, and the plan of the schedule."""
        return facts_of(self._recipe)

    # ---- taking up a run -----------------------------------------------------------------------

    def restore(self, decisions: Decisions, state: Mapping[str, Any]) -> None:
        """Take up what a checkpoint holds; data, schedule and callbacks have already restored themselves.

        Args:
            decisions: those of the checkpoint.
            state: what `state` returned.
        """
        self._settings = self._base.with_(decisions.settings)
        self.num_edits = int(state.get("num_edits", 0))
        self._is_layout_changed = bool(state.get("is_layout_changed"))

    def keep_plan(self, state: Mapping[str, Any]) -> None:
        """Have the schedule go on as planned, unless something else has been asked for since."""
        if self.data.is_regrouped:  # the epoch has other steps left than were planned
            return
        total_steps, warmup_steps = state["plan"]
        self.module.kept_plan = (total_steps, warmup_steps)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        schedule = self.module.schedule
        assert schedule is not None
        return {
            "num_edits": self.num_edits,
            "is_layout_changed": self._is_layout_changed,
            "batch_size": self.data.batch_size,
            "plan": [schedule.total_steps, schedule.warmup_steps],
        }

    # ---- changing it ---------------------------------------------------------------------------

    def follow(self, decisions: Decisions, moment: Moment, num_ranks: int) -> list[str]:
        """Make the run follow these decisions, which replace the earlier ones.

        Returns:
            Remarks for the person.

        Raises:
            ConfigError: if it cannot. Nothing has changed then.
            Later: if it touches samples of a validation in progress. Nothing has changed then.
        """
        settings = self._base.with_(decisions.settings)
        self._check(settings, moment)
        notes = self._follow_data(decisions, moment, num_ranks)
        return notes + self._follow_settings(settings, moment)

    def _check(self, wanted: Settings, moment: Moment) -> None:
        least = moment.epochs_done + (not moment.is_over)
        if wanted.epochs != self._settings.epochs and wanted.epochs is not None and wanted.epochs < max(1, least):
            raise ConfigError(
                f"epochs={wanted.epochs}: {least} epochs are done or begun. Give at least {max(1, least)}; "
                "to end the run now: litscope stop."
            )
        if wanted.early_stopping and self._recipe.training.monitor is None:
            raise ConfigError("early_stopping: the run watches no metric. Start one with --monitor.")

    def _follow_data(self, decisions: Decisions, moment: Moment, num_ranks: int) -> list[str]:
        data = self.data
        labels = {sample_id: self._class(name) for sample_id, name in decisions.labels.items()}
        for sample_id in (*decisions.discarded, *labels, *decisions.weights):
            if sample_id >= len(data.manifest):
                raise ConfigError(f"sample_id {sample_id}: the run has {len(data.manifest)} samples, from 0.")
        kept, before, drawn_before = data.overlay.state(), self._samples(), self._drawn()
        data.overlay.set(decisions.discarded, labels, decisions.weights)
        after = self._samples()
        is_held_out = any(not np.array_equal(a, b) for s in HELD_OUT for a, b in zip(before[s], after[s], strict=True))
        try:
            self._check_left(before, after, 2 * num_ranks)
            drawn = self._drawn()
            if len(drawn[0]) < 2 * num_ranks:
                left = f"{len(drawn[0])} training samples with a weight above 0"
                raise ConfigError(f"That would leave {left} to draw; at least {2 * num_ranks} are needed.")
            if is_held_out and moment.is_validating:
                raise Later
        except (ConfigError, Later):
            data.overlay.load_state(kept)
            raise
        notes = []
        if any(not np.array_equal(one, other) for one, other in zip(drawn_before, drawn, strict=True)):
            self._is_layout_changed = True
            is_inside = moment.batches_done > 0 and not moment.is_over
            if is_inside and not data.redraw():
                notes.append("from the next epoch on: too few samples would be left for the rest of this one")
        if is_held_out:
            self.num_edits += 1
            self._forget_best()
            ask_for_val_loader(self.trainer)
            notes.append("metrics of val or test before and after this cannot be compared; they are kept apart")
        return notes

    @staticmethod
    def _check_left(before: Samples, after: Samples, least: int) -> None:
        num_left = len(after["train"][0])
        if num_left < least:
            raise ConfigError(f"That would leave {num_left} training samples; at least {least} are needed.")
        for split in HELD_OUT:
            if len(before[split][0]) and not len(after[split][0]):
                raise ConfigError(f"That would leave no sample of {split}, and its metrics would stand still.")

    def _samples(self) -> Samples:
        """Split -> the ids that count now, and their labels."""
        ids = {split: self.data.active_ids(split) for split in ("train", *HELD_OUT)}
        labels = self.data.overlay.labels.numpy()
        return {split: (found, labels[found]) for split, found in ids.items()}

    def _drawn(self) -> tuple[Ids, Any]:
        """The training samples that an epoch draws, and how often, relative to each other."""
        draws = self.data.draws()
        ids = self.data.active_ids("train") if draws is None else self.data.epoch_ids()
        return ids, None if draws is None else draws.shares(ids)

    def _class(self, name: str) -> int:
        classes = self.data.classes
        if name not in classes:
            raise ConfigError(f"{name!r} is not a class of this run.{did_you_mean(name, classes)}")
        return classes.index(name)

    def _follow_settings(self, wanted: Settings, moment: Moment) -> list[str]:
        now, self._settings = self._settings, wanted
        schedule, notes = self.module.schedule, []
        assert schedule is not None
        if wanted.lr != now.lr:
            schedule.lr_value = wanted.lr
        if wanted.lr_scale != now.lr_scale:
            schedule.lr_scale = wanted.lr_scale
            if wanted.lr is not None:
                notes.append("lr_scale counts again when the rate is back on its schedule (lr=schedule)")
        if wanted.weight_decay != now.weight_decay:
            set_weight_decay(self.trainer.optimizers[0], wanted.weight_decay)
        if wanted.epochs != now.epochs:
            set_max_epochs(self.trainer, wanted.epochs)
            self.module.plan_again(moment.epochs_done, 0 if moment.is_over else moment.batches_done)
        if (wanted.early_stopping, wanted.patience) != (now.early_stopping, now.patience):
            self._set_early_stopping(wanted)
        if wanted.batch_size != now.batch_size:
            self._is_layout_changed = True
            notes.append("from the next epoch on")
        return notes

    def _set_early_stopping(self, wanted: Settings) -> None:
        callbacks = list(callbacks_of(self.trainer))
        there = next((c for c in callbacks if isinstance(c, EarlyStopping)), None)
        if there is not None and not wanted.early_stopping:
            callbacks.remove(there)
        elif there is not None:
            there.patience = wanted.patience
        elif wanted.early_stopping:
            at = next((i for i, c in enumerate(callbacks) if isinstance(c, Checkpoint)), len(callbacks))
            callbacks.insert(at, make_early_stopping(self._recipe, wanted.patience))
        set_callbacks(self.trainer, callbacks)

    def _forget_best(self) -> None:
        """Look for the best anew: what was best on other samples or labels cannot be compared."""
        for callback in callbacks_of(self.trainer):
            forget_best(callback)
            if isinstance(callback, BestCheckpoints):
                callback.unname_best(self.trainer)

    # ---- on demand ---------------------------------------------------------------------------

    def save_copy(self, moment: Moment) -> str:
        """Write a checkpoint that is kept, and return its path."""
        path = self._folder / f"step{moment.step:08d}.ckpt"
        self.trainer.save_checkpoint(path)
        return str(path)

    def evaluate_now(self, ids: Ids, moment: Moment) -> dict[str, float]:
        """Record an evaluation of these samples, and return its metrics by name (`accuracy`, `loss`, ...)."""
        metrics = PhaseMetrics("now", self.data.num_classes)
        splits = self.data.manifest.splits[ids]
        with self._averaged():
            for split in np.unique(splits):

                def record(output: StepOutput, split: str = str(split)) -> None:
                    self._capture.add(output, step=moment.step, epoch=moment.epoch, split=split, phase="eval")
                    log_p = torch.log_softmax(output["logits"].float(), 1)
                    metrics.add(log_p, output["label"], output["sample_loss"])

                clean_pass(self.trainer, self.module, ids[splits == split], record)
        self._capture.flush()
        return {name.partition("/")[2]: value for name, value in metrics.compute(self.module.device).items()}

    def _averaged(self) -> AbstractContextManager[None]:
        """Inside, the module has the averaged weights, if there are any, as in validation."""
        averages = (c for c in callbacks_of(self.trainer) if isinstance(c, AveragedWeights))
        average = next(averages, None)
        return nullcontext() if average is None else average.lent(self.module)

    # ---- from epoch to epoch -------------------------------------------------------------------

    def prepare_epoch(self) -> None:
        """Before an epoch starts, have Lightning ask for a loader with the present samples and batch size."""
        is_other = self.data.is_regrouped or self.data.batch_size != self._settings.batch_size
        if self._is_layout_changed or is_other:
            self.data.batch_size = self._settings.batch_size
            ask_for_train_loader(self.trainer)
            self._is_layout_changed = True
        self._plan_pruning()
        self._plan_selection()

    def _plan_pruning(self) -> None:
        """Decide what the next epoch leaves out. An epoch in whose middle training ended stays as it is."""
        pruning, position = self.data.pruning, self.data.position()
        if pruning is None or position["batches_done"]:
            return
        num_epochs, ids = self.trainer.max_epochs, self.data.active_ids("train")
        assert num_epochs is not None
        pruning.plan(position["epoch"], num_epochs, ids, least=2 * self.trainer.world_size)
        ask_for_train_loader(self.trainer)
        self._is_layout_changed = True

    def _plan_selection(self) -> None:
        """Decide what counts in the next epoch. An epoch in whose middle training ended stays as it is."""
        selection, position = self.data.selection, self.data.position()
        if selection is not None and not position["batches_done"]:
            selection.plan(position["epoch"], self.trainer.max_epochs, self.data.active_ids("train"))

    def _expected_batches(self, first: int, stop: int) -> list[int]:
        """Expected number of batches of each epoch from `first` to `stop`, as far as is known."""
        pruning = self.data.pruning
        assert pruning is not None
        whole = self.data.num_batches(len(self.data.active_ids("train")))
        pruned = self.data.num_batches(pruning.num_expected)
        return [whole if pruning.is_whole(epoch, stop) else pruned for epoch in range(first, stop)]

    def epoch_starts(self) -> None:
        """Now that the epoch has its loader, plan the schedule for the loader's steps."""
        if self._is_layout_changed:
            self._is_layout_changed = False
            self.module.plan_again(self.trainer.current_epoch)
