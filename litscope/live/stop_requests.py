"""Ctrl-C, SIGTERM and a scheduler's signal ask a run to stop. While it trains, a request only sets a flag, which the
training loop reads.

Before the first step there is nothing to save, so a request raises `KeyboardInterrupt` where the run
is. Inside `deferred()` the first request is kept in `requested`. A second Ctrl-C stops at once. Other signals do not,
for a scheduler sends several, and they may not break a checkpoint that is being written.
POSIX signals reach the main thread only; elsewhere (a notebook's worker thread) nothing is installed.

    with catch_stop_requests() as stop_requests:     # preparing: KeyboardInterrupt
        with stop_requests.deferred():               # training: a flag, read at a step's end
            ...
            stop_requests.closes()                   # nothing reads it any more: what is left to write takes a moment
            ...

A request that came after the last look at the flag is not lost: where one training is part of many, it is passed on
to the loop around them. (Elsewhere in this code a signal is a number of a sample; here alone it is POSIX's.)
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from litscope.console import say
from litscope.errors import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""POSIX signals that ask every run to stop."""

PREEMPTION = "USR1"
"""The further one by which a scheduler says that it wants the machine back, unless `--signal` names another."""


def preemption_signal(name: str) -> signal.Signals:
    """The POSIX signal that `--signal` names."""
    return signal.Signals[f"SIG{name}"]


class StopRequests:
    """Whether somebody asked the run to stop.

    Args:
        preemption: name of a signal that asks so beside SIGINT and SIGTERM. Where a script has a handler of its own for
            it, that stays.

    Attributes:
        signals: the signals that are heard.
        requested: how it was asked for ("SIGINT", "SIGTERM", "SIGUSR1"), or None.
    """

    def __init__(self, preemption: str = PREEMPTION) -> None:
        further = preemption_signal(preemption)
        self.signals = (*STOP_SIGNALS, *([further] if further not in STOP_SIGNALS and not _is_taken(further) else []))
        self.requested: str | None = None
        self._process = os.getpid()
        self._is_deferred = False
        self._is_quiet = False
        self._answer = "finishing this step and writing a checkpoint"

    @property
    def number(self) -> int:
        """The number of the signal by which it was asked for; 0 if it was not."""
        return 0 if self.requested is None else int(signal.Signals[self.requested])

    def install(self) -> None:
        """Point all handlers here. Called again when training starts, for Lightning sets its own for SIGTERM."""
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                signal.signal(number, self._handle)

    @contextmanager
    def deferred(self, quiet: bool = False) -> Iterator[None]:
        """While inside, the first request sets `requested` and nothing else.

        Args:
            quiet: say nothing about it (the worker processes of a run on several devices).
        """
        self._is_deferred, self._is_quiet = True, quiet
        try:
            yield
        finally:
            self._is_deferred = False

    def closes(self) -> None:
        """Training is over, and what is left is written down in any case: a request is told so."""
        self._answer = "the training is over, and its summary is being written"

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a loader's, which a scheduler signals too
        name = signal.Signals(number).name
        if not self._is_deferred:
            raise KeyboardInterrupt(name)
        if self.requested is None:
            self.requested = name
            if not self._is_quiet:
                say(f"{name}: {self._answer}. {'Once more' if number == signal.SIGINT else 'Ctrl-C'} stops at once.")
        elif number == signal.SIGINT:
            raise Interrupted(f"Stopped at once by a second {name}; what is written stays.")


class EarlyRequests:
    """Signals that come before a run hears them itself: while the command line is read and libraries are imported.

    Attributes:
        is_over: all is done, and a signal changes nothing any more.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._earlier: dict[signal.Signals, Any] = {}

    def hear(self, name: str) -> None:
        """Hear this signal too, by the name that `--signal` gives it."""
        number = preemption_signal(name)
        if (
            threading.current_thread() is threading.main_thread()
            and number not in self._earlier
            and not _is_taken(number)
        ):
            self._earlier[number] = signal.signal(number, self.handle)

    def give_back(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """As before the first step."""
        if not self.is_over:
            raise KeyboardInterrupt(signal.Signals(number).name)


def _is_taken(number: signal.Signals) -> bool:
    """Whether a handler that is not ours waits for a signal, in Python or (None) in C."""
    handler = signal.getsignal(number)
    is_ours = isinstance(getattr(handler, "__self__", None), StopRequests | EarlyRequests)
    return not is_ours and handler not in (signal.SIG_DFL, signal.SIG_IGN)


@contextmanager
def catch_stop_requests(preemption: str = PREEMPTION) -> Iterator[StopRequests]:
    """Install the handlers, and put the earlier ones back at the end.

    Args:
        preemption: as `StopRequests`.

    Raises:
        KeyboardInterrupt: at the end, if inside another `catch_stop_requests`, and a request was deferred and nobody
            acted on it. The outermost has ended what was to be ended, and is silent.
    """
    stop_requests = StopRequests(preemption)
    if threading.current_thread() is not threading.main_thread():
        yield stop_requests
        return
    earlier = {number: signal.getsignal(number) for number in stop_requests.signals}
    stop_requests.install()
    try:
        yield stop_requests
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    if stop_requests.requested is not None:
        number = signal.Signals[stop_requests.requested]
        if isinstance(getattr(earlier[number], "__self__", None), StopRequests):
            signal.raise_signal(number)


@contextmanager
def hear_early() -> Iterator[EarlyRequests]:
    """From the first moment of a command that trains on, have SIGTERM and SIGUSR1 raise `KeyboardInterrupt`, as Ctrl-C
    does; without this they would end the process without a word. The earlier handlers come back at the end.
    """
    early = EarlyRequests()
    for name in ("TERM", PREEMPTION):
        early.hear(name)
    try:
        yield early
    finally:
        early.give_back()
