"""Signals that wait: a scheduler sends them to all processes of a job, also to one that cannot answer yet."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU)
"""What a scheduler sends, and what ends a process that has no handler for it."""


@contextmanager
def held_back() -> Iterator[None]:
    """Inside, these signals wait, for this thread. A child that is started here is born so, and stays so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
