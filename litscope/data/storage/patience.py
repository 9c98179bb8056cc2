"""Asking a server again that did not answer. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from litscope.console import warn
from litscope.data.storage.store import Unanswered

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a server is asked again that does not answer."""

_FIRST_WAIT_S, _MOST_WAIT_S = 0.5, 8.0
_SAID_AFTER_S = 5.0


def patiently(ask: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """What a server answers; it is asked again, after longer and longer waits, for a while.

    Raises:
        Unanswered: after that.
        DataError: where asking again is no use.
    """
    began, wait_s, is_said = time.monotonic(), _FIRST_WAIT_S, False
    while True:
        try:
            return ask()
        except Unanswered as error:
            waited_s = time.monotonic() - began
            if waited_s + wait_s > patience_s:
                raise
            if waited_s > _SAID_AFTER_S and not is_said:
                warn(f"{error}; asking again for {patience_s:.0f} s")
                is_said = True
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _MOST_WAIT_S)
