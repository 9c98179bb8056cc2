"""What is due at a step's end: a stop, a checkpoint, the end of the time. The same on every rank."""

from __future__ import annotations

import time
from typing import NamedTuple

from litscope.training.interrupt import Signals
from litscope.training.ranks import Ranks

SAVE_EVERY_S = 120.0
"""Time between two periodic checkpoints inside an epoch, in seconds."""

AGREE_EVERY = 10
"""Steps between two agreements of several ranks; an agreement costs about 0.5 ms."""


class Due(NamedTuple):
    """What is due now."""

    stop: bool = False
    save: bool = False
    end: bool = False


class Pace:
    """Watches the signals and the clock of a run.

    Args:
        signals: Ctrl-C and SIGTERM.
        saves: whether there are periodic checkpoints.
        max_time_s: seconds of training after which the run ends, earlier attempts included.
    """

    def __init__(self, signals: Signals, *, saves: bool, max_time_s: float | None) -> None:
        self._signals = signals
        self._saves = saves
        self._max_time_s = max_time_s
        self._began = self._saved_at = time.monotonic()

    def start(self, elapsed_s: float = 0.0) -> None:
        """Training starts now; `elapsed_s` seconds of it were in earlier attempts."""
        self._saved_at = time.monotonic()
        self._began = self._saved_at - elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, earlier attempts included."""
        return time.monotonic() - self._began

    def saved(self) -> None:
        """A checkpoint was written now."""
        self._saved_at = time.monotonic()

    def due(self, ranks: Ranks, count: int) -> Due:
        """What is due after `count` steps or batches. Several ranks talk only at every tenth, and at 0.

        Every rank must come here with the same counts.
        """
        if ranks.world_size > 1 and count % AGREE_EVERY:
            return Due()
        is_time_over = self._max_time_s is not None and self.elapsed_s > self._max_time_s
        is_save_due = self._saves and time.monotonic() - self._saved_at > SAVE_EVERY_S
        return Due(*ranks.any(self._signals.requested is not None, is_save_due, is_time_over))
