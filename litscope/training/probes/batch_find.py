"""The batch-size finder, `litscope batch-size-find`: a few real steps of each size; do they fit, and how fast are they?

It leaves what it touches exactly as it was.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from litscope.config.recipe import Recipe
from litscope.data.datamodule import ClassificationData
from litscope.errors import ConfigError
from litscope.limits import memory_available_bytes
from litscope.models.classifier import Classifier
from litscope.training.hardware import Plan
from litscope.training.probes.batch_curve import BatchSizeResult, Probe, search
from litscope.training.probes.trial import restore, snapshot, trial_of, trial_trainer, unchanged
from litscope.training.threads import torch_threads
from litscope.training.tuning.finetune import begin_tuning
from litscope.types import Batch


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
    prepared, classifier = trial_of(recipe)
    if prepared.recipe.model.finetune == "head":
        begin_tuning(prepared, classifier)
    with torch_threads(prepared.recipe.hardware.num_threads):
        return find_batch_size(
            classifier, prepared.data, prepared.plan, start=start, most=most, memory_budget_bytes=memory_budget_bytes
        )


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

    Raises:
        ConfigError: if one of the two sizes is less than 1.
    """
    for flag, size in (("--start", start), ("--most", most)):
        if size is not None and size < 1:
            raise ConfigError(f"{flag} {size}: it is 1 or more.")
    on_cpu = plan.device_type == "cpu"
    budget = memory_budget_bytes or (memory_available_bytes() // 2 if on_cpu else None)
    with unchanged(classifier, data):
        before = snapshot(classifier)
        batch = _one_batch(data, min(len(data.train_ids), 64))

        def probe(size: int) -> Probe:
            restore(classifier, before)
            return _probe(classifier, _of_size(batch, size), size, plan, num_steps, budget)

        result = search(probe, start=start, most=most or max(1, len(data.train_ids) // 8), budget_bytes=budget)
        restore(classifier, before)
    return result


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
        trial_trainer(plan, watch, max_steps=num_steps + 1).fit(classifier, loader)
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
