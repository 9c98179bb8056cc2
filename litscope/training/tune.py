"""Learning-rate finder and batch-size finder. Both leave what they touch exactly as it was.

Lightning's own finder takes the slope of an exponential sweep against the linear learning rate,
so noise of 0.002 on the loss moves its suggestion by decades; `lr_curve.py` holds the rule used
here. Both finders run the real `Classifier` on real batches in an `L.Trainer`, so precision,
augmentation and accumulation are those of the run.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from litscope.console import say
from litscope.data.datamodule import ClassificationData
from litscope.data.loaders import Loader
from litscope.errors import ConfigError
from litscope.models.backbones import why_no_weights
from litscope.models.classifier import Classifier
from litscope.pictures import lr_curve
from litscope.training.batch_curve import BatchSizeResult, Probe, search
from litscope.training.build import make_classifier, make_data, make_source
from litscope.training.choices import look, optimizer_family, resolve
from litscope.training.hardware import Plan, check_hardware, memory_available_bytes
from litscope.training.lr_curve import LrResult, Sweep, join, read_sweep
from litscope.training.quiet import quiet_lightning
from litscope.training.recipe import Recipe
from litscope.types import Batch

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
    recipe, classifier, data, machine_plan = _prepare(recipe)
    result = sweep_learning_rates(
        classifier,
        data,
        machine_plan,
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
    lr_curve(
        [sweep.lr for sweep in result.sweeps],
        [sweep.loss for sweep in result.sweeps],
        result.suggestion,
        Path(figure),
        smooth=[sweep.smooth for sweep in result.sweeps],
        spread=(result.low, result.high) if result.low is not None and result.high is not None else None,
    )
    return dataclasses.replace(result, figure=str(figure))


def batch_size_find(
    recipe: Recipe, *, start: int = 8, most: int | None = None, memory_budget_bytes: int | None = None
) -> BatchSizeResult:
    """Suggest a batch size for a recipe, by measuring on this machine.

    Args:
        recipe: what it leaves open is chosen as `fit` would.
        start, most, memory_budget_bytes: see `find_batch_size`.

    Raises:
        UserError: whatever `fit` would refuse.
    """
    _, classifier, data, machine_plan = _prepare(recipe)
    return find_batch_size(
        classifier, data, machine_plan, start=start, most=most, memory_budget_bytes=memory_budget_bytes
    )


def _prepare(recipe: Recipe) -> tuple[Recipe, Classifier, ClassificationData, Plan]:
    """What `fit` would train: the resolved recipe, network, data, hardware."""
    machine_plan = check_hardware(recipe)
    source = make_source(recipe)
    facts = look(source, device=machine_plan.device_type, num_devices=machine_plan.world_size)
    recipe, lines = resolve(recipe, facts, why_no_weights)
    for line in lines:
        say(line)
    L.seed_everything(recipe.training.seed, verbose=False)
    data = make_data(recipe, source).open()
    return recipe, make_classifier(recipe, data), data, machine_plan


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
    with _unchanged(classifier, data), quiet_lightning():
        before = _snapshot(classifier)
        for k in range(num_sweeps):
            _restore(classifier, before)
            torch.manual_seed(data.seed + k)
            recorder = _SweepCallback(np.geomspace(low, high, num_steps), EPOCH_STRIDE * k, accumulate_grad_batches)
            trainer = _trainer(
                plan,
                recorder,
                max_steps=num_steps,
                accumulate_grad_batches=accumulate_grad_batches,
                gradient_clip_val=gradient_clip_val,
            )
            trainer.fit(classifier, datamodule=data)
            sweeps.append(recorder.sweep())
        _restore(classifier, before)
    return join(sweeps, given)


def find_batch_size(
    classifier: Classifier,
    data: ClassificationData,
    plan: Plan,
    *,
    start: int = 8,
    most: int | None = None,
    memory_budget_bytes: int | None = None,
    num_steps: int = 4,
) -> BatchSizeResult:
    """Try batch sizes by doubling, then bisect to the largest that fits in memory.

    On a GPU a size fits if training steps run without running out of memory. On a CPU, where
    running out would end the program, it fits if what one step keeps (weights, gradients, two
    moments, activations counted as autograd saves them, and as much again for what comes and goes) stays in
    `memory_budget_bytes`. Doubling ends at the memory, at the size of the training set, or where
    two doublings in a row bring less than 5 % more samples per second. Loading is not timed.

    Args:
        start: the first size.
        most: the largest size tried; default: an eighth of the training samples, for with fewer
            than eight steps an epoch hardly trains.
        memory_budget_bytes: for the CPU; default: half of the memory that is free.
        num_steps: timed steps of each size, after one that warms up.
    """
    on_cpu = plan.device_type == "cpu"
    budget = memory_budget_bytes or (memory_available_bytes() // 2 if on_cpu else None)
    with _unchanged(classifier, data), quiet_lightning():
        before = _snapshot(classifier)
        batch = _one_batch(data, min(len(data.train_ids), 64))

        def probe(size: int) -> Probe:
            _restore(classifier, before)
            return _probe(classifier, _of_size(batch, size), size, plan, num_steps, budget)

        result = search(probe, start=start, most=most or max(1, len(data.train_ids) // 8), budget_bytes=budget)
        _restore(classifier, before)
    return result


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
            group["lr"] = float(self.lrs[step])

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
        """What was recorded, read."""
        losses = np.array([np.mean(losses) for losses in self.losses if losses])
        return read_sweep(self.lrs[: len(losses)], losses)


class _Stopwatch(L.Callback):
    """Times whole training steps, and counts what autograd keeps in the first."""

    def __init__(self, count_saved: bool) -> None:
        self.count_saved = count_saved
        self.saved_bytes = 0
        self.times: list[float] = []
        self._begin = 0.0
        self._seen: set[int] = set()
        self._hooks: Any = None

    def on_train_batch_start(self, *_: Any) -> None:
        if self.count_saved and not self.times:
            self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)
            self._hooks.__enter__()
        self._begin = perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(perf_counter() - self._begin)
        self.close()

    def close(self) -> None:
        """Take the hooks away, also when the step failed."""
        if self._hooks is not None:
            self._hooks.__exit__(None, None, None)
            self._hooks = None

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.saved_bytes += storage.nbytes()
        return tensor


def _probe(
    classifier: Classifier, batch: Batch, size: int, plan: Plan, num_steps: int, budget_bytes: int | None
) -> Probe:
    """Run a few steps on one batch and say whether it fitted, how fast, and in how much memory."""
    on_cpu = plan.device_type == "cpu"
    watch = _Stopwatch(count_saved=on_cpu)
    loader: DataLoader[Batch] = DataLoader(_Repeated(batch, num_steps + 1), batch_size=None)
    if plan.device_type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        _trainer(plan, watch, max_steps=num_steps + 1).fit(classifier, loader)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return Probe(size, fits=False, samples_per_s=None, memory_bytes=None)
    finally:
        watch.close()
        classifier.zero_grad(set_to_none=True)
        gc.collect()
        if plan.device_type == "cuda":
            torch.cuda.empty_cache()
    used = _cpu_bytes(classifier, batch, watch.saved_bytes) if on_cpu else _device_bytes(plan)
    speed = size / float(np.median(watch.times[1:]))
    fits = budget_bytes is None or used is None or used <= budget_bytes
    return Probe(size, fits=fits, samples_per_s=speed, memory_bytes=used)


def _cpu_bytes(classifier: Classifier, batch: Batch, saved_bytes: int) -> int:
    """Memory of one training step: weights, gradients, two moments; activations twice; the batch."""
    weights = sum(p.numel() * p.element_size() for p in classifier.parameters())
    values = sum(t.numel() * t.element_size() for t in batch.values() if isinstance(t, Tensor))
    return 4 * weights + 2 * saved_bytes + values


def _device_bytes(plan: Plan) -> int | None:
    """Peak memory on the GPU since the last reset; None where the device does not count it."""
    return torch.cuda.max_memory_allocated() if plan.device_type == "cuda" else None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on a GPU or in the CPU's allocator."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


class _Repeated(IterableDataset[Batch]):
    """The same batch, `times` times."""

    def __init__(self, batch: Batch, times: int) -> None:
        self.batch = batch
        self.times = times

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.times):
            yield self.batch


def _one_batch(data: ClassificationData, size: int) -> Batch:
    """A real training batch on the CPU, augmented as in training."""
    batch_size, data.batch_size = data.batch_size, size
    try:
        loader = data.train_dataloader()
        raw = next(iter(loader))
        return data.training_batch(raw, *loader.last)
    finally:
        data.batch_size = batch_size


def _of_size(batch: Batch, size: int) -> Batch:
    """The batch's rows, repeated or cut to `size`."""
    rows = torch.arange(size) % len(batch["label"])
    return {name: value[rows] for name, value in batch.items()}  # type: ignore[return-value, index]


def _range(classifier: Classifier, lr_min: float | None, lr_max: float | None) -> tuple[float, float]:
    """The learning rates of a sweep."""
    low, high = (1e-5, 10.0) if optimizer_family(str(classifier.hparams["optimizer"])) == "sgd" else (1e-6, 1.0)
    low, high = lr_min or low, lr_max or high
    if not 0 < low < high:
        raise ConfigError(f"The sweep goes from {low:g} to {high:g}; the first must be above 0 and below the second.")
    return low, high


def _trainer(plan: Plan, callback: L.Callback, **arguments: Any) -> L.Trainer:
    """A Trainer that leaves no file and prints nothing, on one device of the plan."""
    devices = plan.devices[:1] if isinstance(plan.devices, list) else 1
    return L.Trainer(
        accelerator=plan.accelerator,
        devices=devices,
        precision=plan.precision,  # type: ignore[arg-type]
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )


@contextmanager
def _unchanged(classifier: Classifier, data: ClassificationData) -> Iterator[None]:
    """Put back the random states, the training flag and the attached trainers at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    was_training, trainer, data_trainer = classifier.training, classifier._trainer, data.trainer
    try:
        yield
    finally:
        classifier.train(was_training)
        classifier._trainer, data.trainer = trainer, data_trainer
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


def _snapshot(classifier: Classifier) -> dict[str, Tensor]:
    """A copy of weights and buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in classifier.state_dict().items()}


def _restore(classifier: Classifier, before: dict[str, Tensor]) -> None:
    """Weights and buffers as in the snapshot; no gradients."""
    classifier.load_state_dict(before)
    classifier.zero_grad(set_to_none=True)
