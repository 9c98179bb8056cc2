"""Checkpoints from which a run resumes exactly, and files that are whole or absent.

Lightning saves its loop counters as they stand in the hook that saves, and restores them by
guessing that hook from their differences; some guesses lose the validation or repeat an epoch.
So every checkpoint is rewritten into one of three positions that Lightning 2.6 restores correctly:

    mid        inside an epoch, at a step's end
    validate   the training of an epoch is over, its validation is still to come
    end        an epoch is over, validation included

A run that ends inside an epoch (`--max-time`, `--max-steps`, `litscope stop`) validates there: that is `validate`, too,
and afterwards `mid`, from where it can go on.

Beside Lightning's own state (weights, optimizer, schedule, callbacks, precision) a checkpoint
holds `checkpoint["litscope"]`: the position, each rank's random state, clocks. All of it loads
with `weights_only=True`. The file is sealed (`seals`), so that a flipped bit is found by whoever reads it, and the
last one before is kept, as `previous.ckpt`.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from litscope.claims import Guard
from litscope.lightning_internals import LoopStage, write_loop_counters
from litscope.models.checkpoint_file import load_checkpoint, map_checkpoint
from litscope.models.checkpoint_parts import remove_unnamed, save_file
from litscope.rundir import BEST, LAST, PREVIOUS, name_also

KEY = "litscope"
"""Where our part of a checkpoint stands."""


@dataclass(frozen=True)
class Position:
    """Where in the run a checkpoint was taken.

    Attributes:
        stage: see the module's docstring.
        epoch: the epoch that the next training batch belongs to, from 0.
        batches_done: batches of `epoch` that are trained; 0 unless the run stands inside it.
    """

    stage: LoopStage
    epoch: int
    batches_done: int

    @property
    def epochs_done(self) -> int:
        """Epochs that are over, validation included."""
        return self.epoch - 1 if self.stage == "validate" and not self.batches_done else self.epoch


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes under another name, seals, flushes and renames; reads nothing but tensors and plain values.

    Attributes:
        adapt: called with each checkpoint after reading, before Lightning looks at it.
        guard: asked before a checkpoint gets its name.
        maps: leave tensors in their files until they are looked at, see `checkpoint_file.map_checkpoint`.
    """

    adapt: Callable[[dict[str, Any]], None] | None = None
    guard: Guard | None = None
    maps = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`, whole or not at all; the earlier file stays until then, a last one for longer.
        Parts go that belong to none any more, also those of a run whose checkpoints are whole now.

        Raises:
            OSError: if the disk is full or fails.
        """
        assert storage_options is None
        path = Path(path)
        former = path.with_name(PREVIOUS) if path.name == LAST else None
        save_file(checkpoint, path, former, self.guard)
        remove_unnamed(path.parent)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = None,  # noqa: ARG002  always True: a checkpoint must not run code
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            RunError: as `checkpoint_file.load_checkpoint`.
        """
        checkpoint = map_checkpoint(path) if self.maps else load_checkpoint(path, map_location)
        if self.adapt is not None:
            self.adapt(checkpoint)
        return checkpoint


def guard_checkpoints(trainer: L.Trainer, guard: Guard) -> None:
    """Have `guard` asked before a checkpoint of this trainer gets its name."""
    io = trainer.strategy.checkpoint_io
    assert isinstance(io, AtomicCheckpointIO), f"a run's checkpoints are written whole, not by {type(io).__name__}"
    io.guard = guard


def supersede(folder: Path, checkpoint: Path) -> None:
    """A run goes on in its folder from `checkpoint`, which is its last one now: what came after it is given up.

    Args:
        folder: of the run's checkpoints.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if last.exists() and checkpoint.samefile(last):
        return
    if previous.exists() and not checkpoint.samefile(previous):
        previous.unlink()
    if last.exists() or checkpoint.name == PREVIOUS:
        name_also(checkpoint, last)


def steering_state(path: Path | None) -> dict[str, Any]:
    """What was asked of the run while it trained, from its checkpoint; empty without one.

    Raises:
        RunError: as `load_checkpoint`.
    """
    if path is None:
        return {}
    state: dict[str, Any] = load_checkpoint(path, mmap=True).get(KEY, {}).get("steering", {})
    return state


def write_position(checkpoint: dict[str, Any], position: Position, global_step: int, num_batches: int) -> None:
    """Rewrite the loop counters of a checkpoint, so that Lightning takes up the run at `position`.

    Args:
        checkpoint: Lightning's dictionary, from `on_save_checkpoint`; changed in place.
        position: where the run stands.
        global_step: optimizer steps so far.
        num_batches: training batches of an epoch.
    """
    is_whole = position.stage == "validate" and not position.batches_done
    batches_done = num_batches if is_whole else position.batches_done
    write_loop_counters(
        checkpoint,
        position.stage,
        epochs_done=position.epochs_done,
        batches_done=batches_done,
        global_step=global_step,
    )


def position_of(loader_state: dict[str, Any], is_validation_due: bool) -> Position:
    """The position of a run whose training loader stands at `loader_state` (epoch, batches_done)."""
    epoch, batches = int(loader_state["epoch"]), int(loader_state["batches_done"])
    if is_validation_due:
        return Position("validate", epoch, batches)
    return Position("mid" if batches else "end", epoch, batches)


def random_state() -> dict[str, Any]:
    """The state of this process's random generators (torch, its CUDA device, numpy, Python), as plain values."""
    name, words, index, has_gauss, cached = np.random.get_state(legacy=True)
    assert name == "MT19937"
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [np.asarray(words).tolist(), int(index), int(has_gauss), float(cached)],
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    words, index, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(words, dtype=np.uint32), index, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


class BestCheckpoints(ModelCheckpoint):
    """Lightning's ModelCheckpoint, but file names count epochs from 1, and the best is also found as best.ckpt.

    Its state stands in checkpoints under Lightning's own name, and its key is put together once, not at every hook of
    every step. An epoch in which the monitor is undefined is never among the best; only `save_top_k=-1` keeps its file.
    (Lightning keeps it while there is room, and gives it infinity.)
    """

    _named: tuple[str, int] | None = None
    """Path and modification time of the file that best.ckpt stands for."""

    def check_monitor_top_k(self, trainer: L.Trainer, current: torch.Tensor | None = None) -> bool:
        """Whether an epoch with this value of the monitor is one of the best so far."""
        is_undefined = current is not None and not bool(torch.isfinite(current))
        return self.save_top_k == -1 if is_undefined else super().check_monitor_top_k(trainer, current)

    @cached_property
    def state_key(self) -> str:
        """The key of its state in a checkpoint."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def format_checkpoint_name(
        self,
        metrics: dict[str, torch.Tensor],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """As Lightning does, but the first epoch is 1, because people read the name."""
        return super().format_checkpoint_name({**metrics, "epoch": metrics["epoch"] + 1}, filename, ver, prefix)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the best its second name: the run may have been killed before that, or be older than the name."""
        super().on_train_start(trainer, pl_module)
        self._name_best(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the checkpoint if it is among the best."""
        super().on_train_epoch_end(trainer, pl_module)
        self._name_best(trainer)

    def unname_best(self, trainer: L.Trainer) -> None:
        """No checkpoint is the best now: remove best.ckpt. The file under its other name stays."""
        self._named = None
        if trainer.is_global_zero:
            Path(str(self.dirpath), BEST).unlink(missing_ok=True)

    def _name_best(self, trainer: L.Trainer) -> None:
        best = Path(best_path([self]))
        if not trainer.is_global_zero or not best.is_file():
            return
        is_now = (self.best_model_path, best.stat().st_mtime_ns)
        if self._named != is_now:
            name_also(best, best.with_name(BEST))
            self._named = is_now


def best_path(callbacks: Iterable[L.Callback]) -> str:
    """The best checkpoint of a training, or "": where the monitor was undefined in every epoch there is none."""
    found = next((callback for callback in callbacks if isinstance(callback, ModelCheckpoint)), None)
    if found is None:
        return ""
    score = found.best_model_score
    return found.best_model_path if score is None or bool(torch.isfinite(score)) else ""


def epoch_of(checkpoint: Path) -> int | None:
    """The epoch after which a checkpoint was written, from 0; None for a file that is gone, or of another program."""
    if not checkpoint.is_file():
        return None
    position = load_checkpoint(checkpoint, mmap=True).get(KEY, {}).get("position")
    return Position(**position).epochs_done - 1 if position else None


def best_checkpoints(folder: Path, monitor: str | None, mode: str | None, save_top_k: int) -> BestCheckpoints:
    """Lightning's ModelCheckpoint for the best `save_top_k`, by `monitor`, at the end of each epoch.

    Files are called `epoch03-val_accuracy0.9712.ckpt` (epochs from 1; earlier versions counted them from 0).
    """
    shown = f"-{re.sub(r'[^A-Za-z0-9]+', '_', monitor)}{{{monitor}:.4f}}" if monitor else ""
    return BestCheckpoints(
        dirpath=folder,
        filename=f"epoch{{epoch:02d}}{shown}",
        monitor=monitor,
        mode=mode or "min",
        save_top_k=save_top_k if monitor or save_top_k in (-1, 0, 1) else 1,
        save_last=False,
        auto_insert_metric_name=False,
        save_on_train_epoch_end=True,
        enable_version_counter=False,  # a run that was killed behind this file, and goes on, writes it once more
    )
