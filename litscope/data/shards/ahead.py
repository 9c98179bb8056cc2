"""Ahead: the bytes of samples that will be asked for, read before they are, in large pieces and many at a time.

An object store answers after tens of milliseconds, however little is asked for, and many answers come side by side. So
what is coming is looked at in advance: a piece of a shard (4 MiB) is read once, when the first sample of it is near,
and of it all those samples are kept that come within a horizon. Where an epoch goes through storage in a window
(`pieces`) that is the whole piece. Samples that lie far apart in a piece are read apart.

Memory holds the samples of the horizon at most, and the reads under way. Each is let go when it was asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from litscope.data.shards.index import Places
from litscope.data.storage.cache import BLOCK_BYTES
from litscope.limits import memory_bytes

READS = 16
"""At a time."""

_GAP = 256 * 2**10  # bytes that nobody wants, which cost less than a request
_LEAD = 64 * 2**20  # bytes of samples before which a read begins
_STRIDE = 16 * 2**20  # bytes of samples that are planned at a time
_LEAST, _MOST = 256 * 2**20, 2**30

Read = Callable[[int, int, int], bytes]
"""(shard, offset, size) -> bytes."""


@dataclass
class _Held:
    """A sample that is read or being read: where in a read it lies, and how often it will be asked for."""

    read: Future[dict[int, bytes]]
    uses: int = 1


class Ahead:
    """Reads ahead of one pass over samples. `content` may be asked from many threads.

    Args:
        read: asked from many threads at once; waits itself for a server that does not answer.
        places: of all samples.
        ids: (n,) int64, about in the order in which they will be asked for, some perhaps several times.
        horizon: bytes of samples that are held at most. Default: an eighth of the memory, at most 1 GiB.
    """

    def __init__(self, read: Read, places: Places, ids: npt.NDArray[np.int64], horizon: int | None = None) -> None:
        self._read, self._places, self._ids = read, places, ids
        self._horizon = min(_MOST, max(_LEAST, memory_bytes() // 8)) if horizon is None else horizon
        self._ends = np.cumsum(places.size[ids], dtype=np.int64)  # bytes of samples up to each position
        self._is_planned = np.zeros(len(ids), bool)
        self._next, self._asked_bytes = 0, 0
        self._held: dict[int, _Held] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(READS, "litscope-read")
        self.is_closed = False
        with self._lock:
            self._plan()

    def content(self, sample_id: int) -> bytes | None:
        """The bytes at a sample's place, fewer where the shard ends before; None if it is not known to be coming.

        Raises:
            DataError: if they cannot be read.
            StorageError: if the server does not answer.
        """
        with self._lock:
            held = self._held.get(sample_id)
        if held is None:
            return None
        try:
            samples = held.read.result()
        except CancelledError:
            return None
        finally:
            self._let_go(sample_id, held)
        found = samples.get(sample_id)
        if not held.uses:
            samples.pop(sample_id, None)
        return found

    def close(self) -> None:
        """Give up what nobody will ask for."""
        self.is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _let_go(self, sample_id: int, held: _Held) -> None:
        with self._lock:
            held.uses -= 1
            if not held.uses and self._held.get(sample_id) is held:
                del self._held[sample_id]
            self._asked_bytes += int(self._places.size[sample_id])
            self._plan()

    def _plan(self) -> None:
        """Begin the reads of what is near. The lock is held."""
        while self._next < len(self._ids) and not self.is_closed:
            before = int(self._ends[self._next - 1]) if self._next else 0
            if before > self._asked_bytes + _LEAD:
                return
            start = self._next
            self._next = max(start + 1, int(np.searchsorted(self._ends, before + _STRIDE, "right")))
            stop = max(self._next, int(np.searchsorted(self._ends, before + self._horizon, "right")))
            self._plan_between(start, self._next, stop)

    def _plan_between(self, start: int, end: int, stop: int) -> None:
        """Read the pieces of the positions from start to end, for all positions up to stop."""
        at = start + np.flatnonzero(~self._is_planned[start:stop])
        ids = self._ids[at]
        piece = self._places.shard[ids].astype(np.int64) << 32 | self._places.offset[ids] // BLOCK_BYTES
        is_near = np.isin(piece, piece[at < end])
        at, ids, piece = at[is_near], ids[is_near], piece[is_near]
        self._is_planned[at] = True
        order = np.lexsort((self._places.offset[ids], piece))
        at, ids, piece = at[order], ids[order], piece[order]
        first = self._places.offset[ids]
        last = first + self._places.size[ids]
        breaks = np.flatnonzero((np.diff(piece) != 0) | (first[1:] - last[:-1] > _GAP)) + 1
        runs = np.split(np.arange(len(ids)), breaks) if len(ids) else []
        for run in sorted(runs, key=lambda run: int(at[run].min())):
            self._begin(ids[run], int(first[run[0]]), int(last[run].max()))

    def _begin(self, ids: npt.NDArray[np.int64], start: int, end: int) -> None:
        shard = int(self._places.shard[ids[0]])
        parts = {id_: self._places.of(id_)[1:] for id_ in ids.tolist()}

        def read() -> dict[int, bytes]:
            content = self._read(shard, start, end - start)
            return {id_: content[offset - start : offset - start + size] for id_, (offset, size) in parts.items()}

        future = self._pool.submit(read)
        for id_ in ids.tolist():
            held = self._held.get(id_)
            if held is None:
                self._held[id_] = _Held(future)
            else:  # an epoch that draws a sample several times
                held.uses += 1
