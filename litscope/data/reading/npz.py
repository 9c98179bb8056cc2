"""`.npz` files -> arrays, after a look at what they would take in memory. No torch.

A few megabytes of zeros inflate to gigabytes: the zip's table and each array's header say so before anything is read.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from litscope.data.reading.regular import check_regular
from litscope.errors import DataError
from litscope.limits import memory_available_bytes

_DAMAGED = (OSError, EOFError, ValueError, RuntimeError, LookupError, MemoryError, OverflowError, SyntaxError)
_ERRORS = (*_DAMAGED, zipfile.BadZipFile, zlib.error, struct.error)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file, by their lower-case names. Pickled objects are refused.

    Raises:
        DataError: if it is no such file, is damaged, or takes more memory than is free.
    """
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            _check_size(archive)
        with np.load(path, allow_pickle=False) as file:
            return {name.lower(): _native(file[name]) for name in file.files}
    except _ERRORS as error:
        reason = f"{error}" or type(error).__name__
        raise DataError(f"{path} cannot be read as .npz: {reason.rstrip('.')}.") from error


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values in this machine's byte order: arrays from FITS files are big-endian, which Arrow refuses."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_size(archive: zipfile.ZipFile) -> None:
    """Raises DataError if the arrays do not fit into memory, or a header promises what is not there."""
    needed = sum(member.file_size for member in archive.infolist())
    free = memory_available_bytes()
    if needed > free:
        raise DataError(
            f"inflated it takes {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free; "
            "give fewer rows, or images as files"
        )
    for member in archive.infolist():
        if member.filename.endswith(".npy"):
            with archive.open(member) as file:
                promised, held = _promised_bytes(file), member.file_size - file.tell()
            if promised > held:
                name = member.filename.removesuffix(".npy")
                raise DataError(f"the array {name} promises {promised:,} bytes and holds {held:,}")


def _promised_bytes(file: IO[bytes]) -> int:
    """Bytes of an array, as its header says."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return 0 if dtype.hasobject else math.prod(shape) * dtype.itemsize
