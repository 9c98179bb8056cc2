"""p_label of every sample in every epoch, in a byte each: the small curves beside samples.

They are read once for each epoch, in the background of the first question, and a million samples of 20 epochs take
25 MB. A byte holds p in steps of 1/254; 255 is: not seen.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from litscope.ledger.reader import LedgerReader
from litscope.rundir import RunDir, read_lines
from litscope.studio.samples.shelf import Stamp, stamp
from litscope.studio.samples.turns import large_read
from litscope.studio.samples.values import Ids

UNSEEN = 255
MOST_POINTS = 64
MOST_BYTES = 150_000_000
"""Of one run's curves; of a run with more samples and epochs, every second, third ... epoch is kept."""


class Sparklines:
    """The curves of one run, going on from epoch to epoch.

    Args:
        run: its folder.
        count: N, its samples.
        compared: parts, as `LedgerReader` has them.
    """

    def __init__(self, run: RunDir, count: int, compared: set[Path] | None = None) -> None:
        self._run, self.count = run, count
        self._lock = threading.Lock()
        self._rows: dict[int, NDArray[np.uint8]] = {}
        self._attempts = -1
        self._seen: Stamp | None = None
        self._reader = LedgerReader(run, compared=compared, is_thrifty=True)

    def read(self) -> None:
        """Read what came, so that no question waits for it; errors as `at`."""
        with self._lock:
            self._bring_up_to_date()

    def at(self, ids: Ids) -> list[list[float | None]]:
        """The curves of n samples, of at most `MOST_POINTS` epochs each, up to the last complete one.

        Raises:
            LedgerError: if the signals cannot be read.
        """
        with self._lock:
            self._bring_up_to_date()
            epochs = sorted(self._rows)
            if len(epochs) > MOST_POINTS:
                epochs = [epochs[i] for i in np.linspace(0, len(epochs) - 1, MOST_POINTS).astype(int)]
            found = np.stack([self._rows[epoch][ids] for epoch in epochs], 1) if epochs else np.empty((len(ids), 0))
        return [[None if v == UNSEEN else round(v / 254, 3) for v in row] for row in found.tolist()]

    def _bring_up_to_date(self) -> None:
        now = stamp(self._run.signals, self._run.attempts)
        if now == self._seen:
            return
        attempts = len(read_lines(self._run.attempts))
        if attempts != self._attempts:  # what an earlier attempt recorded may not be valid any more
            self._rows, self._attempts = {}, attempts
        last = self._reader.last_epoch()
        if last is None:
            self._seen = now
            return
        stride = max(1, -(-(last + 1) * self.count // MOST_BYTES))
        if stride > 1:
            self._rows = {epoch: row for epoch, row in self._rows.items() if epoch % stride == 0}
        wanted = range(0, last + 1, stride)
        newest = max(self._rows, default=-1)
        for epoch in wanted:
            if epoch not in self._rows or epoch >= newest:  # the last one may have been half done
                self._rows[epoch] = self._epoch(epoch)
        self._seen = now

    def _epoch(self, epoch: int) -> NDArray[np.uint8]:
        row = np.full(self.count, UNSEEN, np.uint8)
        with large_read():
            table = self._reader.table(["sample_id", "phase", "p_label"], min_epoch=epoch, max_epoch=epoch)
            phase = table["phase"].combine_chunks()
            is_train = np.equal(phase.indices.to_numpy(), phase.dictionary.index("train").as_py())
            ids, p = table["sample_id"].to_numpy(), table["p_label"].to_numpy()
        is_known = ids < self.count
        is_known &= np.isfinite(p)
        for chosen in (is_known & ~is_train, is_known & is_train):  # of visits of both kinds, that of training counts
            row[ids[chosen]] = np.clip(p[chosen], 0, 1) * np.float32(254) + np.float32(0.5)  # as uint8 it is cut off
        return row
