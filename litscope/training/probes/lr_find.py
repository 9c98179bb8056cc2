"""The learning-rate finder: `litscope lr-find`. It leaves what it touches exactly as it was.

Lightning's own finder takes the slope of an exponential sweep against the linear learning rate,
so noise of 0.002 on the loss moves its suggestion by decades; `lr_curve.py` holds the rule used
here. The sweep runs the real `Classifier` on real batches in an `L.Trainer`, so precision,
augmentation and accumulation are those of the run.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch

from litscope.config.recipe import Recipe
from litscope.config.section import can_be_folder
from litscope.data.datamodule import ClassificationData
from litscope.data.loader import Loader
from litscope.defaults import optimizer_family
from litscope.errors import ConfigError
from litscope.models.classifier import Classifier
from litscope.training.hardware import Plan
from litscope.training.probes.lr_curve import LrResult, Sweep, join, read_sweep
from litscope.training.probes.trial import restore, snapshot, trial_of, trial_trainer, unchanged
from litscope.training.threads import torch_threads
from litscope.training.tuning.finetune import begin_tuning

EPOCH_STRIDE = 10_000
"""Sweep k draws its batches from epoch k times this, so that each sees another order."""


def lr_find(
    recipe: Recipe,
    *,
    num_sweeps: int = 3,
    num_steps: int = 100,
    lr_min: float | None = None,
    lr_max: float | None = None,
    figure: str | os.PathLike[str] | None = None,
) -> LrResult:
    """Suggest a learning rate for a recipe, by measuring on its data.

    Args:
        recipe: what it leaves open is chosen as `fit` would.
        num_sweeps, num_steps, lr_min, lr_max: see `sweep_learning_rates`.
        figure: where the plot goes, a PNG file; None draws none.

    Raises:
        UserError: whatever `fit` would refuse.
    """
    if figure is not None and (Path(figure).is_dir() or not can_be_folder(Path(figure).absolute().parent)):
        raise ConfigError(f"--figure {figure}: it is the name of a PNG file, in a folder that is there or can be made.")
    start, classifier = trial_of(recipe)
    recipe = start.recipe
    begin_tuning(start, classifier)
    with torch_threads(recipe.hardware.num_threads):
        result = sweep_learning_rates(
            classifier,
            start.data,
            start.plan,
            num_sweeps=num_sweeps,
            num_steps=num_steps,
            lr_min=lr_min,
            lr_max=lr_max,
            accumulate_grad_batches=recipe.training.accumulate_grad_batches,
            gradient_clip_val=recipe.training.gradient_clip_val,
            given=recipe.training.lr,
        )
    if figure is None:
        return result
    result.plot(figure)
    return dataclasses.replace(result, figure=str(figure))


def sweep_learning_rates(
    classifier: Classifier,
    data: ClassificationData,
    plan: Plan,
    *,
    num_sweeps: int = 3,
    num_steps: int = 100,
    lr_min: float | None = None,
    lr_max: float | None = None,
    accumulate_grad_batches: int = 1,
    gradient_clip_val: float | None = None,
    given: float | None = None,
) -> LrResult:
    """Raise the learning rate from `lr_min` to `lr_max`, several times from the same weights.

    Weights, buffers, and the random states of Python, numpy and torch are afterwards bit-equal to
    before; the optimizer is made anew for each sweep.

    Args:
        classifier, data: those of the run.
        plan: checked hardware; one device of it is used.
        num_sweeps: each with another order of the samples.
        num_steps: optimizer steps of a sweep; it ends earlier where the loss blows up.
        lr_min, lr_max: default 1e-6 to 1, for sgd 1e-5 to 10.
        accumulate_grad_batches, gradient_clip_val: as in training.
        given: a learning rate to show beside the suggestion.

    Raises:
        ConfigError: if the range or the number of steps cannot make a curve.
    """
    low, high = _range(classifier, lr_min, lr_max)
    if num_steps < 10 or num_sweeps < 1:
        raise ConfigError(f"{num_sweeps} sweeps of {num_steps} steps: at least 1 sweep of 10 steps is needed.")
    sweeps = []
    with unchanged(classifier, data):
        before = snapshot(classifier)
        for k in range(num_sweeps):
            restore(classifier, before)
            torch.manual_seed(data.seed + k)
            recorder = _SweepCallback(np.geomspace(low, high, num_steps), EPOCH_STRIDE * k, accumulate_grad_batches)
            trainer = trial_trainer(
                plan,
                recorder,
                max_steps=num_steps,
                accumulate_grad_batches=accumulate_grad_batches,
                gradient_clip_val=gradient_clip_val,
            )
            trainer.fit(classifier, datamodule=data)
            sweeps.append(recorder.sweep())
        restore(classifier, before)
    return join(sweeps, given)


class _SweepCallback(L.Callback):
    """Sets the learning rate of each step and keeps its loss."""

    def __init__(self, lrs: np.ndarray[Any, np.dtype[np.float64]], first_epoch: int, accumulate: int) -> None:
        self.lrs = lrs
        self.first_epoch = first_epoch
        self.accumulate = accumulate
        self.losses: list[list[float]] = []

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        loader: Loader = trainer.train_dataloader  # type: ignore[assignment]
        loader.epoch = self.first_epoch

    def on_train_batch_start(
        self,
        trainer: L.Trainer,
        *_: Any,
    ) -> None:
        step = trainer.global_step
        if len(self.losses) <= step:
            self.losses.append([])
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = float(self.lrs[step]) * group["lr_share"]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002
        outputs: Any,
        *_: Any,
    ) -> None:
        self.losses[-1].append(float(outputs["loss"].detach()))
        seen = [float(np.mean(losses)) for losses in self.losses]
        if not np.isfinite(seen[-1]) or seen[-1] > 4 * max(seen[:5]):
            trainer.should_stop = True

    def sweep(self) -> Sweep:
        """The recorded losses, and the rate that they suggest."""
        losses = np.array([np.mean(losses) for losses in self.losses if losses])
        return read_sweep(self.lrs[: len(losses)], losses)


def _range(classifier: Classifier, lr_min: float | None, lr_max: float | None) -> tuple[float, float]:
    """The learning rates of a sweep."""
    low, high = (1e-5, 10.0) if optimizer_family(str(classifier.hparams["optimizer"])) == "sgd" else (1e-6, 1.0)
    low = low if lr_min is None else lr_min
    high = high if lr_max is None else lr_max
    if not 0 < low < high:
        raise ConfigError(f"The sweep goes from {low:g} to {high:g}; the first must be above 0 and below the second.")
    return low, high
