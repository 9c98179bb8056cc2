"""LoggedMetric: a person's torchmetrics metric for an epoch, without calling it more often than they do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from litscope.watch.session import Session

TOLD = frozenset({"batch_ids", "preds", "signals", "targets", "step", "group_id", "origin", "flag"})
"""Keywords by which a call of a loss or a metric tells about its batch."""


class LoggedMetric:
    """Listens to a metric, and keeps its value for an epoch by split.

    The value is, in this order: what the person's own `compute()` last returned; the mean over the batches, where the
    metric is called (`metric(preds, y)` returns a batch's value); if it is only updated, `compute()` at the end
    of the epoch, after which it is reset, because nobody else would do so.

    Args:
        metric: the person's; calls of its `update` and `compute` are noticed, and do what they did before. They may
            tell about their batch (`TOLD`), which the metric does not see unless it takes that itself.
        session: says which split is being shown.
        computed: called with what the person's own `compute()` returned, and the step that they told or None.
    """

    def __init__(self, metric: Metric, session: Session, computed: Callable[[Any, Any], None]) -> None:
        self._metric, self._session, self._tell = metric, session, computed
        self._not_taken = TOLD - frozenset(inspect.signature(metric.update).parameters)
        self._compute = metric.compute
        self._update = metric.update
        self._is_called = False
        self._updated: str | None = None
        self._shown: str | None = None  # the split of the rows that a compute would count
        self._computed: dict[str, Any] = {}
        self._of_batches: dict[str, list[Tensor]] = {}
        metric.update = self._hear_update  # type: ignore[method-assign]
        metric.compute = self._hear_compute  # type: ignore[method-assign]
        metric.register_forward_pre_hook(self._call_begins, with_kwargs=True)
        metric.register_forward_hook(self._call_ends)

    def begin_anew(self) -> None:
        """Forget what was heard so far; a metric that was only updated is reset."""
        if self._updated is not None:
            self._metric.reset()
        self._of_batches, self._computed, self._updated = {}, {}, None

    def take(self) -> dict[str, float]:
        """Split -> value, since the last call; none for a metric of several numbers."""
        found: dict[str, Any] = {split: torch.stack(values).mean() for split, values in self._of_batches.items()}
        if self._updated is not None:
            found[self._updated] = self._compute()
            self._metric.reset()
        found |= self._computed
        self._of_batches, self._computed, self._updated = {}, {}, None
        return {split: float(v) for split, v in found.items() if not isinstance(v, Tensor) or v.numel() == 1}

    def _call_begins(self, _metric: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._is_called = True
        return args, self._its_own(kwargs)

    def _its_own(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in kwargs.items() if name not in self._not_taken}

    def _call_ends(self, _metric: Any, _args: Any, value: Any) -> None:
        self._is_called = False
        if isinstance(value, Tensor) and value.numel() == 1:
            self._of_batches.setdefault(self._session.place.split, []).append(value.detach().reshape(()).float())

    def _hear_update(self, *args: Any, **kwargs: Any) -> None:
        self._update(*args, **self._its_own(kwargs))
        self._shown = self._session.place.split
        if not self._is_called:
            self._updated = self._shown

    def _hear_compute(self, step: Any = None, **_: Any) -> Any:
        value = self._compute()
        if not self._is_called:
            self._updated = None
            self._computed[self._shown or self._session.place.split] = value  # a script may have left the split by now
            self._tell(value, step)
        return value
