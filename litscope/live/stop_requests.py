"""Ctrl-C and SIGTERM ask a run to stop. While it trains, a request only sets a flag, which the training loop reads.

Before the first step there is nothing to save, so a request raises `KeyboardInterrupt` where the run
is. Inside `deferred()` the first request is kept in `requested`, and the second stops at once.
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

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from litscope.console import say
from litscope.errors import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""POSIX signals that ask a run to stop."""


class StopRequests:
    """Whether somebody asked the run to stop.

    Attributes:
        requested: how it was asked for ("SIGINT" or "SIGTERM"), or None.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._is_deferred = False
        self._is_quiet = False
        self._answer = "finishing this step and writing a checkpoint"

    def install(self) -> None:
        """Point both handlers here. Called again when training starts, for Lightning sets its own for SIGTERM."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
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
        name = signal.Signals(number).name
        if not self._is_deferred:
            raise KeyboardInterrupt(name)
        if self.requested is not None:
            raise Interrupted(f"Stopped at once by a second {name}; what is written stays.")
        self.requested = name
        if not self._is_quiet:
            say(f"{name}: {self._answer}. Once more stops at once.")


@contextmanager
def catch_stop_requests() -> Iterator[StopRequests]:
    """Install the handlers, and put the earlier ones back at the end.

    Raises:
        KeyboardInterrupt: at the end, if inside another `catch_stop_requests`, and a request was deferred and nobody
            acted on it. The outermost has ended what was to be ended, and is silent.
    """
    stop_requests = StopRequests()
    if threading.current_thread() is not threading.main_thread():
        yield stop_requests
        return
    earlier = {number: signal.getsignal(number) for number in STOP_SIGNALS}
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
