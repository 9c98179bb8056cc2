"""`.npy` files as images of any number of bands: header, layout and scale. No torch.

shape       (H, W): one band. (H, W, K) or (K, H, W): the smaller of the first and the last axis
            holds the bands, the last one where they are equal.
dtype       uint8 stays as it is, bool becomes 0 and 255; uint16 and uint32 become float32 in 0..1
            (divided by the largest value of the type); signed integers and floats become float32
            with their own numbers. Anything else is an error, and so is NaN or infinity.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litscope.data.reading.regular import check_regular
from litscope.errors import DataError

SUFFIX = ".npy"

MAX_PIXELS = 89_478_485
"""Largest image, in pixels: as of image files."""


@dataclass(frozen=True)
class BandsHeader:
    """Height, width, number of bands, and the dtype (uint8 or float32) that `read_bands` gives."""

    height: int
    width: int
    num_bands: int
    dtype: np.dtype[Any]


def read_bands_header(path: Path) -> BandsHeader:
    """Read the header, and check that the file is as long as it says.

    Raises:
        DataError: with the reason (without the path).
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = reader(file)
            missing = file.tell() + math.prod(shape) * dtype.itemsize - os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"not a .npy file: {error}") from error
    target = _target_dtype(dtype)
    if missing > 0:
        raise DataError(f"the file ends {missing:,} bytes too early")
    height, width, num_bands = _layout(shape)
    if height * width > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read")
    return BandsHeader(height, width, num_bands, target)


def read_bands(path: Path) -> npt.NDArray[Any]:
    """Read one file by the rules above.

    Returns:
        (H, W, K) uint8 or float32, contiguous.

    Raises:
        DataError: with the reason (without the path).
    """
    read_bands_header(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise DataError(f"not a .npy file: {error}") from error
    return scale(_bands_last(array))


def scale(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values of any allowed dtype -> uint8 or float32 by the rules above, same shape, contiguous."""
    target = _target_dtype(array.dtype)
    if array.dtype.kind == "u" and target == np.float32:
        return np.ascontiguousarray(array / np.float32(np.iinfo(array.dtype).max), dtype=np.float32)
    if array.dtype.kind == "b":
        return np.ascontiguousarray(array.astype(np.uint8) * np.uint8(255))
    out = np.ascontiguousarray(array, dtype=target)
    if target == np.float32 and not np.isfinite(out).all():
        raise DataError(f"{np.count_nonzero(~np.isfinite(out)):,} values are NaN or infinite")
    return out


def _bands_last(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view of shape (H, W, K)."""
    if array.ndim == 2:
        return array[:, :, None]
    return array if _bands_are_last(array.shape) else array.transpose(1, 2, 0)


def _bands_are_last(shape: tuple[int, ...]) -> bool:
    return shape[2] <= shape[0]


def _layout(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise DataError(f"shape {shape}; an image is (H, W), (H, W, K) or (K, H, W)")
    if len(shape) == 2:
        return shape[0], shape[1], 1
    height, width, num_bands = shape if _bands_are_last(shape) else (shape[1], shape[2], shape[0])
    return height, width, num_bands


def _target_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b" or dtype == np.uint8:
        return np.dtype(np.uint8)
    if dtype.kind in "iuf" and not (dtype.kind == "u" and dtype.itemsize == 8):
        return np.dtype(np.float32)
    raise DataError(f"values of type {dtype}; images hold integers up to 32 bits, floats or booleans")
