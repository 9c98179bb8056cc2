"""Scope: one Lightning callback that puts every sample of a person's own LightningModule on record.

It changes nothing of the training: loaders, loss, optimizers, schedules, precision, strategy and loggers stay as they
are. It reads what `training_step` returns, or takes what `litscope.watch.record` is told inside a step.
"""

# ruff: noqa: ARG002 - Lightning passes every hook all its arguments
from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor

from litscope.console import warn
from litscope.errors import ConfigError, LitscopeError
from litscope.lightning_internals import (
    are_evaluated_together,
    callbacks_of,
    hear_loaders,
    trains_nothing,
    why_not_validated,
)
from litscope.live.records import Status
from litscope.watch import active
from litscope.watch.both_trees import CallbackOfBothTrees
from litscope.watch.folder import in_short
from litscope.watch.outputs import read_outputs, refusal
from litscope.watch.samplers import drawn_by, steered
from litscope.watch.samples.drawn import Drawn, drawn_from
from litscope.watch.session import Session

_SPLIT_OF_STAGE = {"train": "train", "validate": "val", "test": "test"}

_RECORDED = {"training_step": "the training", "validation_step": "validation", "test_step": "the test"}
"""What is not recorded where a step tells nothing."""


class Scope(CallbackOfBothTrees):
    """Records every sample of a Trainer's fit, validations and tests, and lets people steer it meanwhile.

    The module's steps return `{"loss", "logits", "label", "sample_id"}` and perhaps `sample_loss` (B,), or call
    `litscope.watch.record`. Label and id may be left out where the loader draws from a `with_ids` data set. A step may
    also record numbers of its own alone (`signals`). It is a callback of `lightning.pytorch`, and of
    `pytorch_lightning` where that is imported.

    Args:
        run_dir: folder of the run; default: runs/watch-1 and so on. It has to be new, unless training goes on from a
            checkpoint.
        class_names: in the order of the class indices; default: what the data set tells, else 0, 1, ...
        log_every_n_steps: optimizer steps between two lines of the run's metrics/steps.jsonl.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        class_names: Iterable[str] | None = None,
        log_every_n_steps: int = 50,
    ) -> None:
        super().__init__()
        self._session = Session(run_dir, class_names, log_every_n_steps)
        self._splits: list[str] = []
        self._data: list[Drawn | None] = []
        self._spaces: list[str] = []
        self._is_evaluated_known = False
        self._train_data: Drawn | None = None
        self._is_train_known = False
        self._trained: list[Any] = []
        self._stage_met = ""
        self._told: set[str] = set()

    @property
    def run_dir(self) -> Path | None:
        """The run's folder, also when it is over; None before it begins, and where `ddp_spawn` runs it elsewhere."""
        return self._session.path

    # ---- beginning and ending ------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Hear of every loader: note its data, and have its sampler follow discards."""
        if any(isinstance(other, Scope) and other is not self for other in callbacks_of(trainer)):
            raise ConfigError("This Trainer has two Scopes, and one records all that it shows: leave one away.")
        self._session.is_predicting = stage == "predict"
        active.push(self._session, trainer)
        self._begin_round()
        hear_loaders(trainer, partial(self._meet, trainer))

    def _meet(self, trainer: Any, loader: Any, stage: str) -> Any:
        """The loader that is used in place of one that Lightning is about to use."""
        split, session = _SPLIT_OF_STAGE.get(stage), self._session
        drawn = drawn_from(getattr(loader, "dataset", None))
        if split is None or drawn is None:  # such as a prediction
            return loader
        if stage != self._stage_met:
            self._begin_round()
        self._stage_met = stage
        session.register(drawn, split, trainer.global_step)
        return steered(loader, drawn)

    def _begin_round(self) -> None:
        self._stage_met = ""
        self._session.roster.begin_round()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        session = self._session
        if trainer.global_step < session.place.step:
            raise ConfigError("This Scope has recorded another training already: make one for each.")
        session.place.step = trainer.global_step
        loaders = _flat(trainer.train_dataloader)
        session.facts |= in_short(pl_module, getattr(loaders[0], "dataset", None) if len(loaders) == 1 else None)
        session.rates.watch(trainer.optimizers)
        session.reopen()
        session.open(trainer.global_step)
        session.goes_on(trainer.current_epoch)
        session.can_save(trainer.save_checkpoint)
        if (why := why_not_validated(trainer)) is not None:
            self._tell(trainer, f"no validation is recorded: {why}; ask about training samples (--split train)")

    def _look_at_training(self, trainer: Any) -> None:
        """Which data the epoch shows; they may have been loaded anew for it."""
        self._begin_round()
        loaders = _flat(trainer.train_dataloader)
        self._train_data = drawn_by(loaders[0]) if len(loaders) == 1 else None
        self._is_train_known = len(loaders) == 1
        self._trained = [getattr(loader, "dataset", None) for loader in loaders]

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        # Lightning skips a fit that has nothing left to train: the run that was to go on is over
        session, step = self._session, trainer.global_step
        if session.is_yet_to_end(step):
            session.place.step = step
            session.open(step)
            session.goes_on(trainer.current_epoch)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        active.pop(self._session)
        self._session.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep what was recorded, whatever ended the training."""
        active.pop(self._session)
        is_stopped = isinstance(exception, KeyboardInterrupt | SystemExit)  # Lightning's SIGTERMException is the latter
        status: Status = "interrupted" if is_stopped else "failed"
        try:
            self._session.close(status, f"{type(exception).__name__}: {exception}")
        except (LitscopeError, OSError) as error:  # such as a full disk: the first error is the one to tell
            warn(f"the run could not be closed in order: {error}")

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Write all so far before it: after a crash, a run that goes on from it would lack it."""
        if self._session.is_open:
            self._session.flush(_numbers(trainer.callback_metrics))

    # ---- training ------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._look_at_training(trainer)
        self._session.epoch_begins(trainer.current_epoch)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        # from here on `record` inside the step is about training
        session = self._session
        place = session.place
        place.split, place.phase, place.step = "train", "train", trainer.global_step
        place.drawn, place.is_loader_known, place.space = self._train_data, self._is_train_known, ""
        place.is_recorded = not trains_nothing(trainer)
        if not place.is_recorded:
            self._tell(trainer, "this epoch trains nothing (StochasticWeightAveraging): its batches are not recorded")
        session.next_batch()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        session = self._session
        if not session.has_row and session.place.is_recorded:
            self._take(trainer, outputs, batch, self._train_data, "training_step")
        if isinstance(outputs, Mapping) and isinstance(loss := outputs.get("loss"), Tensor):
            session.note_loss(loss)
        if batch_idx + 1 >= trainer.num_training_batches:
            session.training_ends()
        if trainer.global_step != session.place.step and not session.step_ends(trainer.global_step):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        # Lightning calls it after the validation
        self._session.place.split, self._session.place.phase = "train", "train"
        self._session.log(_numbers(trainer.callback_metrics))
        if not self._session.epoch_ends():
            trainer.should_stop = True

    # ---- evaluation ----------------------------------------------------------------------------

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        # opens the run where a validation stands alone; a sanity check is not recorded
        self._begin_round()
        if not trainer.sanity_checking:
            self._evaluation_starts(trainer, trainer.val_dataloaders, "val")

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin_round()
        self._evaluation_starts(trainer, trainer.test_dataloaders, "test")

    def _evaluation_starts(self, trainer: Any, loaders: Any, split: str) -> None:
        session = self._session
        session.reopen()
        session.open(trainer.global_step)
        session.place.phase, session.place.step = "eval", trainer.global_step
        self._splits, self._data, self._spaces = [], [], []
        own: list[Any] = []
        for loader in _flat(loaders):
            drawn = drawn_by(loader)
            known = None if drawn is None else session.roster.split_of(drawn)
            dataset = getattr(loader, "dataset", loader)
            if drawn is None and any(dataset is trained for trained in self._trained):
                known = "train"
            self._splits.append(known or split)
            self._data.append(drawn)
            self._spaces.append("" if drawn is not None or known else _space(split, own, dataset))
        self._is_evaluated_known = not are_evaluated_together(trainer)
        if not self._is_evaluated_known:  # all have the index 0
            self._splits = [self._splits[0] if len(set(self._splits)) == 1 else split]
            self._data, self._spaces = [None], [""]
        if trainer.state.fn != "fit":
            session.stands_alone(self._splits)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._session.stood_alone()

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._session.stood_alone()

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        # from here on `record` inside the step is about this loader's split
        if not trainer.sanity_checking:
            self._evaluation_batch_starts(dataloader_idx)

    def on_test_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._evaluation_batch_starts(dataloader_idx)

    def _evaluation_batch_starts(self, dataloader_idx: int) -> None:
        session = self._session
        session.place.split, session.place.phase = self._splits[dataloader_idx], "eval"
        session.place.is_recorded = True
        session.place.drawn = self._data[dataloader_idx]
        session.place.is_loader_known = self._is_evaluated_known
        session.place.space = self._spaces[dataloader_idx]
        session.next_batch()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not trainer.sanity_checking and not self._session.has_row:
            self._take(trainer, outputs, batch, self._data[dataloader_idx], "validation_step")

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self._session.has_row:
            self._take(trainer, outputs, batch, self._data[dataloader_idx], "test_step")

    # ---- rows ----------------------------------------------------------------------------------

    def _take(self, trainer: Any, outputs: Any, batch: Any, data: Drawn | None, step: str) -> None:
        """Record what a step returned. A training step that tells nothing ends the run; an evaluation is warned of."""
        found = read_outputs(outputs, batch, data)
        if found.is_row:
            self._session.record(found.sample_id, found.logits, found.label, found.signals)
        elif found.is_signals:
            self._session.record(found.sample_id, signals=found.signals)
        elif self._session.has_signals and found.logits is None:
            return  # the step recorded them itself
        elif step != "training_step" or not _is_skipped(trainer, outputs):
            message = refusal(found, outputs, step, data)
            if step == "training_step":
                raise ConfigError(message)
            self._tell(trainer, f"{_RECORDED[step]} is not recorded. {message}", step)

    def _tell(self, trainer: Any, message: str, kind: str | None = None) -> None:
        """Warn once of each kind, on the first rank."""
        kind = kind or message
        if kind not in self._told and trainer.is_global_zero:
            warn(message)
        self._told.add(kind)


def _is_skipped(trainer: Any, outputs: Any) -> bool:
    """Whether Lightning skipped the batch, because the step returned None, or a hook said so before it."""
    return outputs is None or (not outputs and trainer.lightning_module.automatic_optimization)


def _space(split: str, known: list[Any], dataset: Any) -> str:
    """Where ids of a person's own count that this data set gives; it is noted as the next one of its stage."""
    at = next((i for i, one in enumerate(known) if one is dataset), len(known))
    known[at:] = known[at:] or [dataset]
    return f"{split}-{at + 1}" if at else split


def _flat(loaders: Any) -> list[Any]:
    """The loaders of one stage, in the order of `dataloader_idx`."""
    return list(CombinedLoader(loaders, "sequential").flattened) if loaders is not None else []


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if getattr(value, "ndim", 0) == 0}
