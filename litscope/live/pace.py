"""Pace: whether a stop, a checkpoint or the end of the run's time is due after a step. The same on every rank."""

from __future__ import annotations

import time
from typing import NamedTuple

from litscope.live.ranks import Ranks
from litscope.live.stop_requests import StopRequests

AGREE_EVERY = 10
"""Largest number of steps between two agreements of several ranks; an agreement costs about 0.5 ms."""

AGREE_S = 1.0
"""Longest time between two agreements, in seconds, unless a step takes longer than that."""


class Due(NamedTuple):
    """What is due now.

    Attributes:
        stop: number of the POSIX signal that asks the run to save and stop; 0 if none does.
        save: a periodic checkpoint.
        end: the time is over.
        news: somebody asked for an action.
    """

    stop: int = 0
    save: bool = False
    end: bool = False
    news: bool = False


class Pace:
    """Watches the stop requests and the clock of a run.

    Args:
        stop_requests: Ctrl-C, SIGTERM and a scheduler's signal.
        save_every_s: seconds between two checkpoints; None if time does not decide.
        max_time_s: seconds of training after which the run ends, earlier attempts included.
    """

    def __init__(self, stop_requests: StopRequests, *, save_every_s: float | None, max_time_s: float | None) -> None:
        self._stop_requests = stop_requests
        self._save_every_s = save_every_s
        self._max_time_s = max_time_s
        self._began = self._saved_at = self._agreed_at = time.monotonic()
        self._agree_every = 1
        self._is_ended = False

    def start(self, elapsed_s: float = 0.0) -> None:
        """Start the clock of training; `elapsed_s` seconds of it were in earlier attempts."""
        self._saved_at = time.monotonic()
        self._began = self._saved_at - elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, earlier attempts included."""
        return time.monotonic() - self._began

    def end(self) -> None:
        """End the run as if its time were over; it is enough that one rank says so."""
        self._is_ended = True

    def saved(self) -> None:
        """Note that a checkpoint has just been written."""
        self._saved_at = time.monotonic()

    def skip(self, seconds: float) -> None:
        """Leave out the seconds of a pause."""
        self._began += seconds

    def due(self, ranks: Ranks, count: int, has_news: bool = False) -> Due:
        """What is due after `count` steps or batches. Several ranks agree only at every tenth, more often if steps
        are slow, and always at 0.

        Every rank must come here with the same counts.

        Args:
            has_news: whether somebody asked for an action; it is enough that one rank knows.
        """
        if ranks.world_size > 1 and count % self._agree_every:
            return Due()
        now = time.monotonic()
        is_time_over = self._is_ended or (self._max_time_s is not None and self.elapsed_s > self._max_time_s)
        is_save_due = self._save_every_s is not None and now - self._saved_at > self._save_every_s
        stop, flags = self._stop_requests.number, (is_save_due, is_time_over, has_news)
        if ranks.world_size == 1:
            return Due(stop, *flags)
        stop, *agreed, least = ranks.most(stop, *flags, -self._wanted_steps(now))
        if count:
            self._agree_every, self._agreed_at = -least, now
        return Due(stop, *map(bool, agreed))

    def _wanted_steps(self, now: float) -> int:
        """After how many steps this rank would like to agree again."""
        step_s = (now - self._agreed_at) / self._agree_every
        return min(AGREE_EVERY, max(1, int(AGREE_S / max(step_s, 1e-6))))
