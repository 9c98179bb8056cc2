"""Whether shards are still what was written: their files, and each sample's bytes.

Of shards that others wrote, and whose bytes nobody has read, sizes and headers are all that can be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from litscope.console import number_of, track
from litscope.data.reading.digests import bytes_digest, new_digest
from litscope.data.shards.index import Index, Shard
from litscope.data.shards.scan import Asked, scan
from litscope.data.storage.retries import looking
from litscope.data.storage.store import Store, Unanswered
from litscope.data.storage.urls import place_of
from litscope.errors import DataError
from litscope.seals import DIFFERENT

_PIECE = 1 << 22


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        num_shards, num_samples, num_bytes: that were looked at.
        shards: name -> why the file is not what was written.
        samples: key -> the same of a sample, with its place.
        num_without_sums: shards whose bytes there is nothing to compare with.
    """

    num_shards: int
    num_samples: int
    num_bytes: int
    shards: dict[str, str]
    samples: dict[str, str]
    num_without_sums: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all is as it was written."""
        return not self.shards and not self.samples

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {**vars(self), "is_whole": self.is_whole}

    def lines(self) -> list[str]:
        """For a terminal."""
        looked = f"{number_of(self.num_shards, 'shard')}, {number_of(self.num_samples, 'sample')}"
        if self.is_whole and not self.num_without_sums:
            return [f"{looked}: all as they were written"]
        if self.is_whole:
            without = number_of(self.num_without_sums, "shard")
            return [
                f"{looked}: all are there and whole; {without} without checksums, so their bytes were not compared "
                "(`litscope index --checksums` takes them)"
            ]
        bad = f"{number_of(len(self.shards), 'shard')} and {number_of(len(self.samples), 'sample')} of {looked}"
        return [f"{bad} are not what was written:", *(f"  {name}: {why}" for name, why in _told(self))]


def _told(found: Verified) -> Iterator[tuple[str, str]]:
    yield from found.shards.items()
    yield from found.samples.items()


def verify(root: str | Path, index: Index, *, num_threads: int, progress: bool = True) -> Verified:
    """Read all bytes of all shards, and compare them with the index.

    Args:
        root: folder or address that the names of the shards start from.
        num_threads: that read.
        progress: draw a bar on a terminal.

    Raises:
        Unanswered: if a server does not answer.
    """
    shards, samples, store = {}, {}, Store()
    rows = np.argsort(index.places.shard, kind="stable")
    ends = np.searchsorted(index.places.shard[rows], np.arange(len(index.shards) + 1))
    keys, digests = index.table["key"], index.table["digest"]

    def look(number: int) -> tuple[str | None, dict[str, str]]:
        shard, mine = index.shards[number], rows[ends[number] : ends[number + 1]]
        file = place_of(root, shard.name)
        try:
            why = _why_not(store, file, shard)
            broken = {}
            for row in mine.tolist() if why is not None else ():
                _, offset, size = index.places.of(row)
                digest = digests[row].as_py()
                if digest is not None and bytes_digest(_read(store, file, offset, size)) != digest:
                    broken[str(keys[row])] = f"{file} at byte {offset:,}: {DIFFERENT}"
        except Unanswered:
            raise
        except DataError as error:
            return str(error).removeprefix(f"{file}: ").rstrip("."), {}
        return why, broken

    with ThreadPoolExecutor(num_threads) as pool:
        looks = track(pool.map(look, range(len(index.shards))), "reading shards", len(index.shards), progress)
        for shard, (why, broken) in zip(index.shards, looks, strict=True):
            if why is not None:
                shards[shard.name] = why
            samples.update(broken)
    num_bytes = sum(shard.num_bytes for shard in index.shards)
    without = sum(not shard.digest for shard in index.shards)
    return Verified(len(index.shards), len(index), num_bytes, shards, samples, without)


def _why_not(store: Store, file: str, shard: Shard) -> str | None:
    """Why a file is not the one that was written; None if it is."""
    size = looking.ask(lambda: store.size(file))
    if size != shard.num_bytes:
        return f"it has {size:,} bytes, and {shard.num_bytes:,} were written"
    if not shard.digest:
        return scan(partial(_read, store, file), size, _PIECE, Asked()).why or None
    digest = new_digest()
    for offset in range(0, size, _PIECE):
        digest.update(_read(store, file, offset, _PIECE))
    return None if digest.hexdigest() == shard.digest else DIFFERENT


def _read(store: Store, file: str, offset: int, size: int) -> bytes:
    return looking.ask(lambda: store.read(file, offset, size))
