"""Whether shards are still what was written: their files, and each sample's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litscope.console import number_of, track
from litscope.data.reading.digests import bytes_digest, new_digest
from litscope.data.shards.index import Index
from litscope.seals import DIFFERENT

_PIECE = 1 << 20


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        num_shards, num_samples, num_bytes: that were looked at.
        shards: name -> why the file is not what was written.
        samples: key -> the same of a sample, with its place.
    """

    num_shards: int
    num_samples: int
    num_bytes: int
    shards: dict[str, str]
    samples: dict[str, str]

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
        if self.is_whole:
            return [f"{looked}: all as they were written"]
        bad = f"{number_of(len(self.shards), 'shard')} and {number_of(len(self.samples), 'sample')} of {looked}"
        return [f"{bad} are not what was written:", *(f"  {name}: {why}" for name, why in _told(self))]


def _told(found: Verified) -> Iterator[tuple[str, str]]:
    yield from found.shards.items()
    yield from found.samples.items()


def verify(folder: Path, index: Index, *, num_threads: int, progress: bool = True) -> Verified:
    """Read all bytes of all shards, and compare them with the index.

    Args:
        folder: of the shards.
        num_threads: that read.
        progress: draw a bar on a terminal.
    """
    shards, samples = {}, {}
    rows = np.argsort(index.places.shard, kind="stable")
    ends = np.searchsorted(index.places.shard[rows], np.arange(len(index.shards) + 1))
    keys, digests = index.table["key"], index.table["digest"]

    def look(number: int) -> tuple[str | None, dict[str, str]]:
        shard, mine = index.shards[number], rows[ends[number] : ends[number + 1]]
        path = folder / shard.name
        try:
            why = _why_not(path, shard.num_bytes, shard.digest)
            if why is None:
                return None, {}
            broken = {}
            with path.open("rb") as file:
                for row in mine.tolist():
                    _, offset, size = index.places.of(row)
                    file.seek(offset)
                    if bytes_digest(file.read(size)) != digests[row].as_py():
                        broken[str(keys[row])] = f"{path} at byte {offset:,}: {DIFFERENT}"
        except OSError as error:
            return error.strerror or str(error), {}
        return why, broken

    with ThreadPoolExecutor(num_threads) as pool:
        looks = track(pool.map(look, range(len(index.shards))), "reading shards", len(index.shards), progress)
        for shard, (why, broken) in zip(index.shards, looks, strict=True):
            if why is not None:
                shards[shard.name] = why
            samples.update(broken)
    num_bytes = sum(shard.num_bytes for shard in index.shards)
    return Verified(len(index.shards), len(index), num_bytes, shards, samples)


def _why_not(path: Path, num_bytes: int, expected: str) -> str | None:
    """Why a file is not the one that was written; None if it is."""
    size = path.stat().st_size
    if size != num_bytes:
        return f"it has {size:,} bytes, and {num_bytes:,} were written"
    digest = new_digest()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return None if digest.hexdigest() == expected else DIFFERENT
