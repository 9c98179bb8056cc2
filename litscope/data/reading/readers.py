"""Readers: sample_id -> pixels or a feature row. No torch.

    FileReader    images, .npy and FITS files on the disk
    ArrayReader   everything is in memory already: idx files, digits, .npz, tables

Both can be pickled (for worker processes), read from many threads at once, and identify the content
that they would give (`fingerprint`), so that a cache of it can be trusted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.data.manifest import key_array
from litscope.data.reading import bands, fits, images
from litscope.errors import DataError


class Reader(Protocol):
    """What a source reads its samples with."""

    @property
    def kind(self) -> Literal["image", "table"]:
        """Images (H, W, K), or feature rows (F,)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 for images, float32 for tables and for `.npy` bands that are not uint8."""

    @property
    def channels(self) -> int:
        """K of images, F of tables."""

    @property
    def array(self) -> npt.NDArray[Any] | None:
        """(N, H, W, K) or (N, F), row i of sample_id i, when everything is in memory; else None."""

    def size(self, sample_id: int) -> tuple[int, int]:
        """(height, width) of an image, from its header. Raises DataError."""

    def read(self, sample_id: int, min_side: int = 0) -> npt.NDArray[Any]:
        """(H, W, K) or (F,). A large JPEG may come smaller, with its shorter side at least `min_side` if that is
        not 0. Raises DataError with path and reason.
        """

    def foreseeing(self, ids: npt.NDArray[np.int64]) -> AbstractContextManager[Reader]:
        """A reader for as long as these samples are read, about in this order: what is far away is read ahead."""

    def take(self, order: npt.NDArray[np.int64]) -> Reader:
        """The same samples in another order: sample i of it is `order[i]` here."""

    def fingerprint(self) -> str:
        """A hash that changes with what `read` gives: of bytes in memory, or of files' names, sizes and times."""


class ArrayReader:
    """Reads samples that are in memory.

    Args:
        array: (N, H, W, K) uint8 or float32 images, or (N, F) float32 rows.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        if array.ndim not in (2, 4) or array.dtype not in (np.uint8, np.float32):
            raise TypeError(f"(N, H, W, K) or (N, F) of uint8 or float32 is needed, got {array.shape} {array.dtype}")
        self._array = np.ascontiguousarray(array)

    @property
    def kind(self) -> Literal["image", "table"]:
        """`image` or `table`, by the number of axes."""
        return "image" if self._array.ndim == 4 else "table"

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or float32."""
        return self._array.dtype

    @property
    def channels(self) -> int:
        """K of images, F of a table."""
        return int(self._array.shape[-1])

    @property
    def array(self) -> npt.NDArray[Any]:
        """All samples, (N, H, W, K) or (N, F), as they lie in memory."""
        return self._array

    def size(self, sample_id: int) -> tuple[int, int]:
        """(height, width), the same for all images."""
        if self._array.ndim != 4 or not 0 <= sample_id < len(self._array):
            raise DataError(f"no image {sample_id} among {len(self._array):,} {self.kind} samples")
        return int(self._array.shape[1]), int(self._array.shape[2])

    def read(self, sample_id: int, min_side: int = 0) -> npt.NDArray[Any]:  # noqa: ARG002 in memory at one size
        """A view of one row."""
        if not 0 <= sample_id < len(self._array):
            raise DataError(f"no sample {sample_id} among {len(self._array):,}")
        row: npt.NDArray[Any] = self._array[sample_id]
        return row

    def foreseeing(self, ids: npt.NDArray[np.int64]) -> AbstractContextManager[ArrayReader]:  # noqa: ARG002 all is near
        """The reader itself."""
        return nullcontext(self)

    def take(self, order: npt.NDArray[np.int64]) -> ArrayReader:
        """A copy in another order."""
        return ArrayReader(self._array[order])

    def fingerprint(self) -> str:
        """A hash of all bytes, at about a gigabyte per second."""
        digest = hashlib.blake2b(f"{self._array.shape} {self._array.dtype}".encode(), digest_size=16)
        digest.update(self._array.data)
        return digest.hexdigest()


class FileReader:
    """Reads image or `.npy` files.

    Args:
        root: folder that relative paths start from.
        paths: (N,) path of each sample, relative to `root` or absolute; with "/" as separator.
        channels: 1 or 3 for image files, the number of bands for .npy files.
        dtype: uint8, or float32 for .npy files of other types.
        axis: of .npy files, that holds the bands; None: the smaller one of each.
        rule: how FITS images are stretched; None: there are none.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str] | pa.Array,
        channels: int,
        dtype: npt.DTypeLike = np.uint8,
        axis: bands.Axis | None = None,
        rule: fits.Rule | None = None,
    ) -> None:
        self.root = Path(root)
        self._paths = key_array(paths)  # one block of memory: cheap to fork, pickle and keep
        self._channels = channels
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._axis = axis
        self._rule = rule

    kind: Literal["image", "table"] = "image"
    array = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or float32."""
        return self._dtype

    @property
    def channels(self) -> int:
        """K, the same for all files."""
        return self._channels

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, sample_id: int) -> Path:
        """The path of a sample's file."""
        return self.root / str(self._paths[sample_id])

    def size(self, sample_id: int) -> tuple[int, int]:
        """(height, width) after EXIF rotation, from the header."""
        path = self.path(sample_id)
        try:
            header: bands.BandsHeader | images.Header
            if fits.is_fits(path.name):
                header = fits.read_fits_header(path)
            elif path.suffix.lower() == bands.SUFFIX:
                header = bands.read_bands_header(path, self._axis)
            else:
                header = images.read_header(path)
        except DataError as error:
            raise DataError(f"{path}: {error}.") from error
        return header.height, header.width

    def read(self, sample_id: int, min_side: int = 0) -> npt.NDArray[Any]:
        """Decode one image, (H, W, K); a large JPEG may come smaller, as `Reader.read` says."""
        path = self.path(sample_id)
        try:
            return self._read(path, min_side)
        except DataError as error:
            raise DataError(f"{path}: {error}.") from error

    def _read(self, path: Path, min_side: int) -> npt.NDArray[Any]:
        array: npt.NDArray[Any]
        if fits.is_fits(path.name):
            if self._rule is None:
                raise DataError("a FITS image, and the data set has none, which would say how it is stretched")
            array = fits.read_fits(path, self._rule)
        elif path.suffix.lower() == bands.SUFFIX:
            array = bands.read_bands(path, self._axis)
        elif self._dtype != np.uint8:
            others = "FITS images" if self._rule is not None else ".npy files"
            raise DataError(f"an image file among {others} of {self._channels} bands of {self._dtype}")
        else:
            return images.decode(path, self._channels, min_side)
        if array.shape[2] != self._channels or array.dtype != self._dtype:
            raise DataError(
                f"{array.shape[2]} bands of {array.dtype}; the data set has {self._channels} of {self._dtype}"
            )
        return array

    def foreseeing(self, ids: npt.NDArray[np.int64]) -> AbstractContextManager[FileReader]:  # noqa: ARG002 all is near
        """The reader itself."""
        return nullcontext(self)

    def take(self, order: npt.NDArray[np.int64]) -> FileReader:
        """The same files in another order."""
        return FileReader(
            self.root, self._paths.take(pa.array(order)), self._channels, self._dtype, self._axis, self._rule
        )

    def fingerprint(self) -> str:
        """A hash of each file's path, size and modification time, at about five microseconds per file."""
        digest = hashlib.blake2b(f"{self._channels} {self._dtype}".encode(), digest_size=16)
        digest.update((self._axis or "").encode())
        if self._rule is not None:
            digest.update(repr(self._rule).encode())
        stats = self.stats()
        for path in self._paths.to_pylist():
            digest.update(path.encode() + b"\0")
        digest.update(stats.data)
        return digest.hexdigest()

    def stats(self) -> npt.NDArray[np.int64]:
        """(N, 2) size in bytes and modification time in nanoseconds of each file; -1 where there is none."""
        stats = np.zeros((len(self._paths), 2), dtype=np.int64)
        root = os.fspath(self.root)
        for row, path in enumerate(self._paths.to_pylist()):
            try:
                found = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118 three times as fast as Path
            except OSError:
                stats[row] = -1
                continue
            stats[row] = found.st_size, found.st_mtime_ns
        return stats
