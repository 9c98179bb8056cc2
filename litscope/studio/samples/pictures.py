"""Pictures of samples by their id: from the run's data, or what a watched run kept. Small ones are cached on the disk.

A file is found by the manifest alone, never by a name that came with a request. What decodes has limits of pixels
(`data.reading.images`) and of time (`data.reading.untrusted`), and few decode at once.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.curation.run_data import RunData, run_data
from litscope.data.reading.cache import default_folder
from litscope.data.reading.readers import Reader
from litscope.data.shards.reader import ShardReader
from litscope.data.storage.retries import looking
from litscope.errors import LitscopeError, StorageError
from litscope.limits import memory_bytes, num_cores
from litscope.pictures.contact_sheet import Pixels, small_picture, to_rgb
from litscope.rundir import RunDir
from litscope.runs import is_watched
from litscope.seals import DamagedError, check
from litscope.studio.refusals import NoImage
from litscope.studio.samples.turns import large_read

LEAST_SIDE, MOST_SIDE = 16, 1024
MOST_FULL_SIDE = 4096
CACHE_BYTES = 2_000_000_000
"""Of the cache on the disk; older pictures go first."""

AWAY_S = 15.0
"""For so long a storage that gave no answer is not asked again: a page asks for many pictures at once."""

T = TypeVar("T")

_VERSION = 1
"""Of what the cache holds."""


@dataclass(frozen=True)
class Picture:
    """A picture as a file, and a word that changes with it."""

    content: bytes
    media_type: str
    tag: str


@dataclass(frozen=True)
class Size:
    """Of an image, in pixels."""

    width: int
    height: int
    has_image: bool = True


@dataclass(frozen=True)
class _Data:
    """What of a run's data is kept to read samples: no manifest.

    Attributes:
        kind: image or table.
        reader: of the rows.
        encoding: how they are read.
        rows: (N,) int32, where each sample is, -1 where it is not; None: row i is sample i.
        digest: (N,) of the contents, where the run knows them.
    """

    kind: str
    reader: Reader
    encoding: dict[str, Any]
    rows: NDArray[np.int32] | None
    digest: pa.ChunkedArray | pa.Array | None

    @classmethod
    def of(cls, data: RunData) -> _Data:
        """Of data that were opened."""
        rows, manifest = data.match.rows, data.manifest
        is_in_order = np.array_equal(rows, np.arange(len(rows)))
        digest = manifest.table["digest"] if manifest.has_content else None
        if digest is not None and is_in_order and data.source.digests is not None:  # the same, which the reader keeps
            digest = data.source.digests
        reader, keys = data.source.reader, manifest.table["key"]
        if isinstance(reader, ShardReader) and reader.keys.equals(keys):  # those that the columns of samples keep
            reader.keys = keys
        kept = None if is_in_order else rows.astype(np.int32)
        return cls(data.source.kind, reader, data.source.encoding, kept, digest)


class Pictures:
    """The pictures of one run. Its data are opened when the first is asked for.

    Args:
        run: its folder.
        cache: where small pictures are kept.
        keys: gives those (N,) of the run, where they are in memory.
    """

    def __init__(self, run: RunDir, cache: Thumbnails, keys: Callable[[], pa.ChunkedArray] | None = None) -> None:
        self._run, self._cache, self._keys = run, cache, keys
        self._lock = threading.Lock()
        self._data: _Data | None = None
        self._why_not: str | None = None
        self._is_away, self._again_at = "", 0.0
        self._kept: dict[int, bytes] | None = None
        self._is_watched = is_watched(run)

    def picture(self, sample_id: int, side: int | None) -> Picture:
        """A sample as PNG or JPEG, its longer side at most `side` (None: as large as it is, within limits).

        Raises:
            NoImage: saying why there is none.
        """
        if self._is_watched:
            content = self._of_watched(sample_id)
            return Picture(content, "image/png", hashlib.sha256(content).hexdigest()[:16])
        data = self._opened()
        tag = self._tag(data, sample_id)
        if side is None or side > MOST_SIDE:
            return _as_file(self._read(data, sample_id, 0), min(side or MOST_FULL_SIDE, MOST_FULL_SIDE), tag)
        name = f"{_VERSION}:{tag}:{side}"
        small = self._cache.get(name)
        if small is None:
            small = small_picture(self._read(data, sample_id, side), side)
            self._cache.put(name, small)
        return Picture(small, "image/png", f"{tag}-{side}")

    def open(self) -> None:
        """Open the data, so that no picture waits for it; why they cannot be opened is told with each picture."""
        if not self._is_watched:
            with suppress(NoImage):
                self._opened(of_images=False)

    def size(self, sample_id: int) -> Size | None:
        """How large a sample is; None for what is no image, or cannot be read."""
        try:
            if self._is_watched:
                from PIL import Image

                with Image.open(io.BytesIO(self._of_watched(sample_id))) as image:
                    return Size(*image.size)
            data = self._opened()
            height, width = self._answered(lambda: data.reader.size(self._row(data, sample_id)))
        except LitscopeError:
            return None
        return Size(width, height)

    def features(self, sample_id: int) -> list[tuple[str, float]] | None:
        """The numbers of a row of a table, as the network gets them; None for images, and where they are gone."""
        if self._is_watched:
            return None
        try:
            data = self._opened(of_images=False)
            if data.kind != "table":
                return None
            values = data.reader.read(self._row(data, sample_id))
        except LitscopeError:
            return None
        names = data.encoding.get("feature_names") or [f"feature {i}" for i in range(len(values))]
        return list(zip(map(str, names), values.astype(float).tolist(), strict=False))

    def _opened(self, of_images: bool = True) -> _Data:
        with self._lock:
            if self._data is None and self._why_not is None:
                try:
                    keys = None if self._keys is None else self._keys()  # before: it may be a large read itself
                    with large_read():
                        self._data = self._answered(lambda: _Data.of(run_data(self._run, keys=keys)))
                    reader = self._data.reader
                    if isinstance(reader, ShardReader):
                        reader.fetch.retries = looking
                except NoImage:
                    raise
                except (LitscopeError, OSError) as error:
                    self._why_not = f"The data are not where they were: {error}"
        if self._data is None:
            raise NoImage(str(self._why_not))
        if of_images and self._data.kind != "image":
            raise NoImage("The samples of this run are rows of a table.")
        return self._data

    def _answered(self, ask: Callable[[], T]) -> T:
        """What a storage answers; while it is away, it is not asked.

        Raises:
            NoImage: if there is no answer.
        """
        if time.monotonic() < self._again_at:
            raise NoImage(self._is_away)
        try:
            return ask()
        except StorageError as error:
            self._is_away, self._again_at = (
                f"The storage of the data does not answer: {error}",
                time.monotonic() + AWAY_S,
            )
            raise NoImage(self._is_away) from error

    def _row(self, data: _Data, sample_id: int) -> int:
        row = sample_id if data.rows is None else int(data.rows[sample_id])
        if row < 0:
            raise NoImage("The sample is not there any more as the run saw it.")
        return row

    def _read(self, data: _Data, sample_id: int, min_side: int) -> Pixels:
        with _DECODING:
            try:
                return self._answered(lambda: data.reader.read(self._row(data, sample_id), min_side))
            except NoImage:
                raise
            except (LitscopeError, OSError, MemoryError) as error:
                raise NoImage(f"The image cannot be read: {error}") from error

    def _tag(self, data: _Data, sample_id: int) -> str:
        """What the content of a sample is called: its digest, where the run knows it."""
        digest = None if data.digest is None else data.digest[sample_id].as_py()
        if digest is not None:
            return str(digest.hex())
        return hashlib.sha256(f"{self._run.path}\0{sample_id}".encode(errors="surrogateescape")).hexdigest()[:32]

    def _of_watched(self, sample_id: int) -> bytes:
        with self._lock:
            if not self._kept:
                self._kept = _kept_pictures(self._run)
        if sample_id not in self._kept:
            raise NoImage("A watched run keeps pictures of those samples only that were ranked first when it ended.")
        return self._kept[sample_id]


_LARGEST_BYTES = 1_600_000_000
"""What it takes to decode the largest image, with transparency."""

_DECODING = threading.BoundedSemaphore(max(1, min(num_cores(), memory_bytes() // (2 * _LARGEST_BYTES))))
"""How many images are decoded at once: within half of the memory, whatever they are."""


def _kept_pictures(run: RunDir) -> dict[int, bytes]:
    if not run.thumbnails.exists():
        return {}
    try:
        check(run.thumbnails)
        table = pq.read_table(run.thumbnails, partitioning=None)
    except (OSError, DamagedError, pa.ArrowException) as error:
        raise NoImage(f"{run.thumbnails.name} is damaged: {error}.") from error
    return dict(zip(table["sample_id"].to_pylist(), table["png"].to_pylist(), strict=True))


def _as_file(pixels: Pixels, side: int, tag: str) -> Picture:
    """A large picture: small ones without loss, others as JPEG."""
    from PIL import Image

    image = Image.fromarray(to_rgb(pixels))
    if max(image.size) > side:
        image.thumbnail((side, side))
    file = io.BytesIO()
    if image.width * image.height <= 512 * 512:
        image.save(file, format="PNG")
        return Picture(file.getvalue(), "image/png", f"{tag}-full")
    image.save(file, format="JPEG", quality=92)
    return Picture(file.getvalue(), "image/jpeg", f"{tag}-full")


class Thumbnails:
    """Small pictures in one file of the cache folder, shared by all runs; without it where it cannot be written.

    Args:
        folder: of the caches; None: $LITSCOPE_CACHE, else ~/.cache/litscope.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = (folder or default_folder()) / "thumbnails.sqlite"
        self._threads = threading.local()
        self._num_bytes: int | None = None
        self._lock = threading.Lock()
        self._is_usable = self._tried(self._create) is not None

    def get(self, name: str) -> bytes | None:
        """A picture that was put there."""
        if not self._is_usable:
            return None
        row = self._tried(
            lambda: self._connection().execute("SELECT png FROM small WHERE name = ?", (name,)).fetchone()
        )
        return None if row is None else bytes(row[0])

    def put(self, name: str, content: bytes) -> None:
        """Keep a picture; what cannot be kept is made again when it is asked for."""
        if self._is_usable:
            self._tried(lambda: self._put(name, content))

    def _put(self, name: str, content: bytes) -> None:
        connection = self._connection()
        with connection:
            connection.execute("INSERT OR REPLACE INTO small VALUES (?, ?)", (name, content))
            with self._lock:
                if self._num_bytes is None:
                    self._num_bytes = connection.execute("SELECT coalesce(sum(length(png)), 0) FROM small").fetchone()[
                        0
                    ]
                self._num_bytes += len(content)
                if self._num_bytes > CACHE_BYTES:
                    oldest = "SELECT rowid FROM small ORDER BY rowid LIMIT (SELECT count(*) / 4 FROM small)"
                    connection.execute(f"DELETE FROM small WHERE rowid IN ({oldest})")
                    self._num_bytes = None

    def _create(self) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=5)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS small (name TEXT UNIQUE, png BLOB)")
        return os.access(self._path, os.W_OK)

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if found is None:
            found = self._threads.connection = sqlite3.connect(self._path, timeout=5)
            found.execute("PRAGMA synchronous = OFF")
        return found

    def _tried(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except (sqlite3.Error, OSError):  # a cache that cannot be used is no cache
            return None


def has_pictures(run: RunDir, kind: object) -> bool:
    """Whether samples of a run may have pictures."""
    return run.thumbnails.exists() if is_watched(run) else kind == "image"


def as_side(size: int | None) -> int | None:
    """A side that was asked for, within limits."""
    return None if size is None else int(np.clip(size, LEAST_SIDE, MOST_FULL_SIDE))
