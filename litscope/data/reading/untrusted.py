"""What is done with an image file before it is decoded: anybody may have made it. No torch.

The number of pixels says what memory an image takes (`images.MAX_PIXELS`), but not what time: a progressive JPEG goes
over all of them with each scan, and a scan of nothing takes a hundred bytes. And Pillow would hand some kinds of files
to other programs (PostScript to Ghostscript), whatever their names are.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from litscope.data.reading.regular import check_regular
from litscope.errors import DataError

MAX_FILE_BYTES = 2**30
"""Largest file that is read as a whole; the most pixels, 16 bits of each of four channels, not compressed, are less."""

MAX_SCANNED = 9_000_000_000
"""Most pixels times scans of a JPEG: 100 scans of the largest image (some ten seconds), many more of a small one.

Encoders write 10 scans or so."""

_KINDS = (
    "JPEG",
    "PNG",
    "WEBP",
    "TIFF",
    "GIF",
    "BMP",
    "DIB",
    "PPM",
    *(["AVIF"] if find_spec("PIL.AvifImagePlugin") else []),
)
_START_OF_SCAN = b"\xff\xda"
_LEAST_SCAN_BYTES = 10


def opened(source: bytes | Path) -> Image.Image:
    """An image by its content, not decoded; only of kinds that Pillow decodes by itself. The caller closes it.

    Raises:
        PIL.UnidentifiedImageError: if it is of no such kind.
    """
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_KINDS)


def whole(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: if it is no regular file, or has more than `MAX_FILE_BYTES`.
        OSError: if it cannot be read.
    """
    size = check_regular(path).st_size
    if size > MAX_FILE_BYTES:
        raise DataError(f"a file of {size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Save a smaller copy")
    return path.read_bytes()


def check_scans(jpeg: bytes, width: int, height: int) -> None:
    """Refuse a JPEG that would take minutes. Its bytes are looked at only where there is room for so many scans.

    Raises:
        DataError: saying how many scans there are.
    """
    most = MAX_SCANNED // max(1, width * height)
    if len(jpeg) // _LEAST_SCAN_BYTES <= most:
        return
    num_scans = jpeg.count(_START_OF_SCAN)
    if num_scans > most:
        raise DataError(f"a JPEG of {num_scans:,} scans; at most {most:,} are decoded at its size. Save it anew")
