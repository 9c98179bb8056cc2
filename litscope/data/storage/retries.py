"""Retries: a server that does not answer is asked again, with longer and longer waits, until a deadline. No torch.

The clients of object stores try again for a few seconds. That does for an answer that was lost, not for a server that
is started anew. Here a read waits for minutes, and the run with it. All reads of a process wait for one outage: it is
said once, when it has lasted a little, and once more when the server answers again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from litscope.console import say, warn
from litscope.data.storage.store import Unanswered
from litscope.errors import DataError, StorageError

T = TypeVar("T")

PATIENCE_S = 600.0
"""How long a server is asked again that does not answer, while a run trains."""

LOOKING_S = 60.0
"""The same for commands that look, copy and check, and before a training: nothing is lost with them."""

BRIEF_S = 5.0
"""The same where somebody looks at a page, and may ask again."""

_FIRST_WAIT_S, _MOST_WAIT_S = 0.2, 10.0
_SAID_AFTER_S = 3.0


class Outage:
    """What the reads of a process know together about a server.

    Attributes:
        answered_at: when it last gave a good answer, by the monotonic clock.
    """

    def __init__(self) -> None:
        self.answered_at = time.monotonic()
        self._said_at: float | None = None
        self._lock = threading.Lock()

    def answered(self) -> None:
        """A good answer came."""
        with self._lock:
            now, said_at = time.monotonic(), self._said_at
            lasted_s, self.answered_at, self._said_at = now - self.answered_at, now, None
        if said_at is not None and _speaks():
            say(f"the storage answers again, after {lasted_s:.0f} s")

    def lasts(self, error: DataError, waited_s: float, patience_s: float) -> None:
        """A read has waited so long; the first of all that waits for a while says so."""
        with self._lock:
            is_alive = time.monotonic() - self.answered_at < _SAID_AFTER_S
            if waited_s < _SAID_AFTER_S or is_alive or self._said_at is not None:
                return
            self._said_at = time.monotonic()
        if _speaks():
            warn(f"{str(error).rstrip('.')}. The storage is asked again, for up to {patience_s:.0f} s")


class Retries:
    """Asks a server again that does not answer. It may be shared by threads, and pickled.

    Args:
        patience_s: how long.
        then: what to do when the server answers again.
    """

    def __init__(self, patience_s: float = PATIENCE_S, then: str = "go on with `litscope resume`") -> None:
        self.patience_s, self.then = patience_s, then
        self._outage = Outage()

    def __reduce__(self) -> tuple[type[Retries], tuple[float, str]]:
        return Retries, (self.patience_s, self.then)

    def ask(self, request: Callable[[], T], is_cancelled: Callable[[], bool] = lambda: False) -> T:
        """What a server answers.

        Args:
            request: asks once.
            is_cancelled: whether nobody waits for the answer any more.

        Raises:
            StorageError: if there was no answer to any request for as long as patience lasts.
            DataError: if asking again is no use; `Unanswered` if only this request had no answer.
        """
        began, wait_s = time.monotonic(), _FIRST_WAIT_S
        while True:
            try:
                found = request()
            except Unanswered as error:
                now = time.monotonic()
                waited_s = now - began
                if is_cancelled():
                    raise
                if waited_s + wait_s > self.patience_s:
                    raise self._given_up(error, began, waited_s) from error
                self._outage.lasts(error, waited_s, self.patience_s)
            else:
                self._outage.answered()
                return found
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # many processes wait; they shall not all ask at once
            wait_s = min(2 * wait_s, _MOST_WAIT_S)

    def _given_up(self, error: Unanswered, began: float, waited_s: float) -> Exception:
        """Others were answered in the meantime: this one is dead. Nobody was: so is the server."""
        told = str(error).rstrip(".")
        if self._outage.answered_at > began:
            return Unanswered(f"{told}; it was asked again for {waited_s:.0f} s")
        return StorageError(f"{told}. The storage gave no answer for {waited_s:.0f} s. When it does, {self.then}.")


looking = Retries(LOOKING_S, "give the command again")
"""Of this process, for all that is asked before a training, and by commands that do not train."""


def be_brief() -> None:
    """Have this process wait `BRIEF_S` for what it looks at."""
    looking.patience_s, looking.then = BRIEF_S, "look again"


def _speaks() -> bool:
    """Whether this process says what all processes of a run see."""
    return os.environ.get("LOCAL_RANK", "0") in ("", "0")
