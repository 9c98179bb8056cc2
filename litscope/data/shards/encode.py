"""An image -> the bytes that a shard stores of it.

as it is            an image file: its bytes; pixels in memory: PNG; bands that are no colours, and FITS: .npy, as read
at another size     JPEG, its shorter side as asked, never enlarged; bands that are no colours: .npy
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from litscope.data.reading import bands
from litscope.data.reading.fits import is_fits
from litscope.data.reading.readers import FileReader, Reader
from litscope.data.reading.regular import check_regular
from litscope.errors import DataError

_JPEG = frozenset({".jpeg", ".jpe", ".jfif"})
_COLOURS = {1: "GRAY", 3: "RGB"}


@dataclass(frozen=True)
class Form:
    """How images are stored.

    Attributes:
        side: the shorter side, in pixels, of what is larger; None: images are stored as they are.
        quality: of JPEG, 1 to 100.
    """

    side: int | None = None
    quality: int = 95


def encode(reader: Reader, sample_id: int, form: Form) -> tuple[str, bytes]:
    """The suffix and the bytes of a sample.

    Raises:
        DataError: if it cannot be read.
    """
    if form.side is None and isinstance(reader, FileReader):
        path = reader.path(sample_id)
        suffix = path.suffix.lower()
        if suffix != bands.SUFFIX and not is_fits(path.name):
            return (".jpg" if suffix in _JPEG else suffix), _bytes(reader, sample_id)
    pixels = reader.read(sample_id, min_side=form.side or 0)
    if form.side is not None:
        pixels = to_shorter_side(pixels, form.side)
    channels = pixels.shape[2]
    if pixels.dtype != np.uint8 or channels not in _COLOURS:
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(pixels))
        return bands.SUFFIX, file.getvalue()
    if form.side is None:
        file = io.BytesIO()
        Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(file, "PNG")
        return ".png", file.getvalue()
    space = _COLOURS[channels]
    sampling = "Gray" if channels == 1 else "444"
    return ".jpg", simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), form.quality, space, sampling)


def to_shorter_side(pixels: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """(H, W, K) -> the same image with its shorter side at `side`, antialiased; the array itself if it is no larger."""
    height, width, channels = pixels.shape
    shorter = min(height, width)
    if shorter <= side:
        return pixels
    size = round(width * side / shorter), round(height * side / shorter)
    if pixels.dtype == np.uint8 and channels == 3:
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    parts = (Image.fromarray(np.ascontiguousarray(pixels[:, :, k])) for k in range(channels))
    return np.stack([np.asarray(part.resize(size, Image.Resampling.BILINEAR)) for part in parts], axis=2)


def _bytes(reader: FileReader, sample_id: int) -> bytes:
    path = reader.path(sample_id)
    try:
        check_regular(path)
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error
