"""The signals that a script has registered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from litscope.errors import ConfigError, did_you_mean
from litscope.watch.wrapped.outside import warn_once


@dataclass(frozen=True)
class Signal:
    """One registered signal.

    Attributes:
        name: under which its values are recorded.
        function: the person's own; of a `SignalContext`, or of a `BatchSignalContext` if it is batched.
        subscribe_to: the signal whose value it reacts to.
        needs: names that must be recorded of a batch before it is computed; none: it is one of data sets.
        fresh: names that must have a value at the step.
        is_batched: whether it computes all samples of a batch at once.
        every: steps between two of its steps.
        min_step: its first step.
    """

    name: str
    function: Callable[..., Any]
    subscribe_to: str | None
    needs: tuple[str, ...]
    fresh: tuple[str, ...]
    is_batched: bool
    every: int
    min_step: int


_signals: dict[str, Signal] = {}


def signal(
    name: str | Callable[..., Any] | None = None,
    subscribe_to: str | None = None,
    compute_every_n_steps: int = 1,
    min_step: int = 0,
    *,
    inputs: Iterable[str] | None = None,
    ingests: Iterable[str] | None = None,
    batched: bool = False,
    **others: Any,
) -> Any:
    """Register a function as a signal: a decorator, which gives the function back.

    Args:
        name: under which its values are recorded; default: the function's.
        subscribe_to: a watched loss, or another name that is recorded of batches: the function is called when it is.
        compute_every_n_steps: only at steps that this divides.
        min_step: only from this step on.
        inputs: instead of `subscribe_to`, names that must all be recorded of the batch.
        ingests: names that must have a value at the step for each sample, or it is an error.
        batched: call the function once, with a `BatchSignalContext`; it returns B numbers. Else it is called for each
            sample with a `SignalContext`, and returns a number.
        others: `log` is accepted: a signal is always recorded. Others are named in a warning.

    A name that is registered again stands for the new function.

    Raises:
        ConfigError: if it has both `subscribe_to` and `inputs`, a number of steps that is none, or if signals need each
            other.

    Example:
        >>> @signal("entropy", subscribe_to="train-loss", batched=True)
        ... def entropy(batch):
        ...     p = batch.logits.softmax(1)
        ...     return -(p * p.log()).sum(1)
    """
    if callable(name):
        return signal()(name)
    if subscribe_to is not None and inputs is not None:
        raise ConfigError("A signal has either subscribe_to= or inputs=, which may name one signal or more.")
    if compute_every_n_steps < 1:
        raise ConfigError(f"compute_every_n_steps={compute_every_n_steps}: it must be 1 or more.")
    if unknown := sorted(set(others) - {"log"}):
        warn_once(f"signal({name!r}): litscope has no use for {', '.join(unknown)}; ignored")
    needs = (subscribe_to,) if subscribe_to is not None else tuple(inputs or ())

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        own = name or function.__name__
        if own in _all_needs(needs):
            raise ConfigError(f"Signal {own!r} needs itself, by {', '.join(needs)}, so it would never be computed.")
        _signals[own] = Signal(
            own, function, subscribe_to, needs, tuple(ingests or ()), batched, compute_every_n_steps, min_step
        )
        return function

    return register


def _all_needs(names: Iterable[str]) -> set[str]:
    """These names, and what the signals of these names need in turn."""
    found: set[str] = set()
    rest = list(names)
    while rest:
        if (name := rest.pop()) not in found:
            found.add(name)
            rest += _signals[name].needs if name in _signals else ()
    return found


def of_batches() -> list[Signal]:
    """The signals that are computed in the loop."""
    return [one for one in _signals.values() if one.needs]


def of_data_sets() -> list[Signal]:
    """The signals that need nothing but an item."""
    return [one for one in _signals.values() if not one.needs]


def known(name: str) -> Signal:
    """The signal of this name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in _signals:
        raise ConfigError(f"{name!r} is no registered signal.{did_you_mean(name, _signals)}")
    return _signals[name]


def forget() -> None:
    """Register no signal."""
    _signals.clear()
