"""One large read after the other: each takes some hundred megabytes for a moment, and two at once take them twice.

A read waits `WAIT_S` at most for its turn, so that one that hangs, as of a folder on a network, holds up no other for
long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from litscope.data.manifest import memory_given_back

WAIT_S = 5.0

_turn = threading.RLock()


@contextmanager
def large_read() -> Iterator[None]:
    """Inside, no other large read is going on, and Arrow's memory is the system's."""
    has_turn = _turn.acquire(timeout=WAIT_S)
    try:
        with memory_given_back():
            yield
    finally:
        if has_turn:
            _turn.release()
