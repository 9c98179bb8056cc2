"""Ctrl-C and SIGTERM: while a run trains, a signal only sets a flag; the training loop reads it.

Before the first step there is nothing to save, so both signals raise `KeyboardInterrupt` where the
run is. Inside `deferred()` the first signal is kept in `requested`, and the second stops at once.
Signals reach the main thread only; elsewhere (a notebook's worker thread) nothing is installed.

    with catch_signals() as signals:      # preparing: KeyboardInterrupt
        with signals.deferred():          # training: a flag, read at a step's end
            ...

A request that came after the last look at the flag is not lost: where one training is part of many, it is passed on
to the loop around them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from litscope.console import say
from litscope.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """What was asked for by signals.

    Attributes:
        requested: name of the signal that asked the run to stop ("SIGINT"), or None.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._is_deferred = False
        self._is_quiet = False

    def install(self) -> None:
        """Point both signals here. Called again when training starts, for Lightning sets its own SIGTERM handler."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    @contextmanager
    def deferred(self, quiet: bool = False) -> Iterator[None]:
        """While inside, the first signal sets `requested` and nothing else.

        Args:
            quiet: say nothing about it (the worker processes of a run on several devices).
        """
        self._is_deferred, self._is_quiet = True, quiet
        try:
            yield
        finally:
            self._is_deferred = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if not self._is_deferred:
            raise KeyboardInterrupt(name)
        if self.requested is not None:
            raise Interrupted(f"Stopped at once by a second {name}; the last checkpoint stays.")
        self.requested = name
        if not self._is_quiet:
            say(f"{name}: finishing this step and writing a checkpoint. Once more stops at once.")


@contextmanager
def catch_signals() -> Iterator[Signals]:
    """Install the handlers, and put the earlier ones back at the end.

    Raises:
        KeyboardInterrupt: at the end, if inside another `catch_signals`, and a signal was deferred and nobody acted on
            it. The outermost has ended what was to be ended, and is silent.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    signals.install()
    try:
        yield signals
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    if signals.requested is not None:
        number = signal.Signals[signals.requested]
        if isinstance(getattr(earlier[number], "__self__", None), Signals):
            signal.raise_signal(number)
