"""Signals of a person's own: functions of a sample or a batch, computed when what they need is there, and recorded.

A signal that subscribes to another, or has inputs, is computed in the loop, once for each batch, as soon as all that
it needs is recorded of that batch, in whatever order it came; others may need it in turn. A signal that needs nothing
is computed of the items of a data set, when somebody asks (`compute_signals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from litscope.errors import ConfigError
from litscope.watch.samples.drawn import drawn_from
from litscope.watch.wrapped.contexts import (
    BatchNow,
    BatchSignalContext,
    ShownBatch,
    SignalContext,
    StaleSignalError,
    Values,
)
from litscope.watch.wrapped.outside import warn_once
from litscope.watch.wrapped.processes import is_first_process
from litscope.watch.wrapped.registry import Signal, known, of_batches, of_data_sets
from litscope.watch.wrapped.watched import Watched, current

SAMPLES_AT_ONCE = 1024
"""Values of a data set that are recorded together."""


def react(watched: Watched, batch: ShownBatch, named: Mapping[str, Tensor]) -> None:
    """Compute and record the signals that values of a batch, which have just been recorded, make possible.

    Waits for the device if there are such signals, and only then.

    Raises:
        ConfigError: if a batched signal does not return a number for each sample.
        StaleSignalError: if a signal needs a fresh value of another, and there is none.
    """
    waiting = of_batches()
    if not named or not (waiting or any(watched.memory.hears(name) for name in named)):
        return
    now = _now(watched, torch.as_tensor(batch.ids).reshape(-1).tolist())
    watched.names.update(named)
    for name, values in named.items():
        _keep(watched, now, name, values.detach().double().cpu().numpy())
    device = next(iter(named.values())).device
    while ready := [s for s in waiting if s.name not in now.fired and now.values.keys() >= set(s.needs)]:
        for one in ready:
            now.fired.add(one.name)
            if now.step >= one.min_step and now.step % one.every == 0:
                _compute(watched, one, batch, now, device)


def _now(watched: Watched, ids: list[int]) -> BatchNow:
    """What is known of this batch; nothing yet if it is another one than before."""
    place, now = watched.session.place, watched.now
    if (now.ids, now.step, now.phase) != (ids, place.step, place.phase):
        watched.now = now = BatchNow(ids, place.step, place.phase)
    return now


def _keep(watched: Watched, now: BatchNow, name: str, values: Values) -> None:
    now.values[name] = values
    if watched.memory.hears(name):
        watched.memory.add(name, now.ids, values, now.step)


def _compute(watched: Watched, one: Signal, batch: ShownBatch, now: BatchNow, device: torch.device) -> None:
    whole = _context(watched, one, batch, now)
    for name in one.fresh:
        whole.latest(name, require_fresh=True)
    try:
        found = one.function(whole) if one.is_batched else [one.function(c) for c in _contexts(watched, one, whole)]
        values = np.asarray(found.detach().cpu() if isinstance(found, Tensor) else found, np.float64)
    except (StaleSignalError, ConfigError):
        raise
    except Exception as error:  # noqa: BLE001 - a signal that is wrong must not end the training
        _warn_of(one, f"at step {now.step}", error)
        return
    if values.shape != (len(now.ids),):
        raise ConfigError(
            f"signal {one.name!r} returned values of shape {values.shape} for {len(now.ids)} samples; one number for "
            "each is needed."
        )
    recorded = torch.as_tensor(values, dtype=torch.float32, device=device)
    watched.session.record(batch.ids, None, None, {one.name: recorded})
    watched.curves.add(one.name, recorded, has_rows=True)
    watched.names.add(one.name)
    _keep(watched, now, one.name, values)


def _context(watched: Watched, one: Signal, batch: ShownBatch, now: BatchNow) -> BatchSignalContext:
    nothing = np.full(len(now.ids), np.nan)
    return BatchSignalContext(
        now.ids,
        nothing if one.subscribe_to is None else now.values[one.subscribe_to],
        inputs={name: now.values[name] for name in one.needs},
        logits=_detached(batch.logits),
        preds=_detached(batch.preds),
        targets=_detached(batch.target),
        origin=watched.origin(),
        step=now.step,
        memory=watched.memory,
    )


def _contexts(watched: Watched, one: Signal, whole: BatchSignalContext) -> Iterable[SignalContext]:
    for i, sample_id in enumerate(whole.sample_ids):
        yield SignalContext(
            sample_id,
            subscribed_value=None if one.subscribe_to is None else float(whole.subscribed_values[i]),
            inputs={name: float(values[i]) for name, values in whole.inputs.items()},
            logits=_at(whole.logits, i),
            preds=_at(whole.preds, i),
            targets=_at(whole.targets, i),
            origin=whole.origin,
            step=whole.step,
            memory=watched.memory,
        )


def _at(values: Any, index: int) -> Any:
    return None if values is None else values[index]


def _detached(values: Any) -> Any:
    return values.detach() if isinstance(values, Tensor) else values


def _warn_of(one: Signal, where: str, error: Exception) -> None:
    """Say that a signal failed, the first time that it does."""
    message = f"signal {one.name!r} failed {where}, and has no value wherever it fails: {type(error).__name__}: {error}"
    warn_once(message, of=f"signal {one.name}")


def compute_signals(dataset_or_loader: Any, origin: str | None = None, signals: Iterable[str] | None = None) -> None:
    """Compute signals of every item of a data set, and record them.

    Each is called with a `SignalContext` whose `data` is the item's first part. Reading the items draws none of torch's
    random numbers.

    Args:
        dataset_or_loader: a watched loader, or the data set that one was made of.
        origin: what the contexts say about it; default: the loader's name.
        signals: names; default: all that are registered and neither subscribe nor have inputs.

    Raises:
        ConfigError: if it is no watched data set, or a signal is not known.
    """
    watched = current()
    name, data = _watched_data(watched, dataset_or_loader)
    chosen = of_data_sets() if signals is None else [known(signal_name) for signal_name in signals]
    if not chosen or not watched.open() or not is_first_process():
        return
    split = watched.session.roster.split_of(data)
    ids = data.ids().tolist()
    with torch.random.fork_rng(devices=[]):
        for start in range(0, len(ids), SAMPLES_AT_ONCE):
            found: dict[str, list[tuple[int, float]]] = {one.name: [] for one in chosen}
            for index in range(start, min(start + SAMPLES_AT_ONCE, len(ids))):
                item = data[index]
                first = next(iter(item.values())) if isinstance(item, Mapping) else item[0]
                context = SignalContext(ids[index], data=first, origin=origin or name, step=watched.session.place.step)
                for one in chosen:
                    value = _value_of(one, context)
                    if value is not None:
                        found[one.name].append((ids[index], value))
            for signal_name, pairs in found.items():
                if pairs:
                    of, values = zip(*pairs, strict=True)
                    watched.session.record(list(of), None, None, {signal_name: torch.tensor(values)}, split)


def _value_of(one: Signal, context: SignalContext) -> float | None:
    try:
        return float(one.function(context))
    except Exception as error:  # noqa: BLE001 - of one sample; the others have their values
        _warn_of(one, f"for sample {context.sample_id}", error)
        return None


def _watched_data(watched: Watched, given: Any) -> tuple[str, Any]:
    """The name of the loader, and the data set with ids, that something given is, or was made into."""
    dataset = given.dataset if isinstance(given, DataLoader) else given
    drawn = drawn_from(dataset)
    for name, loader in watched.loaders.items():
        data = loader.wrapped_dataset
        if data is dataset or data.dataset is dataset or (drawn is not None and drawn.datasets == [data]):
            return name, data
    raise ConfigError(
        f"compute_signals takes a watched loader or its data set, not {type(given).__name__}: "
        'watch_or_edit(dataset, flag="data") first.'
    )
