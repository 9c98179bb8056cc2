"""Bytes of an image file -> (H, W, K) uint8, by one stated rule for each kind of file. No torch.

K is 1 (gray) or 3 (red, green, blue), one number for a whole data set. What Pillow calls the mode
of a file is first brought to gray or colour:

    mode                 rule
    1                    0 and 255
    L, RGB, RGBX         as they are (16-bit RGB files: Pillow keeps the high byte)
    LA, La, RGBA, RGBa   put on white
    P, PA                colours of the palette; with transparency: put on white
    any + transparency   (PNG's tRNS chunk) put on white
    CMYK, YCbCr, HSV     Pillow's conversion to RGB, without colour profiles
    LAB                  converted to sRGB (profile-connection white D50)
    I;16, I;16L/B/N      value / 257, rounded: 65535 -> 255
    I (32 bit)           as I;16; a value outside 0..65535 is an error, it has no scale
    F                    value * 255, rounded; a value outside 0..1, or NaN, is an error

Then EXIF orientation is applied (JPEG, PNG, TIFF, WebP); of an animation or a file of several pages the first
picture counts; K = 1 takes the luma of a colour image, (19595 R + 38470 G + 7471 B) / 65536, and
K = 3 repeats a gray one. An image of more than `MAX_PIXELS` pixels is refused from its header, before
anything is decoded; further limits, and kinds of files, are those of `untrusted`. A file that ends too early is an
error, never a half-gray picture.

JPEG is decoded by simplejpeg (libjpeg-turbo, without holding the GIL) where it can, else by
Pillow. With Pillow's own libjpeg-turbo the two agree in every byte; with another libjpeg they may
differ by `DECODER_BOUND`, which a test checks.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from litscope.data.reading.regular import check_regular
from litscope.data.reading.untrusted import check_scans, opened, whole
from litscope.errors import DataError
from litscope.types import Interpolation

DECODE_VERSION = 2
"""Counts up when a rule above changes, so that caches of decoded images are built again."""

MAX_PIXELS = 89_478_485
"""Largest image, in pixels (a quarter of a gigabyte as RGB): where Pillow begins to warn."""

DECODER_BOUND = 2
"""Largest difference of one value between simplejpeg and Pillow that is accepted (0 was measured)."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm", ".pbm", ".pnm"}
)
"""Endings (lower case) of files that are images."""

TRAITS = {
    "animated": "animated images: the first frame is read",
    "pages": "files of several pages: the first page is read",
    "alpha": "images with an alpha channel or a transparent colour: laid on white",
    "cmyk": "CMYK images: converted to RGB without a colour profile",
    "deep": "images of more than 8 bits: brought to 8",
}
"""Traits of a file that are worth telling, and by which rule such files are read."""

_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_ORIENTATION = 0x0112
_HEAD_BYTES = 65_536
_SMALL_FILE = 8_192  # bytes

Pixels = npt.NDArray[np.uint8]

_OF_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Header:
    """What a file says about itself before it is decoded: its size (after EXIF rotation), whether it is gray, and those
    of its traits (`TRAITS`) that a rule above brings to 8 bits of gray or colour.
    """

    height: int
    width: int
    gray: bool
    traits: tuple[str, ...] = ()


def read_header(source: bytes | Path) -> Header:
    """Read size and kind, without decoding. Reads no more than the beginning of a file where it can.

    Raises:
        DataError: with the reason, if it is no image or has too many pixels.
    """
    try:
        data = source if isinstance(source, bytes) else _head(source)
        if data[:2] == b"\xff\xd8":
            found = _jpeg_header(data)
            if found is not None:
                return found
        with opened(source) as image:
            width, height = _stored_size(image)
            _check_pixels(width, height)
            if _orientation(image) >= 5:
                height, width = width, height
            return Header(height, width, _is_gray(image), _traits(image))
    except DataError:
        raise
    except Exception as error:  # Pillow raises nearly anything on a damaged file
        raise DataError(_reason(error)) from error


def brightest(path: Path) -> int | None:
    """The largest value of a gray image of 16 or 32 bits; None for other kinds, and for one that cannot be read."""
    try:
        check_regular(path)
        with opened(path) as image:
            _check_pixels(image.width, image.height)
            return int(np.asarray(image).max()) if image.mode.startswith("I") else None
    except Exception:  # noqa: BLE001 as above; what cannot be read is told elsewhere
        return None


def num_levels(brightest_value: int) -> int:
    """How many of the 256 levels of gray images of 16 bits can have, if this is their largest value."""
    return (brightest_value + 128) // 257 + 1


def decode(source: bytes | Path, channels: int, min_side: int = 0) -> Pixels:
    """Decode one image by the rules above.

    Args:
        source: the file's bytes, or its path.
        channels: 1 or 3.
        min_side: a JPEG may be decoded at half of its size or less, as long as its shorter side keeps
            at least this many pixels. (Between 1/2 and 1 decoding takes longer than in full.) 0: full size.

    Returns:
        (H, W, channels) uint8, writable.

    Raises:
        DataError: with the reason (without the path), if it cannot be decoded.
    """
    if channels not in (1, 3):
        raise DataError(f"image files are read with 1 or 3 channels, not {channels}; other bands need .npy files")
    try:
        data = source if isinstance(source, bytes) else whole(source)
        if data[:2] == b"\xff\xd8":
            pixels = _decode_jpeg(data, channels, min_side)
            if pixels is not None:
                return pixels
        return _decode_by_pillow(data, channels)
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError(_reason(error)) from error


def resize_crop(array: npt.NDArray[Any], size: int, interpolation: Interpolation = "bilinear") -> npt.NDArray[Any]:
    """Cut out the centre square, and bring it to `size`, with antialiasing.

    Args:
        array: (H, W, K) uint8 or float32, any K.
        size: side of the result, in pixels.

    Returns:
        (size, size, K) of the same dtype; the array itself where it already fits.
    """
    height, width, channels = array.shape
    if (height, width) == (size, size):
        return array
    square, how = centre_square(array), _OF_PILLOW[interpolation]
    if array.dtype == np.uint8 and channels == 3:
        image = Image.fromarray(np.ascontiguousarray(square))
        return np.array(image.resize((size, size), how))
    out = np.empty((size, size, channels), dtype=array.dtype)
    for k in range(channels):  # Pillow resizes one band at a time where they are not colours
        band = Image.fromarray(np.ascontiguousarray(square[:, :, k]))
        out[:, :, k] = np.asarray(band.resize((size, size), how))
    return out


def centre_square(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W, K) -> a view (S, S, K) of its middle, S the shorter side."""
    height, width, _ = array.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return array[top : top + side, left : left + side]


def _head(path: Path) -> bytes:
    check_regular(path)
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _jpeg_header(data: bytes) -> Header | None:
    """Header of an ordinary JPEG, or None where Pillow must look."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_pixels(width, height)
    if _jpeg_orientation(data) >= 5:
        height, width = width, height
    traits = ("cmyk",) if colorspace.upper() in ("CMYK", "YCCK") else ()
    return Header(height, width, colorspace.upper() == "GRAY", traits)


def _decode_jpeg(data: bytes, channels: int, min_side: int) -> Pixels | None:
    """Decode by simplejpeg, or None where Pillow must: CMYK, or a file that a strict decoder refuses."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(width, height)
        check_scans(data, width, height)
        if colorspace.upper() not in ("GRAY", "YCBCR", "RGB"):
            return None
        is_gray = colorspace.upper() == "GRAY"
        wanted = "GRAY" if is_gray and channels == 1 else "RGB"
        pixels: Pixels = simplejpeg.decode_jpeg(data, wanted, min_height=min_side, min_width=min_side, min_factor=2)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        return None
    if channels == 1 and not is_gray:
        pixels = np.array(Image.fromarray(pixels).convert("L"))[:, :, None]
    return _turn(pixels, _jpeg_orientation(data))


def _jpeg_orientation(data: bytes) -> int:
    """EXIF orientation of a JPEG, 1 to 8; Pillow looks only where there is EXIF or XMP."""
    if not _may_be_turned(data):
        return 1
    try:
        with opened(data) as image:
            return _orientation(image)
    except Exception:  # noqa: BLE001 a damaged EXIF block says nothing; the pixels are still good
        return 1


def _may_be_turned(data: bytes) -> bool:
    """Whether a segment before the pixels may tell an orientation (APP1, as EXIF or XMP), in whatever order they come.
    It walks over the segments, which are few; searching their bytes would take longer, but for a small file.
    """
    if len(data) <= _SMALL_FILE and b"\xff\xe1" not in data:
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xDA:  # the pixels begin
            return False
        if marker == 0xE1 and (b"Exif" in data[at:end] or b"Orientation" in data[at:end]):
            return True
        at = end
    return True


def _decode_by_pillow(data: bytes, channels: int) -> Pixels:
    with opened(data) as image:
        _check_pixels(image.width, image.height)
        if data[:2] == b"\xff\xd8":
            check_scans(data, image.width, image.height)
        image.load()
        orientation = _orientation(image)
        plain = _to_gray_or_rgb(image)
    pixels = np.array(plain.convert("L" if channels == 1 else "RGB"))
    return _turn(pixels if channels == 3 else pixels[:, :, None], orientation)


def _to_gray_or_rgb(image: Image.Image) -> Image.Image:
    """Mode L or RGB, by the table of the module."""
    mode = image.mode
    if mode.startswith("I;16"):
        return Image.fromarray(_from_16_bit(np.asarray(image).astype(np.uint32)))
    if mode == "I":
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65_535:
            raise DataError(
                f"32-bit integer image with values {low} to {high}; only 0..65535 has a stated scale. "
                "Save it as .npy to keep its numbers"
            )
        return Image.fromarray(_from_16_bit(values.astype(np.uint32)))
    if mode == "F":
        return Image.fromarray(_from_unit_floats(np.asarray(image)))
    if mode == "La":
        return _on_white(image.convert("LA"))
    if mode == "RGBa" or mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        return _on_white(image)
    return image.convert("L" if mode in ("1", "L") or _has_gray_palette(image) else "RGB")


def _from_16_bit(values: npt.NDArray[np.uint32]) -> Pixels:
    return ((values + 128) // 257).astype(np.uint8)


def _from_unit_floats(values: npt.NDArray[np.float32]) -> Pixels:
    low, high = float(values.min()), float(values.max())  # NaN where one value is NaN
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"floating-point image with values {low:g} to {high:g}; only 0..1 has a stated scale. "
            "Save it as .npy to keep its numbers"
        )
    return np.rint(values * 255).astype(np.uint8)


def _on_white(image: Image.Image) -> Image.Image:
    was_gray = _is_gray(image)
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    return white.convert("L" if was_gray else "RGB")


def _is_gray(image: Image.Image) -> bool:
    return image.mode in _GRAY_MODES or _has_gray_palette(image)


_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)
"""What Pillow raises where it looks for the next picture of a file whose bytes are no sense."""


def _traits(image: Image.Image) -> tuple[str, ...]:
    """Traits of an opened file; looks for a second picture, without decoding the first."""
    mode, traits = image.mode, []
    if mode == "CMYK":
        traits.append("cmyk")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        traits.append("alpha")
    if mode in ("I", "F") or mode.startswith("I;16"):
        traits.append("deep")
    try:
        has_more = bool(getattr(image, "is_animated", False))
    except _DAMAGE:  # of a second picture; the first, which counts, may be good
        has_more = True
    if has_more:
        traits.append("animated" if image.format in ("GIF", "PNG", "WEBP", "AVIF") else "pages")
    return tuple(traits)


def _has_gray_palette(image: Image.Image) -> bool:
    if image.mode not in ("P", "PA") or image.palette is None:
        return False
    rawmode, data = image.palette.getdata()  # Image.getpalette would decode the whole image
    values = np.frombuffer(bytes(data), np.uint8)
    if rawmode.endswith(";L"):
        colours = values.reshape(3, -1).T
    else:
        colours = values.reshape(-1, 4 if len(rawmode) == 4 else 3)[:, :3]
    return bool((colours == colours[:, :1]).all())


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) before EXIF rotation; of TIFF, new versions of Pillow tell the size after it."""
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags[256]), int(tags[257]))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8. A PNG whose EXIF comes after its pixels is not decoded to find it."""
    known = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
    if getattr(image, "png", None) is not None and not known & set(image.info):  # a PNG that is not decoded yet
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 a damaged EXIF block says nothing; the pixels are still good
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """(H, W, K) or its transpose: what EXIF's orientation 1..8 asks for."""
    if orientation == 1:
        return pixels
    turned = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }[orientation](pixels)
    return np.ascontiguousarray(turned)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are decoded. Save a smaller copy")
    if width * height == 0:
        raise DataError("the image has no pixels")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a kind that is read (JPEG, PNG, WebP, TIFF, GIF, BMP, PNM, AVIF)"
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"{error} (at most {MAX_PIXELS:,} pixels are decoded)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"{error}" or type(error).__name__
