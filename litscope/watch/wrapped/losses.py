"""WatchedLoss: a loss, or any other function of a batch, that records what it was called for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from litscope.errors import ConfigError
from litscope.watch.metrics import TOLD
from litscope.watch.wrapped import outside
from litscope.watch.wrapped.batches import record
from litscope.watch.wrapped.contexts import ShownBatch
from litscope.watch.wrapped.watched import Watched, current

TRAIN_LOSS = "train/loss"
"""What the run calls the mean loss of its logged steps; a script's own curve of that name stands for it."""


class WatchedLoss(nn.Module):
    """A function of a batch, called as the one inside, that records the batch it is called for.

    Args:
        inner: the person's own; returns one number for each sample.
        name: the name under which these are recorded, or None.
        is_logged: whether loggers are told their mean.
    """

    def __init__(self, inner: Callable[..., Any], name: str | None, is_logged: bool = True) -> None:
        super().__init__()
        self.inner = inner
        self.name = name
        self._is_logged = is_logged
        self._takes = parameters_of(inner)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the inner function returns, times the samples' weights where people gave some.

        Args:
            args: for the inner function: of a loss, logits (B, C) and class indices (B,).
            kwargs: for it too, but for what tells about the batch (`TOLD`), which it gets if it takes it: `batch_ids`
                (B,) as the batch carries them, without which only the mean is recorded; `step`, where no optimizer is
                under watch; `targets`, where they are not the second argument; others, which are not needed.

        Raises:
            ConfigError: if a loss of class indices returns one number for the whole batch.
        """
        told = {name: kwargs[name] for name in TOLD if name in kwargs}
        values = self.inner(*args, **{k: v for k, v in kwargs.items() if k not in TOLD or k in self._takes})
        watched = current()
        if not isinstance(values, Tensor):
            outside.warn_once(
                f"{type(self.inner).__name__} returns {type(values).__name__}, not one number for each sample: "
                "nothing of it is recorded. litscope records classifiers; segmentation and detection are out of scope."
            )
            return values
        ids = told.get("batch_ids")
        if (ids is None and self.name is None) or not watched.open():
            return values
        watched.stands_at(told.get("step"))
        logits = args[0] if args else kwargs.get("input")
        target = told.get("targets", args[1] if len(args) > 1 else kwargs.get("target"))
        if ids is None:
            self._note(watched, values)
            return values
        rows = outside.class_rows(logits, target)
        if values.ndim == 0:
            return self._one_number(watched, values, is_classifier=rows is not None)
        shown = ShownBatch(ids, logits, target, told.get("preds"))
        record(watched, shown, rows, {} if self.name is None else {self.name: values})
        self._note(watched, values, has_rows=True)
        weights = watched.session.changed_weights(torch.as_tensor(ids).to(values.device))
        return values if weights is None else values * weights.reshape(-1, *[1] * (values.ndim - 1))

    def _one_number(self, watched: Watched, value: Tensor, *, is_classifier: bool) -> Tensor:
        if is_classifier:
            raise ConfigError(
                f"{type(self.inner).__name__} returns one number for the batch; a watched loss needs one for each "
                "sample: reduction='none', and .mean() where you call it."
            )
        self._note(watched, value)
        return value

    def _note(self, watched: Watched, values: Tensor, *, has_rows: bool = False) -> None:
        """Keep the mean, for the curves."""
        if self.name is not None and (self._is_logged or not has_rows):
            watched.curves.add(self.name, values, has_rows=has_rows)
        is_its_own_curve = self.name == TRAIN_LOSS and not has_rows
        if watched.session.place.phase == "train" and not is_its_own_curve:
            watched.session.note_loss(values.detach().mean())


def parameters_of(function: Callable[..., Any]) -> frozenset[str]:
    """The names of the parameters that a function or module takes; none if Python cannot tell."""
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        return frozenset(inspect.signature(called).parameters)
    except (TypeError, ValueError):
        return frozenset()
