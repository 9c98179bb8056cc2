"""`.npy` files as images of any number of bands: header, layout and scale. No torch.

shape       (H, W): one band. (H, W, K) or (K, H, W): which axis holds the bands is told by the shapes of a data set
            (`channel_axis`), or asked for. Who says nothing gets the smaller of the first and the last axis, the last
            one where they are equal.
dtype       uint8 stays as it is, bool becomes 0 and 255; uint16 and uint32 become float32 in 0..1
            (divided by the largest value of the type); signed integers and floats become float32
            with their own numbers. Anything else is an error, and so is NaN or infinity.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from litscope.data.reading.regular import check_regular
from litscope.errors import DataError

SUFFIX = ".npy"

MAX_PIXELS = 89_478_485
"""Largest image, in pixels: as of image files."""


Axis = Literal["first", "last"]
"""Which axis of an image's three holds its bands."""

_USUAL = (1, 3, 4)  # bands: gray, red green blue, and alpha


@dataclass(frozen=True)
class BandsHeader:
    """Height, width, number of bands, and the dtype (uint8 or float32) that `read_bands` gives; the file's shape."""

    height: int
    width: int
    num_bands: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def channel_axis(shape: tuple[int, ...]) -> Axis | None:
    """Which axis of an image of three holds the channels; None where it may be both.

    It is the one of 1, 3 or 4 values, or the one beside two that are equal; if neither tells, one that is far smaller.

    >>> channel_axis((9, 9, 100)), channel_axis((3, 30, 40)), channel_axis((480, 640, 8)), channel_axis((5, 5, 5))
    ('last', 'first', 'last', None)
    """
    first, middle, last = shape
    for_first = (first in _USUAL) + (middle == last != first)
    for_last = (last in _USUAL) + (first == middle != last)
    if for_first == for_last == 0:  # 8 bands of 480 x 640 pixels are no 480 bands
        for_first, for_last = int(4 * first <= last), int(4 * last <= first)
    if for_first == for_last:
        return None
    return "first" if for_first > for_last else "last"


def smaller_axis(shape: tuple[int, ...]) -> Axis:
    """The smaller of the first and the last axis of three; the last one where they are equal."""
    return "last" if shape[2] <= shape[0] else "first"


def read_bands_header(path: Path, axis: Axis | None = None) -> BandsHeader:
    """Read the header, and check that the file is as long as it says.

    Args:
        axis: that holds the bands of three; None: the smaller one.

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
    height, width, num_bands = _layout(shape, axis)
    if height * width > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read")
    return BandsHeader(height, width, num_bands, target, shape)


def read_bands(path: Path, axis: Axis | None = None) -> npt.NDArray[Any]:
    """Read one file by the rules above.

    Args:
        axis: as in `read_bands_header`.

    Returns:
        (H, W, K) uint8 or float32, contiguous.

    Raises:
        DataError: with the reason (without the path).
    """
    read_bands_header(path, axis)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise DataError(f"not a .npy file: {error}") from error
    return scale(_bands_last(array, axis))


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


def _bands_last(array: npt.NDArray[Any], axis: Axis | None) -> npt.NDArray[Any]:
    """A view of shape (H, W, K)."""
    if array.ndim == 2:
        return array[:, :, None]
    return array if (axis or smaller_axis(array.shape)) == "last" else array.transpose(1, 2, 0)


def _layout(shape: tuple[int, ...], axis: Axis | None) -> tuple[int, int, int]:
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise DataError(f"shape {shape}; an image is (H, W), (H, W, K) or (K, H, W)")
    if len(shape) == 2:
        return shape[0], shape[1], 1
    is_last = (axis or smaller_axis(shape)) == "last"
    height, width, num_bands = shape if is_last else (shape[1], shape[2], shape[0])
    return height, width, num_bands


def _target_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b" or dtype == np.uint8:
        return np.dtype(np.uint8)
    if dtype.kind in "iuf" and not (dtype.kind == "u" and dtype.itemsize == 8):
        return np.dtype(np.float32)
    raise DataError(f"values of type {dtype}; images hold integers up to 32 bits, floats or booleans")
