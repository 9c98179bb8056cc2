"""FITS images -> (H, W, K) float32 in [0, 1], by one stated stretch. Any number of bands. No torch.

Which pictures of a file are read: if an extension is called SCI, those of that name; else all pictures but extensions
whose names say that they are none (ERR, DQ, WHT, VAR, MASK, ...). They are bands in the order of the file: a picture
(H, W) is one, a cube (K, H, W) is K. Axes of length 1 before these are dropped. All must have one height and width.
Numbers are what BZERO, BSCALE and BLANK make of what is stored: 16-bit counts and floats stay exact until they are
stretched.

The stretch of each band, with x = (value - low) / (high - low), kept within 0 and 1:

    linear   x
    asinh    asinh(x / 0.1) / asinh(10)                 (Lupton et al. 1999, arXiv:astro-ph/9903081; a = 0.1)
    log      log(1 + 1000 x) / log(1001)
    zscale   x, with IRAF's limits (astropy.visualization.ZScaleInterval)

Low and high are the 0.5 and the 99.5 percentile of the band's finite values, each image by itself, or the two numbers
that are given for all of them. What is not finite becomes 0. A band of one value is 0 throughout.

A file is a stranger's: its size is checked against its header before anything large is made, and of a `.gz` no more
than `MOST_BYTES` is unpacked.
"""

from __future__ import annotations

import gzip
import io
import math
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from litscope.data.reading.bands import MAX_PIXELS, BandsHeader
from litscope.data.reading.regular import check_regular
from litscope.errors import DataError, MissingExtra

Stretch = Literal["asinh", "zscale", "linear", "log"]

SUFFIXES = frozenset({".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz"})
"""Endings (lower case) of files that are read here."""

MOST_BYTES = 2**30
"""Largest file, unpacked."""

MOST_VALUES = 2**28
"""Most values of an image, over all bands."""

PERCENTILES = (0.5, 99.5)

SOFTENING, LOG_SCALE = 0.1, 1000.0

_NO_PICTURES = frozenset(
    {"ERR", "ERROR", "DQ", "WHT", "WEIGHT", "VAR", "VARIANCE", "IVAR", "MASK", "CON", "CTX", "EXP"}
)
"""Names of extensions that are about a picture, and none."""

_DAMAGED = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, OverflowError)

_quiet = threading.Lock()  # filters of warnings belong to the whole process


@dataclass(frozen=True)
class Rule:
    """How FITS images are stretched.

    Attributes:
        stretch: see above.
        limits: low and high of all images; None: of each band of each image its own.
    """

    stretch: Stretch = "asinh"
    limits: tuple[float, float] | None = None

    def plain(self) -> dict[str, Any]:
        """Plain values, for a manifest and a checkpoint."""
        return {"stretch": self.stretch, "limits": None if self.limits is None else list(self.limits)}

    @classmethod
    def of_plain(cls, found: Any) -> Rule:
        """What `plain` gave. Raises ValueError, with the end of a sentence, for something else."""
        if not isinstance(found, Mapping) or found.get("stretch") not in get_args(Stretch):
            raise ValueError(f"its FITS images are stretched by {found!r}, which is not known")
        limits = found.get("limits")
        if limits is None:
            return cls(found["stretch"])
        is_pair = isinstance(limits, list) and len(limits) == 2 and all(isinstance(one, int | float) for one in limits)
        if not is_pair or not (math.isfinite(limits[0]) and math.isfinite(limits[1]) and limits[0] < limits[1]):
            raise ValueError(f"the limits of its FITS images are {limits!r}, which are no two numbers in order")
        return cls(found["stretch"], (float(limits[0]), float(limits[1])))

    @property
    def words(self) -> str:
        """The rule for a person."""
        of = "each band's own 0.5 and 99.5 percentile" if self.stretch != "zscale" else "each band's zscale"
        between = of if self.limits is None else f"{self.limits[0]:g} and {self.limits[1]:g}"
        return f"FITS images: {self.stretch} stretch between {between}"


def suffix_of(name: str) -> str:
    """The ending of a file's name in lower case, `.fits.gz` as one.

    >>> suffix_of("a.FITS.gz"), suffix_of("b.jpg"), suffix_of("c.tar.gz")
    ('.fits.gz', '.jpg', '.gz')
    """
    lower = name.lower()
    dot = lower.rfind(".", lower.rfind("/") + 1)
    if dot < 0:
        return ""
    before = lower.rfind(".", lower.rfind("/") + 1, dot)
    whole = lower[before:] if before >= 0 else ""
    return whole if whole in SUFFIXES else lower[dot:]


def is_fits(name: str) -> bool:
    """Whether a file's name ends as one of FITS."""
    return suffix_of(name) in SUFFIXES


def require_astropy() -> None:
    """Raises MissingExtra, with the command, where astropy is not installed."""
    try:
        import astropy.io.fits  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("astropy", "fits", "reading FITS images") from None


def read_fits_header(path: Path) -> BandsHeader:
    """Size and number of bands, and whether the file is as long as it says.

    Raises:
        DataError: with the reason (without the path).
        MissingExtra: without astropy.
    """
    with _opened(path) as pictures:
        (height, width), shapes = _size(pictures)
        count = sum(math.prod(shape[:-2]) for shape in shapes)
        return BandsHeader(height, width, count, np.dtype(np.float32), (count, height, width))


def read_fits(path: Path, rule: Rule) -> npt.NDArray[np.float32]:
    """(H, W, K) float32 in [0, 1], contiguous. Errors as `read_fits_header`."""
    with _opened(path) as pictures:
        (height, width), _ = _size(pictures)
        bands = [np.asarray(picture.data).reshape(-1, height, width) for picture in pictures]
    values = np.concatenate([part.astype(np.float64, copy=False) for part in bands])
    if not np.isfinite(values).any():
        raise DataError("not one of its values is finite")
    return np.ascontiguousarray(np.stack([stretched(band, rule) for band in values], axis=2))


def stretched(band: npt.NDArray[np.float64], rule: Rule) -> npt.NDArray[np.float32]:
    """One band (H, W) of any numbers -> float32 in [0, 1]."""
    is_finite = np.isfinite(band)
    if not is_finite.any():
        return np.zeros(band.shape, np.float32)
    low, high = _limits(band[is_finite], rule)
    if not high > low:
        return np.zeros(band.shape, np.float32)
    x = np.where(is_finite, (np.where(is_finite, band, low) - low) / (high - low), 0.0).clip(0.0, 1.0)
    if rule.stretch == "asinh":
        x = np.arcsinh(x / SOFTENING) / np.arcsinh(1 / SOFTENING)
    elif rule.stretch == "log":
        x = np.log1p(LOG_SCALE * x) / np.log1p(LOG_SCALE)
    found: npt.NDArray[np.float32] = x.astype(np.float32)
    return found


def _limits(finite: npt.NDArray[np.float64], rule: Rule) -> tuple[float, float]:
    if rule.limits is not None:
        return rule.limits
    if rule.stretch == "zscale":
        from astropy.visualization import ZScaleInterval

        low, high = ZScaleInterval().get_limits(finite)
    else:
        low, high = np.percentile(finite, PERCENTILES)
    return float(low), float(high)


@contextmanager
def _opened(path: Path) -> Iterator[list[Any]]:
    """The pictures of a file that count, as astropy's HDUs; closed afterwards."""
    require_astropy()
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyError

    try:
        content = _content(path)
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is amiss with a header and does no harm
            with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=False) as file:
                yield _pictures(file, len(content))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except (*_DAMAGED, VerifyError, zlib.error) as error:
        said = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
        raise DataError(f"not a FITS image: {said or type(error).__name__}".rstrip(".")) from error


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked."""
    check_regular(path)
    if path.name.lower().endswith(".gz"):
        with gzip.open(path) as packed:
            content = packed.read(MOST_BYTES + 1)
    else:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DataError(f"more than {MOST_BYTES / 2**30:g} GiB{' unpacked' if path.suffix.lower() == '.gz' else ''}")
    if content[:6] != b"SIMPLE":
        raise DataError("not a FITS file: it does not begin with SIMPLE")
    return content


def _pictures(file: Any, num_bytes: int) -> list[Any]:
    found = [hdu for hdu in file if hdu.is_image and len(_shape(hdu)) >= 2]
    named = [hdu for hdu in found if hdu.name.upper() == "SCI"]
    pictures = named or [hdu for hdu in found if hdu.name.upper() not in _NO_PICTURES]
    if not pictures:
        raise DataError("it holds no picture")
    for hdu in file:
        info = hdu.fileinfo()
        if info is not None and info["datLoc"] + hdu.size > num_bytes:
            missing = info["datLoc"] + hdu.size - num_bytes
            raise DataError(f"the file ends {missing:,} bytes too early")
    return pictures


def _shape(hdu: Any) -> tuple[int, ...]:
    """Of a picture, without the axes of length 1 before its own three."""
    shape = tuple(hdu.shape)
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _size(pictures: list[Any]) -> tuple[tuple[int, int], list[tuple[int, ...]]]:
    shapes = [_shape(hdu) for hdu in pictures]
    odd = next((shape for shape in shapes if len(shape) > 3 or min(shape) < 1), None)
    if odd is not None:
        raise DataError(f"shape {odd}; a picture is (H, W) or (K, H, W)")
    sizes = {shape[-2:] for shape in shapes}
    if len(sizes) > 1:
        shown = " and ".join(f"{width} x {height}" for height, width in sorted(sizes)[:2])
        raise DataError(f"its pictures are of {shown} pixels; bands of one image have one size")
    (height, width) = next(iter(sizes))
    if height * width > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read")
    num_values = sum(math.prod(shape) for shape in shapes)
    if num_values > MOST_VALUES:
        raise DataError(f"{num_values:,} values; at most {MOST_VALUES:,} are read")
    return (height, width), shapes
