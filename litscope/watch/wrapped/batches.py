"""What a script tells of a batch, on its way to the run: rows of the ledger, named values, and signals of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from litscope.errors import ConfigError
from litscope.watch.wrapped import outside
from litscope.watch.wrapped.contexts import ShownBatch
from litscope.watch.wrapped.signals import react
from litscope.watch.wrapped.watched import Watched, current


def record(watched: Watched, batch: ShownBatch, rows: tuple[Any, Any] | None, values: Mapping[str, Tensor]) -> None:
    """Record a batch.

    Args:
        watched: whose run is open.
        batch: as the script shows it.
        rows: its logits and labels, for the ledger; None: none.
        values: name -> (B, ...), of which each sample's mean is recorded.
    """
    named = {name: _one_each(own) for name, own in values.items()}
    logits, target = (None, None) if rows is None else rows
    watched.session.record(batch.ids, logits, target, named)
    react(watched, batch, named)


def _one_each(values: Tensor) -> Tensor:
    """(B,) one number for each sample of (B, ...): the mean."""
    return values if values.ndim < 2 else values.detach().float().flatten(1).mean(1)


def save_signals(
    signals: Mapping[str, Any] | Any = None,
    batch_ids: Any = None,
    preds_raw: Any = None,
    targets: Any = None,
    preds: Any = None,
    step: int | None = None,
    log: bool = False,
    **others: Any,
) -> None:
    """Record a batch. Rows that a watched loss has recorded already are not recorded twice.

    Args:
        signals: name -> (B,) one number for each sample; for (B, ...) each sample's mean is recorded, and a single
            number belongs to the step. Values without a name are recorded as `default`.
        batch_ids: (B,) as the batch carries them.
        preds_raw: (B, C) logits.
        targets: (B,) class indices.
        preds: what was predicted; signals may look at it.
        step: optimizer steps done, where no optimizer is under watch.
        log: also give the means to loggers under watch.
        others: accepted, and named in one warning.

    Raises:
        ConfigError: without ids, or if shapes do not fit.
    """
    if others:
        outside.warn_once(f"save_signals: litscope has no use for {', '.join(others)}; ignored")
    if batch_ids is None:
        raise ConfigError("save_signals needs batch_ids: the second part of each batch of a watched loader.")
    watched = current()
    if not watched.open():
        return
    watched.stands_at(step)
    given = signals if isinstance(signals, Mapping) else {} if signals is None else {"default": signals}
    values = {name: torch.as_tensor(own) for name, own in given.items()}
    for name, own in values.items():
        if own.ndim == 0 or log:
            watched.curves.add(name, own, has_rows=own.ndim > 0)
    batch = ShownBatch(batch_ids, preds_raw, targets, preds)
    own_rows = {name: own for name, own in values.items() if own.ndim}
    record(watched, batch, outside.class_rows(preds_raw, targets), own_rows)


def save_model_signals(signals: Mapping[str, Any], step: int | None = None) -> None:
    """Record numbers that belong to a step, not to samples, such as the norm of the gradients.

    They are in the step's line of metrics/steps.jsonl (`litscope sql`: the view `steps`).

    Args:
        signals: name -> a number, or a tensor of which the mean counts. It is not waited for.
        step: optimizer steps done, where no optimizer is under watch.
    """
    watched = current()
    if watched.open():
        watched.stands_at(step)
        for name, value in signals.items():
            watched.curves.add(
                name, value if isinstance(value, Tensor) else float(torch.as_tensor(value).float().mean())
            )
