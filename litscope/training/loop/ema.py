"""An exponential moving average of the weights (Polyak averaging), used wherever the model is evaluated.

After n optimizer steps the decay is min(decay, (1 + n) / (10 + n)), so that short runs are not
held back by their random start (Abadi et al., TensorFlow's ExponentialMovingAverage). Batch-norm
statistics are averaged like weights; whole numbers are copied.

A checkpoint's `state_dict` holds the average, which is what evaluation and prediction want; the
weights being trained stand beside it, so a run resumes exactly. (Lightning's EMAWeightAveraging
copies the whole module before our network is built, and saves swapped weights when it is
interrupted in validation.)
"""

# ruff: noqa: ARG002 - Lightning passes every hook all its arguments
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from litscope.console import warn
from litscope.models.classifier import Classifier
from litscope.models.shards import load_weights, own_share, shared_out

TRAINED_KEY = "litscope_trained_weights"
"""Where a checkpoint keeps the weights that are being trained, when its `state_dict` is the average."""


class AveragedWeights(L.Callback):
    """Keeps the average of a module's state, and lends it to the module for validation.

    Args:
        decay: weight of the past at each optimizer step, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: dict[str, Tensor] = {}
        self._averaged: list[Tensor] = []
        self._values: list[Tensor] = []
        self._copied: list[tuple[Tensor, Tensor]] = []
        self._is_lent = False
        self._num_updates = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start from the module's weights, or from the checkpoint's average, at the step that it restored; and pair
        each tensor, or this process's share of it, with its average once.
        """
        self._num_updates = trainer.global_step
        own = pl_module.state_dict()
        start = self._average or own
        self._average = {
            name: shared_out(start[name], value).detach().clone().to(value.device) for name, value in own.items()
        }
        pairs = [(own_share(self._average[name]), own_share(value)) for name, value in own.items()]
        self._averaged = [kept for kept, value in pairs if value.is_floating_point()]
        self._values = [value for _, value in pairs if value.is_floating_point()]
        self._copied = [(kept, value) for kept, value in pairs if not value.is_floating_point()]
        if isinstance(pl_module, Classifier):
            pl_module.steps.after_step = self._follow  # several steps in one call, see `models.steps`

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Follow the weights, once per optimizer step."""
        if trainer.global_step != self._num_updates:
            self._follow(trainer.global_step)

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        self._num_updates = step
        decay = min(self.decay, (1 + self._num_updates) / (10 + self._num_updates))
        torch._foreach_lerp_(self._averaged, self._values, 1.0 - decay)
        for kept, value in self._copied:
            kept.copy_(value)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average into the module."""
        if trainer.state.fn == "fit":
            self._swap(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the trained weights back."""
        if trainer.state.fn == "fit":
            self._swap(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the module with the average."""
        self._swap(pl_module)

    @contextmanager
    def lent(self, module: L.LightningModule) -> Iterator[None]:
        """The module has the average while inside, as in validation."""
        is_mine = not self._is_lent
        if is_mine:
            self._swap(module)
        try:
            yield
        finally:
            if is_mine:
                self._swap(module)

    @torch.no_grad()
    def _swap(self, module: L.LightningModule) -> None:
        for name, value in module.state_dict().items():
            trained, average = own_share(value), own_share(self._average[name])
            kept = trained.clone()
            trained.copy_(average)
            average.copy_(kept)
        self._is_lent = not self._is_lent

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Make the average the checkpoint's weights."""
        mine, modules = self._average, checkpoint["state_dict"]
        average, trained = (modules, mine) if self._is_lent else (mine, modules)
        checkpoint["state_dict"], checkpoint[TRAINED_KEY] = dict(average), dict(trained)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint's average, and train on from its trained weights."""
        if trainer.state.fn != "fit":
            return
        self._average = checkpoint["state_dict"]
        if TRAINED_KEY in checkpoint:
            load_weights(pl_module, checkpoint[TRAINED_KEY])
        else:
            warn("the checkpoint holds no averaged weights (--ema-decay was off); the average starts from its weights")
