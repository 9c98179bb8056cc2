"""ShardReader: sample_id -> pixels, by the place of its bytes in a tar file. No torch."""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.addresses import is_url
from litscope.data.manifest import in_one_piece
from litscope.data.reading import bands, images
from litscope.data.reading.digests import DIGEST_BYTES, bytes_digest
from litscope.data.shards.ahead import Ahead
from litscope.data.shards.fetch import Fetch
from litscope.data.shards.index import Index
from litscope.data.shards.local_files import LocalFiles
from litscope.data.storage.retries import Retries
from litscope.data.storage.urls import place_of
from litscope.errors import DataError
from litscope.seals import DIFFERENT

_HEAD_BYTES = 65_536
_READS = 3  # of a sample elsewhere whose bytes are not those that were written: a network may turn a bit


class ShardReader:
    """Reads samples of shards.

    Args:
        folder: that the names of the shards start from, a path or an address.
        index: of them; row i is sample_id i.
        channels: 1 or 3 of images, the number of bands of arrays; None: as the index says.
        dtype: uint8, or float32 of arrays of other types; None: as the index says.

    Attributes:
        fetch: how shards that lie elsewhere are read.
        keys: (N,) what the samples are called, for messages.
    """

    kind: Literal["image", "table"] = "image"
    array = None

    def __init__(
        self, folder: str | Path, index: Index, channels: int | None = None, dtype: npt.DTypeLike | None = None
    ) -> None:
        self._channels = int(index.encoding["channels"]) if channels is None else channels
        self._dtype: np.dtype[Any] = np.dtype(index.encoding["dtype"] if dtype is None else dtype)
        self._files = [place_of(folder, shard.name) for shard in index.shards]
        self._is_elsewhere = list(map(is_url, self._files))
        self._local_files = LocalFiles()
        self._shards = index.shards
        self.keys = index.table["key"]
        self.fetch = Fetch(retries=Retries(then="give the command again"))  # a training has its own
        self._ahead: Ahead | None = None
        self.places = index.places
        suffixes = in_one_piece(index.table["suffix"]).dictionary_encode()
        self._suffixes: list[str] = suffixes.dictionary.to_pylist()
        self._suffix_of = suffixes.indices.to_numpy().astype(np.int16)
        self._digest: pa.Array = in_one_piece(index.table["digest"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or float32."""
        return self._dtype

    @property
    def channels(self) -> int:
        """K, the same for all samples."""
        return self._channels

    def __len__(self) -> int:
        return len(self.places.shard)

    def place(self, sample_id: int) -> str:
        """Where a sample lies, for people."""
        shard, offset, _ = self.places.of(sample_id)
        return f"{self._files[shard]} at byte {offset:,} ({self.keys[sample_id]})"

    @property
    def is_elsewhere(self) -> bool:
        """Whether shards are read from a server."""
        return any(self._is_elsewhere)

    @contextmanager
    def foreseeing(self, ids: npt.NDArray[np.int64]) -> Iterator[ShardReader]:
        """The same reader for as long as these samples are read, about in this order: it reads ahead from a server."""
        if not self.is_elsewhere:
            yield self
            return
        reader = copy.copy(self)
        reader._ahead = ahead = Ahead(
            lambda *place: self._read(*place, is_cancelled=lambda: ahead.is_closed), self.places, ids
        )
        try:
            yield reader
        finally:
            ahead.close()

    def size(self, sample_id: int) -> tuple[int, int]:
        """(height, width) after EXIF rotation, from the beginning of the image's bytes."""
        try:
            if self.suffix(sample_id) == bands.SUFFIX:
                height, width = self._array(self.content(sample_id)).shape[:2]
                return height, width
            shard, offset, size = self.places.of(sample_id)
            head = self._read(shard, offset, min(size, _HEAD_BYTES))
            try:
                header = images.read_header(head)
            except DataError:  # of some formats the size stands at the end
                header = images.read_header(self.content(sample_id))
        except DataError as error:
            raise DataError(f"{self.place(sample_id)}: {str(error).rstrip('.')}.") from error
        return header.height, header.width

    def read(self, sample_id: int, min_side: int = 0) -> npt.NDArray[Any]:
        """Decode one image, (H, W, K); a large JPEG may come smaller, as `Reader.read` says."""
        try:
            content = self.content(sample_id)
            if self.suffix(sample_id) == bands.SUFFIX:
                return self._array(content)
            if self._dtype != np.uint8:
                raise DataError(f"an image file among arrays of {self._channels} bands of {self._dtype}")
            return images.decode(content, self._channels, min_side)
        except DataError as error:
            raise DataError(f"{self.place(sample_id)}: {str(error).rstrip('.')}.") from error

    def content(self, sample_id: int) -> bytes:
        """The bytes that are stored of a sample.

        Raises:
            DataError: without the place, if they cannot be read, or are not those that were written.
        """
        shard, offset, size = self.places.of(sample_id)
        expected, problem = self._digest[sample_id].as_py(), ""
        content = None if self._ahead is None else self._ahead.content(sample_id)
        for number in range(_READS if self._is_elsewhere[shard] else 1):
            if content is None:
                content = self._read(shard, offset, size, anew=number > 0)
            if len(content) < size:
                problem = f"the shard ends {size - len(content):,} bytes too early"
            elif expected is not None and bytes_digest(content) != expected:
                problem = DIFFERENT
            else:
                return content
            content = None
        raise DataError(problem)

    def suffix(self, sample_id: int) -> str:
        """Of the sample's member, such as .jpg."""
        return self._suffixes[int(self._suffix_of[sample_id])]

    def take(self, order: npt.NDArray[np.int64]) -> ShardReader:
        """The same samples in another order."""
        taken = object.__new__(ShardReader)
        taken.__dict__.update(self.__dict__)
        taken.places, taken.keys = self.places.take(order), self.keys.take(pa.array(order))
        taken._suffix_of, taken._digest = self._suffix_of[order], self._digest.take(pa.array(order))
        return taken

    def fingerprint(self) -> str:
        """A hash of the samples' digests, and of how they are read."""
        digest = hashlib.blake2b(f"{self._channels} {self._dtype}".encode(), digest_size=16)
        if not self._digest.null_count:
            _, contents = self._digest.buffers()
            start = self._digest.offset * DIGEST_BYTES
            digest.update(memoryview(contents)[start : start + len(self._digest) * DIGEST_BYTES])
            return digest.hexdigest()
        for content in self._digest.drop_null().to_pylist():
            digest.update(content)
        digest.update(
            "\n".join(self._files).encode()
        )  # nobody has read their bytes: where they lie, and how long they are
        for column in self.places:
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def _read(
        self,
        shard: int,
        offset: int,
        size: int,
        *,
        anew: bool = False,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> bytes:
        file = self._files[shard]
        if not self._is_elsewhere[shard]:
            return self._local_files.read(file, offset, size)
        return self.fetch.read(file, self._shards[shard], offset, size, anew=anew, is_cancelled=is_cancelled)

    def _array(self, content: bytes) -> npt.NDArray[Any]:
        try:
            array = np.load(io.BytesIO(content), allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise DataError(f"not a .npy file: {error}") from error
        if array.ndim != 3 or array.shape[2] != self._channels or array.dtype != self._dtype:
            raise DataError(
                f"an array {array.shape} of {array.dtype}; the data set has {self._channels} bands of {self._dtype}"
            )
        return np.asarray(array)
