"""The run that is being watched now, for calls from the middle of a person's own step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from litscope.console import warn
from litscope.errors import ConfigError
from litscope.lightning_internals import calling_trainer
from litscope.watch.session import Session

_sessions: list[Session] = []
_trainers: WeakKeyDictionary[Session, Any] = WeakKeyDictionary()
_warned: WeakKeyDictionary[Session, bool] = WeakKeyDictionary()


def push(session: Session, trainer: Any = None) -> None:
    """Watch this session from now on.

    Args:
        trainer: of Lightning, whose steps it watches; None: whatever runs.
    """
    if session not in _sessions:
        _sessions.append(session)
    if trainer is not None:
        _trainers[session] = trainer


def pop(session: Session) -> None:
    """Stop watching this session."""
    if session in _sessions:
        _sessions.remove(session)
    _trainers.pop(session, None)


def current() -> Session | None:
    """The session that was pushed last, or None."""
    return _sessions[-1] if _sessions else None


def _of_caller() -> tuple[Session | None, bool]:
    """The session that was pushed last for the trainer in whose loop the caller runs, and whether that is watched.

    Where a Trainer without `Scope` runs inside a watched one, as in a callback, its steps belong to no run.
    """
    trainer = calling_trainer()
    if trainer is not None:
        for session in reversed(_sessions):
            if _trainers.get(session, trainer) is trainer:
                return session, True
    return current(), trainer is None


def record(
    sample_id: Any,
    logits: Tensor | None = None,
    label: Any = None,
    *,
    signals: Mapping[str, Any] | None = None,
    split: str | None = None,
) -> None:
    """Record one batch of the current step.

    In a step of Lightning under `Scope`, or anywhere while a run of `watch.run` or of the wrapped parts is open. Logits
    of a batch are recorded once, however often this is called for the same batch; signals are recorded each time.

    Args:
        sample_id: (B,) whole numbers, as the batch carries them.
        logits: (B, C) raw scores before softmax; (B,) or (B, 1) of a binary model with one logit z, which is recorded
            as two classes with the logits (0, z). None: the model has none.
        label: (B,) or (B, 1) class indices of any number type; -1 or NaN where a sample has none.
        signals: name -> (B,) one number for each sample, such as a loss of your own.
        split: train, val or test; default: where the loop stands.

    Raises:
        ConfigError: if no run is being watched, the shapes do not fit, or labels that came before are no classes.
    """
    session, is_watched = _of_caller()
    if session is None:
        raise ConfigError(
            "No run is being watched, so nothing can be recorded: give the Trainer callbacks=[litscope.watch.Scope()], "
            "or open one: with litscope.watch.run(...) as run."
        )
    if not is_watched:
        if session not in _warned:
            _warned[session] = True
            warn("a Trainer without Scope runs inside a watched one: what its steps record belongs to no run")
    elif session.is_open:  # not yet open in a sanity check, nor in a prediction
        session.record(sample_id, logits, label, signals, split)


def weight_of(sample_id: Any) -> Tensor:
    """(B,) float32 on the ids' device: the factors by which people asked to multiply these samples' loss; 1 by default.

    Args:
        sample_id: (B,) as the batch carries them; names are on the CPU.

    Example:
        >>> loss = (F.cross_entropy(logits, label, reduction="none") * weight_of(sample_id)).mean()
    """
    session, is_watched = _of_caller()
    if session is None or not is_watched or not session.is_open:
        return torch.ones(len(sample_id), device=getattr(sample_id, "device", None))
    return session.weight_of(sample_id)
