"""Every part of Lightning that is touched here and that its documentation does not promise, behind named functions.

Lightning 2.6. Where its next version moves something, this file changes and nothing else: one test for each function
(`tests/ground/test_lightning_internals.py`) uses a real Trainer and fails, and another file
(`tests/project/test_private_lightning.py`) keeps private names out of the rest of the package. What a function
relies on stands in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

_TRAINER_MODULES = ("lightning.pytorch.trainer.trainer", "pytorch_lightning.trainer.trainer")

# ---- what a trainer has and does not declare -----------------------------------------------------


def datamodule_of(trainer: L.Trainer) -> L.LightningDataModule | None:
    """The data module that the trainer's last `fit`, `validate` or `test` was given."""
    data: L.LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]
    return data


def callbacks_of(trainer: L.Trainer) -> list[L.Callback]:
    """The callbacks, in the order in which they are called."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def set_callbacks(trainer: L.Trainer, callbacks: list[L.Callback]) -> None:
    """Call these from the next hook on. A list of its own: Lightning may be going through the other one."""
    trainer.callbacks = callbacks  # type: ignore[attr-defined]


def is_overfitting(trainer: L.Trainer) -> bool:
    """Whether the trainer was made with `overfit_batches`: its validation then shows training samples."""
    return bool(trainer.overfit_batches > 0)  # type: ignore[attr-defined]


def is_fast_dev_run(trainer: L.Trainer) -> bool:
    """Whether the trainer was made with `fast_dev_run`, which leaves no checkpoint."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def has_grad_scaler(trainer: L.Trainer) -> bool:
    """Whether gradients are scaled (16-mixed): a fused optimizer would unscale them by itself, unclipped."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def trainer_of(module: object) -> L.Trainer | None:
    """The trainer that a module was given to last; None for a module that is no LightningModule, or was given to none.

    (The public property raises.)
    """
    trainer: L.Trainer | None = getattr(module, "_trainer", None)
    return trainer


def calling_trainer() -> L.Trainer | None:
    """The trainer in whose loop the caller runs, of Lightning's new or old package; None outside of one.

    For code that has no module to ask. It looks for a method of a trainer among the frames that lead here.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in _TRAINER_MODULES and "self" in frame.f_locals:
            trainer: L.Trainer = frame.f_locals["self"]
            return trainer
        frame = frame.f_back
    return None


@contextmanager
def trainers_kept(module: L.LightningModule, data: L.LightningDataModule) -> Iterator[None]:
    """Inside, both may be given to another trainer; afterwards they have the one that they had."""
    of_module, of_data = trainer_of(module), data.trainer
    try:
        yield
    finally:
        module._trainer, data.trainer = of_module, of_data


def set_rank(rank: int) -> None:
    """Say which process this is, for what only the first one does: its loggers write.

    Lightning takes it from RANK, LOCAL_RANK or SLURM_PROCID when it is imported, whoever set them; a trainer of several
    processes sets it right, one that trains alone does not, and its loggers would be silent.
    """
    rank_zero_only.rank = rank  # type: ignore[attr-defined]


# ---- stopping and ending -------------------------------------------------------------------------


def leave_scheduler_alone(trainer: L.Trainer) -> None:
    """Have Lightning set no signal handlers when it starts, and take up no checkpoint that its own requeueing left.

    Its handler broadcasts to the other ranks, in the midst of whatever the process does. And inside of SLURM a fit that
    is given no checkpoint goes on from any `hpc_ckpt_*.ckpt` in its folder.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    connector = trainer._checkpoint_connector
    connector.__class__ = type("_WithoutHpc", (type(connector),), {"_hpc_resume_path": None})


def leave_sigterm_alone(trainer: L.Trainer) -> None:
    """Have Lightning forget a SIGTERM that it noted, and ask at no step whether another rank had one.

    For a training that has started: Lightning's own handler was in place until then. Its question is a broadcast to
    all ranks, and waits for the device.
    """
    trainer._signal_connector.received_sigterm = False
    if trainer.world_size > 1:
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def set_max_epochs(trainer: L.Trainer, max_epochs: int | None) -> None:
    """Train for this many epochs in all; None: without an end. (The trainer's property cannot be set.)"""
    trainer.fit_loop.max_epochs = -1 if max_epochs is None else max_epochs


def set_max_steps(trainer: L.Trainer, max_steps: int | None) -> None:
    """Take so many optimizer steps in all; None: without an end. (The trainer's property cannot be set.)

    Where its epochs or steps are done, a fit that goes on from a checkpoint returns before `on_train_start`, and with
    its steps done also before a validation that is still due. So both limits are lifted until it has begun.
    """
    trainer.fit_loop.epoch_loop.max_steps = -1 if max_steps is None else max_steps


def why_not_validated(trainer: Any) -> str | None:
    """Why a fit that has started has no validation; None where it has one. Of either class tree."""
    if trainer.enable_validation:
        return None
    if not trainer.fit_loop.epoch_loop.val_loop._data_source.is_defined():
        return "the Trainer was given no validation loader"
    return "limit_val_batches is 0" if trainer.limit_val_batches == 0 else "the module has no validation_step"


def trains_nothing(trainer: Any) -> bool:
    """Whether the epoch that runs leaves out the backward pass and the optimizer: StochasticWeightAveraging appends one
    in which the averaged network's batch norms count anew. Of either class tree."""
    return bool(trainer.fit_loop._skip_backward)


# ---- loaders -------------------------------------------------------------------------------------


def ask_for_train_loader(trainer: L.Trainer) -> None:
    """Have the next epoch ask the data module for a loader, and count its batches anew."""
    trainer.fit_loop._combined_loader = None


def ask_for_val_loader(trainer: L.Trainer) -> None:
    """Have the next validation ask the data module for a loader, and count its batches anew."""
    trainer.fit_loop.epoch_loop.val_loop._combined_loader = None


def hear_loaders(trainer: Any, heard: Callable[[object, str], object]) -> None:
    """Be told of every loader before it is used. The first who asks is told, for as long as the trainer lives.

    The stage is that of the loop that asks for the loader, a local variable of the strategy's caller: while a batch
    size is searched, the trainer stands in training when the validation's loaders are made anew.

    Args:
        trainer: of either class tree.
        heard: gets the loader, as the strategy made it, and the stage: "train", "validate", "test", "predict". Returns
            the loader that is used.
    """
    inject = trainer.strategy.process_dataloader
    if getattr(inject, "is_heard", False):
        return

    def process_dataloader(loader: object) -> object:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        return heard(inject(loader), str(frame.f_back.f_locals["stage"].value))

    process_dataloader.is_heard = True  # type: ignore[attr-defined]
    trainer.strategy.process_dataloader = process_dataloader


def are_evaluated_together(trainer: Any) -> bool:
    """Whether a batch of the evaluation that starts is one of several loaders side by side, of a `CombinedLoader` that
    does not go through them one after the other. Of either class tree."""
    return bool(trainer._evaluation_loop._combined_loader._mode != "sequential")


# ---- counting ------------------------------------------------------------------------------------


def steps_begun(trainer: L.Trainer) -> int:
    """Optimizer steps that lie behind, asked from inside `training_step`."""
    return int(trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer_steps)


def count_call(trainer: L.Trainer, num_batches: int, num_steps: int) -> None:
    """Have the loops count all batches and steps of a call of `training_step` that optimised by itself.

    Lightning counts one batch, and one step of the schedule, when the call returns; none of the optimizer.
    """
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    assert fetcher is not None
    fetcher.fetched += num_batches - 1
    fetcher.done = fetcher.length is not None and fetcher.fetched >= fetcher.length
    loop.batch_progress.increment_by(num_batches - 1, is_last_batch=fetcher.done)
    loop._batches_that_stepped += num_steps - 1
    loop.scheduler_progress.increment_by(num_steps - 1)
    progress = loop.automatic_optimization.optim_progress.optimizer
    progress.step.increment_by(num_steps)
    progress.zero_grad.increment_by(num_steps)


# ---- going on from a checkpoint ------------------------------------------------------------------


def batches_behind(trainer: L.Trainer) -> int:
    """Batches of the epoch that a resumed fit goes on with; 0 where it starts with a whole one."""
    loop = trainer.fit_loop
    return int(loop.epoch_loop.batch_progress.current.ready) if loop.restarted_mid_epoch else 0


def start_a_whole_epoch(trainer: L.Trainer) -> None:
    """A fit that is resumed between two epochs begins the next one.

    With `max_steps` Lightning takes it for a restart in mid-epoch: a bracket is missing in `FitLoop.restarting`.
    """
    trainer.fit_loop.epoch_loop.restarting = False


def validate_where_it_stands(trainer: L.Trainer) -> None:
    """A fit that is resumed after an epoch's last batch validates now, whatever number of batches an epoch has by now.

    Lightning validates after the batch of this number, which it takes from the loader.
    """
    trainer.val_check_batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready


LoopStage = Literal["mid", "validate", "end"]
"""Inside an epoch; all its batches are trained and its validation is to come; it is over, validation included."""


def write_loop_counters(
    checkpoint: dict[str, Any], stage: LoopStage, *, epochs_done: int, batches_done: int, global_step: int
) -> None:
    """Rewrite the loop counters of a checkpoint, so that Lightning goes on from there.

    It saves them as they stand in the hook that saves, and guesses that hook from their differences when it resumes;
    some guesses lose the validation or repeat an epoch.

    Args:
        checkpoint: from `on_save_checkpoint`; changed in place.
        stage: where the run stands.
        epochs_done: that are over, validation included.
        batches_done: of the epoch that runs: all of them where `stage` is "validate", 0 where it is "end".
        global_step: optimizer steps so far.
    """
    loops = checkpoint["loops"]["fit_loop"]
    is_open = stage != "end"
    epochs = _counts(epochs_done + is_open, epochs_done)
    loops["epoch_progress"] = {"total": dict(epochs), "current": dict(epochs)}
    total = loops["epoch_loop.batch_progress"]["total"]["ready"]
    loops["epoch_loop.batch_progress"] = {
        "total": _counts(total, total),
        "current": _counts(batches_done, batches_done),
        "is_last_batch": stage == "validate",
    }
    # One validation batch begun and not finished makes Lightning run the validation anew.
    begun = 1 if stage == "validate" else 0
    loops["epoch_loop.val_loop.batch_progress"] = {
        "total": _counts(begun, 0),
        "current": _counts(0, 0),
        "is_last_batch": False,
    }
    # The loggers' x axis; Lightning adds the epoch's last step only after validation.
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = global_step - begun
    loops["state_dict"].pop("combined_loader", None)  # our data module keeps the position of its loader


def _counts(started: int, done: int) -> dict[str, int]:
    return {"ready": started, "started": started, "processed": done, "completed": done}


def epochs_in(checkpoint: dict[str, Any]) -> int:
    """Epochs that lie behind a checkpoint, as Lightning counts them; 0 for one without loops."""
    loops = checkpoint.get("loops")
    return int(loops["fit_loop"]["epoch_progress"]["current"]["processed"]) if loops else 0


def optimizer_states(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states of the optimizers in a checkpoint, in their order."""
    states: list[dict[str, Any]] = checkpoint["optimizer_states"]
    return states


# ---- what callbacks know -------------------------------------------------------------------------


def is_early_stopped(callback: L.Callback) -> bool:
    """Whether this is an EarlyStopping whose patience is at its end."""
    return isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience


def is_early_stopped_in(checkpoint: dict[str, Any]) -> bool:
    """Whether the patience of an EarlyStopping was at its end when this checkpoint was written."""
    states = [s for key, s in checkpoint.get("callbacks", {}).items() if key.startswith(EarlyStopping.__qualname__)]
    return any(state["wait_count"] >= state["patience"] for state in states)


def wait_anew(callback: L.Callback) -> None:
    """Have an EarlyStopping count the epochs without improvement from zero; what was best stays."""
    if isinstance(callback, EarlyStopping):
        callback.wait_count = 0


def forget_best(callback: L.Callback) -> None:
    """Have a ModelCheckpoint or an EarlyStopping look for the best anew; other callbacks stay as they are.

    Files of earlier best checkpoints stay.
    """
    if isinstance(callback, ModelCheckpoint):
        callback.best_k_models, callback.best_model_path, callback.kth_best_model_path = {}, "", ""
        callback.best_model_score = None
        callback.kth_value = torch.tensor(-torch.inf if callback.mode == "max" else torch.inf)
    if isinstance(callback, EarlyStopping):
        callback.wait_count = 0
        callback.best_score = torch.tensor(torch.inf if callback.monitor_op == torch.lt else -torch.inf)


def adapt_callback_states(checkpoint: dict[str, Any], callbacks: list[L.Callback]) -> None:
    """Make the callbacks' states in a checkpoint fit this run: other callbacks, another folder.

    States of callbacks that this run does not have (another monitor, no early stopping) are dropped. Paths of kept
    checkpoints follow a run that was moved; they are dropped where the files are not in this run's folder, as when a
    new run starts from another's checkpoint.

    Args:
        checkpoint: as it was read; changed in place.
        callbacks: of the trainer that goes on from it.
    """
    states = checkpoint.get("callbacks", {})
    known = {callback.state_key: callback for callback in callbacks}
    for key in list(states):
        callback = known.get(key)
        if callback is None:
            del states[key]
        elif isinstance(callback, EarlyStopping):
            states[key]["patience"] = callback.patience  # it may have more patience than before
        elif isinstance(callback, ModelCheckpoint):
            folder = Path(str(callback.dirpath))
            if Path(states[key]["dirpath"]) != folder and not _move_paths(states[key], folder):
                del states[key]


def _move_paths(state: dict[str, Any], folder: Path) -> bool:
    """Point a ModelCheckpoint's state at `folder`; False if its best file is not there."""

    def moved(path: str) -> str:
        return str(folder / Path(path).name) if path else ""

    if not state["best_model_path"] or not Path(moved(state["best_model_path"])).exists():
        return False
    state["dirpath"] = str(folder)
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[name] = moved(state[name])
    return True
