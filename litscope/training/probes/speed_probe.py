"""Which precision, memory format and number of threads a CPU trains this network fastest with: tried, for a second.

    settle(recipe, asked, plan, classifier, data)    before the first step of a new run

A copy of the network makes a few training steps each way, on random images of the run's size and number.
The defaults (float32, the memory format that suits the network best, all threads) stay unless an
alternative is faster by `MARGIN`: a probe on a busy machine should not decide by its noise.
The choice goes into the recipe, so that a resumed run, its other processes, and
`litscope fit --config runs/NAME/recipe.yaml` compute alike and do not probe again. For a week another run like it takes
what was found (`speed_memory.py`).

Nothing is tried where nothing can be gained, or where a choice by the clock is not wanted:

    what was given            --precision, --channels-last, --num-threads (or $OMP_NUM_THREADS)
    --deterministic, --fast-dev-run, a resumed run, several processes, tables, GPUs (rules: hardware.py)
    bfloat16                  without instructions for it (avx512_bf16, amx_bf16, ARM's bf16)
    bfloat16, memory format   below `SMALL_MACS` multiply-adds a step: they are not what such a step waits for
    one thread                where a step takes longer than `SHORT_S`: more threads cannot lose there
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from litscope.config.hardware import Precision
from litscope.config.recipe import Recipe
from litscope.data.datamodule import ClassificationData
from litscope.models.classifier import Classifier
from litscope.models.learning.optim import build_optimizer
from litscope.models.networks.heads import in_evaluation
from litscope.models.networks.net_members import NetMembers
from litscope.training.hardware import Plan, may_choose_bf16, may_probe
from litscope.training.probes.speed_memory import SpeedMemory
from litscope.training.threads import default_threads, torch_threads

MARGIN = 1.15
"""How many times as fast an alternative must be to be chosen."""

SMALL_MACS = 50_000_000
"""Multiply-adds of a batch's forward pass below which only the threads are tried (about a millisecond a step)."""

SHORT_S = 0.02
"""A step that takes longer than this is not tried with one thread."""

BUDGET_S = 1.0
"""About how long the probe may take. A network whose step takes longer is tried on part of the batch."""

ROUNDS = 2  # timed steps of each side of a comparison, in turns; the fastest counts


@dataclass(frozen=True)
class Setup:
    """A way to compute a training step; `precision` is Lightning's name."""

    precision: Precision
    channels_last: bool
    num_threads: int

    def __str__(self) -> str:
        threads = f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}"
        return f"{self.precision}, {'channels last' if self.channels_last else 'contiguous'}, {threads}"


Compare = Callable[[Setup, Setup], float | None]
"""(one, other) -> how many times as fast as one the other is; None where no time is left to try."""


def settle(
    recipe: Recipe, asked: Recipe, plan: Plan, classifier: Classifier, data: ClassificationData
) -> tuple[Plan, list[str]]:
    """Choose what is open, and put it into both recipes, the plan and the classifier.

    Weights, buffers, gradients and random states are as before.

    Returns:
        The plan with the chosen precision, and a line that says what was chosen and why; none where nothing was tried.
    """
    hardware = recipe.hardware
    if not may_probe(recipe, plan, data.kind) or classifier.net is None:
        return plan, []
    usual = Setup(plan.precision, classifier.is_channels_last, hardware.num_threads or default_threads())  # type: ignore[arg-type]
    tries_bf16 = may_choose_bf16(recipe, plan, data.kind)
    tries_format = hardware.channels_last is None and usual.channels_last
    tries_threads = hardware.num_threads is None and "OMP_NUM_THREADS" not in os.environ and usual.num_threads > 1
    if (tries_bf16 or tries_format) and macs(classifier.net, _shape(data)) * data.batch_size < SMALL_MACS:
        tries_bf16 = tries_format = False
    if not (tries_bf16 or tries_format or tries_threads):
        return plan, []
    tries = (tries_bf16, tries_format, tries_threads)
    chosen, why = _found(usual, recipe.data.cache_dir, classifier, data, tries)
    for target in (asked, recipe):
        before = copy.deepcopy(target)
        target.hardware.precision = chosen.precision
        target.hardware.channels_last = chosen.channels_last
        target.hardware.num_threads = chosen.num_threads
        target.note_chosen(before)
    classifier.use_channels_last(chosen.channels_last)
    return replace(plan, precision=chosen.precision), [f"speed: {chosen}{why}"]


def _found(
    usual: Setup, cache_dir: str | None, classifier: Classifier, data: ClassificationData, tries: tuple[bool, ...]
) -> tuple[Setup, str]:
    """What is fastest, by an earlier probe or by one now, and the rest of the line that says so."""
    optimizer = classifier.hparams["optimizer"]
    facts = [asdict(usual), str(classifier.net), _shape(data), data.batch_size, optimizer, tries]
    memory = SpeedMemory(cache_dir, facts)
    known = memory.recall()
    if known is not None:
        return Setup(**known.setup), f"; found on {known.date}{known.tried}"
    tries_bf16, tries_format, tries_threads = tries
    with torch.random.fork_rng(devices=[]), torch_threads(None):
        trial = Trial(classifier, _shape(data), data.batch_size, num_setups=sum(tries))
        tries_threads = tries_threads and trial.step_s(usual) < SHORT_S
        chosen, reasons = choose(usual, trial.compare, tries_bf16, tries_format, tries_threads)
    tried = f"; tried on {trial.count} of {data.batch_size} images: {', '.join(reasons)}" if reasons else ""
    memory.keep(asdict(chosen), tried)
    return chosen, tried


def choose(
    usual: Setup, compare: Compare, tries_bf16: bool, tries_format: bool, tries_threads: bool
) -> tuple[Setup, list[str]]:
    """The setup to train with, one question after the other, and what was found in words."""
    best, reasons = usual, []
    for name, change, is_tried in (
        ("bf16-mixed", {"precision": "bf16-mixed"}, tries_bf16),
        ("contiguous", {"channels_last": False}, tries_format),
        ("1 thread", {"num_threads": 1}, tries_threads),
    ):
        if not is_tried:
            continue
        other = replace(best, **change)
        ratio = compare(best, other)
        if ratio is None:
            reasons.append(f"{name} not tried, the time for it was over")
            continue
        reasons.append(f"{name} {ratio:.2f}x" + (f" (taken from {MARGIN}x on)" if 1 < ratio <= MARGIN else ""))
        if ratio > MARGIN:
            best = other
    return best, reasons


def macs(net: nn.Module, shape: tuple[int, int, int]) -> float:
    """Multiply-adds of the forward pass of one image (K, H, W), in convolutions and matrix products."""
    weight = next(net.parameters())
    with in_evaluation(net), torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, *shape, dtype=weight.dtype))
    flops: int = counter.get_total_flops()
    return flops / 2


class Trial:
    """Training steps of a copy of the network, timed.

    Attributes:
        count: images in a step: as many of the batch as `BUDGET_S` allows, at least two.
    """

    def __init__(self, classifier: Classifier, shape: tuple[int, int, int], batch_size: int, num_setups: int) -> None:
        assert classifier.net is not None
        self._net = copy.deepcopy(classifier.net).train()
        self._began = perf_counter()
        self._images = torch.rand(max(2, batch_size), *shape)  # batch norm needs two
        self._labels = torch.arange(len(self._images)) % classifier.hparams["num_classes"]
        self.count = min(len(self._images), 4)
        usual = Setup("32-true", classifier.is_channels_last, torch.get_num_threads())
        self._time(usual)
        self._optimizer_s = self._time_optimizer(classifier.hparams["optimizer"])
        step_s = self._time(usual)
        steps = 2 + num_setups * (2 + 2 * ROUNDS)
        most = int(self.count * BUDGET_S / steps / max(step_s, 1e-6))
        self.count = min(len(self._images), max(self.count, most))

    def step_s(self, setup: Setup) -> float:
        """Seconds of a step of a whole batch, warm."""
        self._time(setup)
        return self._whole(self._time(setup))

    def compare(self, one: Setup, other: Setup) -> float | None:
        """How many times as fast the other is; None when the probe took three times its budget already."""
        if perf_counter() - self._began > 3 * BUDGET_S:
            return None
        for setup in (one, other):
            self._time(setup)
        rounds = [(self._whole(self._time(one)), self._whole(self._time(other))) for _ in range(ROUNDS)]
        return min(a for a, _ in rounds) / min(b for _, b in rounds)

    def _whole(self, part_s: float) -> float:
        """A step of the whole batch: forward and backward grow with it, the optimizer's time does not."""
        return part_s * len(self._images) / self.count + self._optimizer_s

    def _time_optimizer(self, name: str) -> float:
        """Seconds of an optimizer's step, the second one; the gradients of the last `_time` are still there."""
        optimizer = build_optimizer(self._net, name, lr=1e-6)
        optimizer.step()
        start = perf_counter()
        optimizer.step()
        return perf_counter() - start

    def _time(self, setup: Setup) -> float:
        """Seconds of one forward and backward pass."""
        torch.set_num_threads(setup.num_threads)
        form = torch.channels_last if setup.channels_last else torch.contiguous_format
        if isinstance(self._net, NetMembers):
            self._net.use_channels_last(setup.channels_last)
        else:
            self._net.to(memory_format=form)  # type: ignore[call-overload]
        images, labels = self._images[: self.count].contiguous(memory_format=form), self._labels[: self.count]
        self._net.zero_grad(set_to_none=True)
        start = perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=setup.precision == "bf16-mixed"):
            logits = self._net(images).float().flatten(0, -2)  # of M members (M B, C)
            loss = F.cross_entropy(logits, labels.repeat(len(logits) // len(labels)))
        loss.backward()  # type: ignore[no-untyped-call]
        return perf_counter() - start


def _shape(data: ClassificationData) -> tuple[int, int, int]:
    assert data.image_size is not None
    return data.in_channels, data.image_size, data.image_size
