"""Pieces: runs of samples side by side in a shard, and an epoch's order that reads one after another. No torch.

Sorted by a hash of its id alone, each sample of an epoch lies somewhere else. A disk in the machine serves that well,
object storage does not: it wants reads of a few megabytes. So here the pieces of all shards take their turns in a new
order in each epoch, and a sample comes near its piece's turn, anywhere in a window that slides over them:

    place = |turn + 1/2 + window * (u - 1/2)|        u in [0, 1): a hash of (seed, epoch, id)

with what would lie beyond the last turn thrown back as well. So the samples come at an even rate, each piece is needed
for as long as the window is wide and then no more in this epoch, and the first batches are drawn from half a window.
What fits into the window as a whole is sorted by the hash alone: the order of files in a folder.

Pieces and turns are those of all samples that an epoch may ever hold. So the order of the others stays when one is
taken out, whatever is discarded or put back, and it is the same on every machine and for every number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from litscope.data.sampler import Hashes, Ids, fold, hash_ids

PIECE_BYTES = 4 * 2**20
"""Of a piece: one read of this size takes object storage about twice as long as one of a byte."""

WINDOW = "1G"
"""Of stored bytes; see `--shuffle-window`."""

_FRACTION = 36  # bits of a place behind the point; those before it are enough for 100 TB
_HOME = 0x686F6D65


@dataclass(frozen=True)
class Pieces:
    """Where N samples lie.

    Attributes:
        of: (N,) int32, the number of each sample's piece; -1 for those that are never shuffled.
        count: P, of pieces.
        window: W, of pieces that are open at a time.
        samples: of an open window, in the mean.
    """

    of: NDArray[np.int32]
    count: int
    window: int
    samples: int

    @property
    def name(self) -> str:
        """How many pieces the window holds, of how many there are."""
        return f"{self.window:,} of {self.count:,} pieces"

    @property
    def is_whole(self) -> bool:
        """Whether the window holds all, so that nothing decides but the hash."""
        return self.window >= self.count

    def order(self, ids: Ids, hashes: Hashes, key: int) -> Ids:
        """Where in `ids` the first sample of an epoch stands, the second, ...

        Args:
            ids: (n,) int64, some perhaps several times.
            hashes: (n,) of the ids, or of their drawings.
            key: of the seed and the epoch; decides the turns.

        Returns:
            (n,) int64, a permutation.
        """
        if self.is_whole:
            return np.argsort(hashes)
        turns = np.empty(self.count, np.int64)
        turns[np.argsort(hash_ids(np.arange(self.count), key))] = np.arange(self.count)
        end = self.count << _FRACTION
        place = (hashes >> np.uint64(64 - _FRACTION)).view(np.int64)  # in place, for there may be millions
        place *= self.window
        place += (turns << _FRACTION)[self.of[ids]]
        place += (1 - self.window) << (_FRACTION - 1)
        np.abs(place, out=place)
        place -= end
        np.abs(place, out=place)
        np.subtract(end, place, out=place)
        return np.argsort(place, kind="stable")

    def homes(self, ids: Ids) -> Hashes:
        """(n,) a hash of the piece of each of `ids`, the same in all epochs."""
        return hash_ids(self.of[ids].astype(np.int64), fold(_HOME))


def pieces_of(
    shard: NDArray[np.integer],
    offset: NDArray[np.integer],
    size: NDArray[np.integer],
    ids: Ids,
    window_bytes: int,
    piece_bytes: int = PIECE_BYTES,
) -> Pieces:
    """The pieces of samples in shards.

    Args:
        shard, offset, size: (N,) where the bytes of each sample lie.
        ids: (n,) int64, the samples that are shuffled.
        window_bytes: of storage, that are drawn from at a time.
        piece_bytes: of a piece. A sample belongs to that in which it begins.
    """
    found = np.full(len(shard), -1, np.int32)
    if not len(ids):
        return Pieces(found, 0, 1, 0)
    mine, start = shard[ids].astype(np.int64), offset[ids].astype(np.int64)
    ends = np.zeros(int(mine.max()) + 1, np.int64)
    np.maximum.at(ends, mine, start + size[ids])
    firsts = ends.copy()
    np.minimum.at(firsts, mine, start)
    slots = ends // piece_bytes + 1
    slot = (np.cumsum(slots) - slots)[mine] + start // piece_bytes
    is_used = np.zeros(int(slots.sum()), bool)
    is_used[slot] = True
    found[ids] = (np.cumsum(is_used) - 1)[slot]
    count, num_bytes = int(is_used.sum()), max(1, int((ends - firsts).sum()))
    window = max(2, window_bytes * count // num_bytes)
    return Pieces(found, count, window, round(len(ids) * min(1.0, window / count)))
