"""Shapes of trajectories: what a sample's loss did over the training, in a word.

A trajectory is smoothed by a running mean, and measured in units of its noise, which its second differences tell: those
of a straight line are zero (Gasser, Sroka and Jennen-Steinmetz, Biometrika 73, 1986). A change counts from two of these
units on. These words are a first look at a curve; what ranks samples are the scores of the ledger
(`litscope scores`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litscope.errors import ConfigError
from litscope.watch.wrapped.contexts import BatchSignalContext
from litscope.watch.wrapped.memory import recorded
from litscope.watch.wrapped.registry import signal as signal_of
from litscope.watch.wrapped.samples import set_categorical_tag
from litscope.watch.wrapped.watched import latest, written_run

LOSS_SHAPES = ["monotonic", "plateaued", "Flat_high", "high_variance", "U_Shape", "Spiked", "Forgotten"]
"""What `classify_loss_shape` tells: the loss fell and still falls; fell and stays; never fell; is mostly noise; fell
and rises again at the end; jumped up once and came back; fell, rose again and stays there."""

MIN_POINTS = 5
"""Visits that a shape needs."""

SIGNIFICANT = 2.0
"""Standard deviations of the noise from which on a change counts."""

Classifier = Callable[[Sequence[float]], str | None]

_classifiers: dict[str | None, Classifier] = {}
"""By signal; None: of all that have none of their own."""


def trajectory_stats(values: Sequence[float]) -> dict[str, float] | None:
    """What a trajectory of N values does, in numbers; None for fewer than two.

    Returns:
        n            N
        first, last  of the smoothed trajectory
        noise        standard deviation of what is neither trend nor bend, above 0
        drop         share of the first value by which it fell to the last one; below 0: it rose
        drop_z, dip_z, rebound_z   in units of the noise: first minus last, first minus lowest, last minus lowest
        jump_z       the largest rise from one value to the next, of what is not smoothed
        revert_z     how far the values after that rise are from the one before it
        trend_z      highest minus lowest
        level_cv     noise in units of the mean
        flat_frac    share of its end in all of it: the visits since it is within the noise of its last value
        settled_frac the same as a share of the visits since the lowest one
    """
    y = np.asarray(values, np.float64)
    if y.size < 2:
        return None
    smooth = _smoothed(y)
    noise = _noise(y)
    low = int(smooth.argmin())
    rises = np.diff(y)
    jump = int(rises.argmax())
    after = y[jump + 2 :] if jump + 2 < y.size else y[-1:]
    moving = np.flatnonzero(np.abs(smooth - smooth[-1]) > SIGNIFICANT * noise)
    num_flat = y.size - (int(moving[-1]) + 1 if len(moving) else 0)
    first, last, lowest = float(smooth[0]), float(smooth[-1]), float(smooth[low])
    return {
        "n": y.size,
        "first": first,
        "last": last,
        "noise": noise,
        "drop": (first - last) / max(abs(first), 1e-12),
        "drop_z": (first - last) / noise,
        "dip_z": (first - lowest) / noise,
        "rebound_z": (last - lowest) / noise,
        "jump_z": float(rises[jump]) / noise,
        "revert_z": abs(float(after.mean()) - float(y[jump])) / noise,
        "trend_z": float(smooth.max() - smooth.min()) / noise,
        "level_cv": noise / max(abs(float(y.mean())), 1e-12),
        "flat_frac": num_flat / y.size,
        "settled_frac": min(1.0, num_flat / (y.size - low)),
    }


def _noise(y: NDArray[np.float64]) -> float:
    """Standard deviation of the noise, above 0: of the second differences, whose variance is six times its own."""
    bends = np.abs(np.diff(y, n=2)) if y.size > 2 else np.zeros(1)
    spread = 1.4826 * float(np.median(bends)) / math.sqrt(6)  # a few jumps do not count
    return max(spread, 1e-6 * float(np.abs(y).max()), 1e-12)


def _smoothed(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """A running mean over about a fifth of the trajectory, which ends with as many values as it has at its edges."""
    half = max(1, y.size // 10)
    sums = np.concatenate([[0.0], np.cumsum(y)])
    left, right = np.maximum(np.arange(y.size) - half, 0), np.minimum(np.arange(y.size) + half + 1, y.size)
    means: NDArray[np.float64] = (sums[right] - sums[left]) / (right - left)
    return means


def classify_loss_shape(values: Sequence[float]) -> str | None:
    """One of `LOSS_SHAPES`; None for fewer than five values."""
    stats = trajectory_stats(values)
    if stats is None or stats["n"] < MIN_POINTS:
        return None
    falls, rises_again = stats["dip_z"] > SIGNIFICANT, stats["rebound_z"] > SIGNIFICANT
    if stats["jump_z"] > 3 * SIGNIFICANT and stats["revert_z"] < stats["jump_z"] / 4:
        return "Spiked"
    if falls and rises_again:
        return "Forgotten" if stats["settled_frac"] > 1 / 3 else "U_Shape"
    if falls:
        return "plateaued" if stats["flat_frac"] > 1 / 3 else "monotonic"
    return "high_variance" if stats["level_cv"] > 1 / 2 else "Flat_high"


def signal_classifier(signal: str | Classifier | None = None) -> Any:
    """Register a classifier of trajectories, a decorator: it is given a sample's values, and returns a word or None.

    Args:
        signal: whose trajectories it classifies; None: of all signals that have none of their own.
    """
    if callable(signal):
        return signal_classifier()(signal)

    def register(function: Classifier) -> Classifier:
        _classifiers[signal] = function
        return function

    return register


def resolve_signal_classifier(signal_name: str) -> Classifier:
    """The classifier of a signal: its own, else the one for all, else `classify_loss_shape`."""
    return _classifiers.get(signal_name) or _classifiers.get(None) or classify_loss_shape


def shape_tag(signal_name: str) -> str:
    """The tag that tells a signal's shape, where nobody names another."""
    return f"{signal_name}_shape" if signal_name.endswith("_loss") else f"{signal_name}_loss_shape"


def shapes_of(
    signal_name: str, classifier: Classifier | None = None, sample_ids: Iterable[int] | None = None
) -> dict[int, str]:
    """sample_id -> the shape of what was recorded of a signal, without samples that have none.

    Raises:
        ConfigError: if nothing has been recorded under that name.
    """
    rows = recorded(written_run(), [signal_name], sample_ids)
    if not rows.num_rows:
        raise ConfigError(f"Nothing is recorded under the name {signal_name!r}, so its samples have no shape.")
    find = classifier or resolve_signal_classifier(signal_name)
    values: dict[int, list[float]] = {}
    for sample_id, value in zip(rows["sample_id"].to_pylist(), rows["value"].to_pylist(), strict=True):
        values.setdefault(sample_id, []).append(value)
    shapes = {sample_id: find(own) for sample_id, own in values.items()}
    return {sample_id: shape for sample_id, shape in shapes.items() if shape is not None}


def write_signal_shapes(
    signal_name: str,
    tag_name: str | None = None,
    classifier: Classifier | None = None,
    exp_hash: str | None = None,  # noqa: ARG001 - a folder holds one run
    sample_ids: Iterable[int] | None = None,
) -> dict[str, int]:
    """Tag each sample with the shape of what was recorded of a signal: `tag_name=shape`.

    Args:
        signal_name: such as a watched loss.
        tag_name: default: the signal's with `_loss_shape`.
        classifier: default: `resolve_signal_classifier`.
        exp_hash: accepted, but a folder holds one run.
        sample_ids: only these; None: all.

    Returns:
        Shape -> how many samples have it.

    Raises:
        ConfigError: if nothing has been recorded under that name.
    """
    by_shape: dict[str, list[int]] = {}
    for sample_id, shape in shapes_of(signal_name, classifier, sample_ids).items():
        by_shape.setdefault(shape, []).append(sample_id)
    for shape, ids in by_shape.items():
        set_categorical_tag(ids, tag_name or shape_tag(signal_name), shape)
    return {shape: len(ids) for shape, ids in by_shape.items()}


def write_loss_shapes(loss_signal: str = "loss_sample", classifier: Classifier | None = None) -> dict[str, int]:
    """`write_signal_shapes` of a loss, under the tag `loss_shape`."""
    return write_signal_shapes(loss_signal, "loss_shape", classifier)


def enable_loss_shape_signal(
    loss_signal: str = "loss_sample",
    name: str = "sig/loss_shape",
    every: int = 1,
    classifier: Classifier | None = None,
) -> Callable[[BatchSignalContext], NDArray[np.float64]]:
    """Record each sample's shape so far as a signal: its index in `LOSS_SHAPES`, -1 where it has none.

    Args:
        loss_signal: whose trajectories count.
        name: of the signal.
        every: steps between two looks, each of which goes through the batch's trajectories.
        classifier: default: `resolve_signal_classifier`.
    """

    def shape_so_far(batch: BatchSignalContext) -> NDArray[np.float64]:
        find = classifier or resolve_signal_classifier(loss_signal)
        history = batch.history(loss_signal)
        shapes = [find(history[sample_id]) for sample_id in batch.sample_ids]
        return np.array([LOSS_SHAPES.index(s) if s in LOSS_SHAPES else -1 for s in shapes], np.float64)

    signal_of(name, inputs=[loss_signal], batched=True, compute_every_n_steps=every)(shape_so_far)
    return shape_so_far


def auto_loss_shape_signal_names() -> list[str]:
    """The names of the watched losses, whose shapes can be asked for."""
    watched = latest()
    return [] if watched is None else sorted(set(watched.losses))


def forget() -> None:
    """Register no classifier."""
    _classifiers.clear()
