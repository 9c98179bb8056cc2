"""What a signal of a person's own is given: the sample, or the batch, of which it is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from litscope.watch.wrapped.memory import Memory

Values = NDArray[np.float64]


class StaleSignalError(RuntimeError):
    """A signal needs the value of another one at this step, and there is none."""


@dataclass
class ShownBatch:
    """A batch as a script shows it.

    Attributes:
        ids: (B,) as the batch carries them.
        logits, target, preds: as they were given; None where they were not.
    """

    ids: Any
    logits: Any = None
    target: Any = None
    preds: Any = None


@dataclass
class BatchNow:
    """What is known of the batch that the loop shows.

    Attributes:
        ids: its samples.
        step: optimizer steps done.
        phase: train or eval.
        values: name -> (B,) recorded of it so far.
        fired: names of the signals that were computed of it.
    """

    ids: list[int] = field(default_factory=list)
    step: int = -1
    phase: str = ""
    values: dict[str, Values] = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)


class SignalContext:
    """One sample.

    Attributes:
        sample_id: its id.
        data: its item's first part, where it is computed of a data set (`compute_signals`).
        subscribed_value: the value of the signal that was subscribed to.
        inputs: name -> value of each of the signal's inputs.
        logits, preds, targets: the sample's own, where the watched loss had them.
        origin: name of its loader.
        step: optimizer steps done.
    """

    def __init__(
        self,
        sample_id: int,
        *,
        data: Any = None,
        subscribed_value: float | None = None,
        inputs: Mapping[str, float] | None = None,
        logits: Any = None,
        preds: Any = None,
        targets: Any = None,
        origin: str | None = None,
        step: int = 0,
        memory: Memory | None = None,
    ) -> None:
        self.sample_id, self.data, self.origin, self.step = sample_id, data, origin, step
        self.subscribed_value, self.inputs = subscribed_value, dict(inputs or {})
        self.logits, self.preds, self.targets = logits, preds, targets
        self._memory = memory

    @property
    def is_static(self) -> bool:
        """Whether it is computed of a data set."""
        return self.data is not None

    @property
    def is_dynamic(self) -> bool:
        """Whether it is computed of a batch in the loop."""
        return self.subscribed_value is not None or bool(self.inputs)

    @property
    def image(self) -> NDArray[np.uint8] | None:
        """The item's picture (H, W, C), of values 0 to 255; None without one.

        Tensors and arrays (C, H, W), (H, W, C) and (H, W) are taken; of floating ones 1.0 is 255.
        """
        if self.data is None:
            return None
        values = np.asarray(self.data.detach().cpu() if isinstance(self.data, Tensor) else self.data)
        if values.ndim == 2:
            values = values[:, :, None]
        elif values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[2] not in (1, 3, 4):
            values = values.transpose(1, 2, 0)
        if np.issubdtype(values.dtype, np.floating):
            values = values * 255 if values.max(initial=0.0) <= 1 else values
        pixels: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
        return pixels

    def latest(self, name: str, default: float = math.nan, require_fresh: bool = False) -> float:
        """The last value of another signal for this sample, `default` if there is none.

        Raises:
            StaleSignalError: with `require_fresh`, if it has none at this step.
        """
        return float(_latest(self._memory, name, [self.sample_id], default, self.step if require_fresh else None)[0])


class BatchSignalContext:
    """A batch of B samples, for a signal that computes all at once (`batched=True`).

    Attributes:
        sample_ids: B ids.
        subscribed_values: (B,) of the signal that was subscribed to; NaN where it has inputs instead.
        inputs: name -> (B,) of each of the signal's inputs.
        logits, preds, targets: as the watched loss had them, detached, where they are; None where it had none.
        origin: name of the samples' loader.
        step: optimizer steps done.
    """

    def __init__(
        self,
        sample_ids: Iterable[int],
        subscribed_values: Values,
        *,
        inputs: Mapping[str, Values] | None = None,
        logits: Any = None,
        preds: Any = None,
        targets: Any = None,
        origin: str | None = None,
        step: int = 0,
        memory: Memory | None = None,
    ) -> None:
        self.sample_ids, self.subscribed_values = list(sample_ids), subscribed_values
        self.inputs, self.origin, self.step = dict(inputs or {}), origin, step
        self.logits, self.preds, self.targets = logits, preds, targets
        self._memory = memory

    def history(self, name: str) -> dict[int, list[float]]:
        """sample_id -> the values of a signal so far, in the order of their steps; empty for a sample without any."""
        visits = {} if self._memory is None else self._memory.of(name)
        return {i: [value for _, value in visits.get(i, [])] for i in self.sample_ids}

    def latest(self, name: str, default: float = math.nan, require_fresh: bool = False) -> Values:
        """(B,) the last value of another signal for each sample, `default` where there is none.

        Raises:
            StaleSignalError: with `require_fresh`, if a sample has none at this step.
        """
        return _latest(self._memory, name, self.sample_ids, default, self.step if require_fresh else None)


def _latest(memory: Memory | None, name: str, ids: list[int], default: float, fresh_at: int | None) -> Values:
    visits = {} if memory is None else memory.of(name)
    last = [visits[i][-1] if visits.get(i) else None for i in ids]
    stale = [i for i, visit in zip(ids, last, strict=True) if visit is None or visit[0] != fresh_at]
    if fresh_at is not None and stale:
        raise StaleSignalError(
            f"Signal {name!r} has no value at step {fresh_at} for {len(stale)} of {len(ids)} samples, such as "
            f"{stale[0]}: record it before the signal that needs it, in the same step."
        )
    return np.array([default if visit is None else visit[1] for visit in last], np.float64)
