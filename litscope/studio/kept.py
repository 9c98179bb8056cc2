"""What is kept of one run besides its samples: metrics, pictures, curves, where visits are; and what reads it ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from litscope.errors import LitscopeError
from litscope.ledger.history import Stretches
from litscope.rundir import RunDir
from litscope.studio.runs.curves import Metrics
from litscope.studio.samples.evaluations import Evaluations
from litscope.studio.samples.pictures import Pictures, Thumbnails
from litscope.studio.samples.sparklines import Sparklines
from litscope.studio.samples.table import Samples

UNREADABLE = (LitscopeError, OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException)
"""What reading a broken or foreign run may raise: its page says so, and shows the rest."""

LEAST_AHEAD = 100_000
"""Of fewer samples everything is read as fast as it is asked for."""


class Kept:
    """What is kept of one run.

    Args:
        run: its folder.
        cache: of small pictures.
        keys: as `Pictures` asks for them.
    """

    def __init__(self, run: RunDir, cache: Thumbnails, keys: Callable[[], pa.ChunkedArray] | None = None) -> None:
        self._run, self._lock = run, threading.Lock()
        self.metrics, self.pictures, self.evaluations = Metrics(run), Pictures(run, cache, keys), Evaluations(run)
        self._compared: set[Path] = set()
        self._curves: Sparklines | None = None
        self._stretches: Stretches | None = None
        self._ahead: threading.Thread | None = None

    def curves(self, count: int) -> Sparklines:
        """The small curves of its N samples."""
        with self._lock:
            if self._curves is None or self._curves.count != count:
                self._curves = Sparklines(self._run, count, self._compared)
            return self._curves

    def stretches(self, count: int) -> Stretches:
        """Where the visits of its N samples are."""
        with self._lock:
            if self._stretches is None or self._stretches.count != count:
                self._stretches = Stretches(self._run, count, compared=self._compared)
            return self._stretches

    def read_ahead(self, samples: Samples, least: int = LEAST_AHEAD) -> threading.Thread | None:
        """Read in a thread, once, what people ask for soon after a run is opened, so that nobody waits for it.

        Args:
            samples: of the run.
            least: of fewer samples nothing is read.
        """
        with self._lock:
            if self._ahead is None and samples.count >= least:
                self._ahead = threading.Thread(target=self._read, args=[samples], name="read-ahead")
                self._ahead.start()
            return self._ahead

    def _read(self, samples: Samples) -> None:
        parts = (
            self.pictures.open,  # what a page shows first; each of the others makes people wait less long
            self.curves(samples.count).read,
            samples.recent,
            lambda: samples.values("key").keys(),
            self.stretches(samples.count).read,
        )
        for part in parts:
            if not threading.main_thread().is_alive():  # the process ends, and waits for this thread
                return
            try:
                part()
            except UNREADABLE:  # told to who asks for it
                continue
