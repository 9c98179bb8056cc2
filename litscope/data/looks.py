"""Looks: what reading images, or a part of each, says of them before the first step. No torch.

Of files all are looked at: the header, the end, and the digest of the bytes. Of shards, which may be larger than the
machine, some samples are read as a whole.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from litscope.console import track
from litscope.data.reading import bands, images
from litscope.data.reading.digests import bytes_digest, file_digest
from litscope.data.reading.findings import Findings
from litscope.data.reading.fits import is_fits
from litscope.data.reading.readers import FileReader
from litscope.data.reading.regular import check_regular
from litscope.data.sampler import Ids
from litscope.data.shards.reader import ShardReader
from litscope.errors import DataError

_PIECE = 65_536  # bytes read at each end of a large file
_CHUNK = 256  # files per task of the thread pool
_LOOKED_AT = 16  # files of 16 bits whose values are looked at
_SAMPLES = 256  # of shards that are read
_READS = 16  # at a time: of storage that is far away, waiting is all that a read costs


def spread(ids: Ids, count: int) -> Ids:
    """At most `count` of the ids, evenly spaced."""
    return ids[:: max(1, -(-len(ids) // count))]


def look_at_shards(reader: ShardReader) -> tuple[dict[int, str], list[str]]:
    """sample_id -> why it cannot be read, of some samples spread over all, and lines for the person."""

    def look(sample_id: int) -> str:
        try:
            reader.read(sample_id)
        except DataError as error:
            return str(error)
        return ""

    ids = spread(np.arange(len(reader)), _SAMPLES).tolist()
    with ThreadPoolExecutor(_READS) as pool:
        broken = {sample_id: why for sample_id, why in zip(ids, pool.map(look, ids), strict=True) if why}
    said = f"shards: {len(ids):,} of {len(reader):,} images were looked at; `litscope verify` reads all"
    return broken, [said] if len(ids) < len(reader) else []


def brightest(reader: FileReader, broken: Mapping[int, str]) -> int | None:
    """The largest value of a few files spread evenly over all, of those that are gray images of 16 bits."""
    ids = np.unique(np.linspace(0, len(reader) - 1, _LOOKED_AT).astype(np.int64)).tolist()
    found = (images.brightest(reader.path(i)) for i in ids if i not in broken)
    return max((value for value in found if value is not None), default=None)


def look_at_files(reader: FileReader, known: set[int], num_threads: int, progress: bool) -> Findings:
    """Look at all files but the `known` ones."""
    chunks = [range(start, min(start + _CHUNK, len(reader))) for start in range(0, len(reader), _CHUNK)]
    found = Findings({}, {})
    traits: Counter[str] = Counter()
    with ThreadPoolExecutor(num_threads) as pool:
        done = pool.map(lambda ids: [(i, _look(reader, i)) for i in ids if i not in known], chunks)
        for looks in track(done, "looking at the files", total=len(chunks), show=progress):
            for sample_id, look in looks:
                if isinstance(look, str):
                    found.reasons[sample_id] = look
                else:
                    found.digests[sample_id], of_file = look
                    traits.update(of_file)
    found.traits.update(traits)
    return found


def _look(reader: FileReader, sample_id: int) -> str | tuple[bytes, tuple[str, ...]]:
    """Why a file cannot be read; or else its digest and its traits."""
    path = reader.path(sample_id)
    try:
        if path.suffix.lower() == bands.SUFFIX or is_fits(path.name):
            reader.read(sample_id)
            return file_digest(path), ()
        check_regular(path)
        with path.open("rb", buffering=0) as file:
            head = file.read(_PIECE)
            size = os.fstat(file.fileno()).st_size
            tail = head if size <= len(head) else os.pread(file.fileno(), _PIECE, size - _PIECE)
        header = images.read_header(head if size == len(head) else path)
        if not _has_end(head, tail, size):
            reader.read(sample_id)
        return bytes_digest(head) if size == len(head) else file_digest(path), header.traits
    except DataError as error:
        return str(error)
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _has_end(head: bytes, tail: bytes, size: int) -> bool:
    """Whether the file's end is where its format says; False for formats without an end marker."""
    if head[:2] == b"\xff\xd8":
        return b"\xff\xd9" in tail
    if head[:4] == b"\x89PNG":
        return b"IEND" in tail
    if head[:4] == b"RIFF":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return False
