"""Upkeep: what a run's first rank does for its ledger in the background. Scores are kept up to date, parts are joined.

A thread works after an epoch, for a small share of the time; no step waits for it. Whatever goes wrong here is told
once, and the run goes on: scores can be made anew at any time, and parts are as good when they are many. No torch.
"""

from __future__ import annotations

import threading
import time

from litscope.claims import Guard, unguarded
from litscope.console import warn
from litscope.errors import Superseded
from litscope.ledger.compaction import compact
from litscope.ledger.custom import CUSTOM_SCHEMA
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import PART_SCHEMA
from litscope.ledger.scoring.scorekeeper import known_parts, refresh_with
from litscope.rundir import RunDir


class Upkeep:
    """Keeps a run's scores up to date and its parts few, in a thread of the first rank.

    Args:
        run: the run's folder, which nobody else trains.
        first_after_s: seconds of training before the first work.
        share: largest share of the time that the work may take; an epoch that ends too early waits for the next.
        guard: asked before each work.
    """

    def __init__(self, run: RunDir, first_after_s: float = 5.0, share: float = 0.02, guard: Guard = unguarded) -> None:
        self._reader = LedgerReader(run)  # kept: it has read the footers of all earlier parts
        self._share = share
        self._guard = guard
        self._due_at = time.monotonic() + first_after_s
        self._asked = threading.Event()
        self._is_closed = False
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="litscope-upkeep", daemon=True)
        self._thread.start()

    def epoch_ended(self) -> None:
        """Ask for work. Returns at once."""
        self._asked.set()

    def close(self, is_over: bool = True) -> None:
        """Wait for work in progress, and bring the scores up to date for the last time. A second call does nothing.

        Args:
            is_over: the run has ended by itself, so there is time to join its last parts; else somebody waits for the
                process to end.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._asked.set()
        self._thread.join()
        self._work(is_over=is_over, joins=is_over)

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._is_closed:
                return
            if time.monotonic() >= self._due_at:
                began = time.monotonic()
                self._work()
                ended = time.monotonic()
                self._due_at = ended + (ended - began) / self._share

    def _work(self, is_over: bool = False, joins: bool = True) -> None:
        try:
            self._guard()
            scores = refresh_with(self._reader)
        except Superseded:
            return  # whoever trains now keeps them; the training thread tells it
        except Exception as error:  # noqa: BLE001 - scores are an extra: whatever is wrong with them, the run goes on
            self._tell(f"The scores could not be brought up to date: {error}.")
            return  # joined, parts that were not counted yet would have them count all anew
        if not joins:
            return
        run = self._reader.run
        try:
            compact(run.signals, PART_SCHEMA, is_over=is_over, may_join=known_parts(scores))
            compact(run.custom, CUSTOM_SCHEMA, is_over=is_over, may_join=lambda _: True)
        except Exception as error:  # noqa: BLE001 - so are few parts
            self._tell(f"The parts of the ledger could not be joined: {error}.")

    def _tell(self, message: str) -> None:
        """Warn, of each kind of trouble once."""
        kind = message.partition(":")[0]
        if kind not in self._told:
            self._told.add(kind)
            warn(f"{message} Training goes on.")
