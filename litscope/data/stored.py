"""Where the samples of a run come from: memory, the pixel cache, or files in every epoch. No torch.

Images are stored as squares of one side, by rules that the data decide:

    seen     None: the larger median side where that is at most 64 pixels, else the multiple of 32
             next to the median shorter side, at most 224
    stored   below 128 as seen; from 128 on larger by 256/224, so that random crops have room; with a share that is
             cropped (`crop_pct`) as much larger than seen as that says;
             never larger than the images are (a smaller store is enlarged on the device)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from litscope.console import say
from litscope.data.looks import spread
from litscope.data.reading.cache import PixelCache, is_built, open_cache, pays
from litscope.data.reading.images import resize_crop
from litscope.data.reading.readers import Reader
from litscope.data.shards.reader import ShardReader
from litscope.data.sources.source import Source
from litscope.errors import DataError
from litscope.types import Interpolation

HEADERS = 256  # headers read to learn the usual size
_READS = 16  # at a time
_WAITED_FOR = 100_000_000  # bytes that are read before the first step, and told

Found = TypeVar("Found")

Ids = NDArray[np.int64]
Sizes = NDArray[np.int64]
"""(n, 2): height and width in pixels."""


@dataclass
class Stored:
    """The samples of a source, in the shape in which they are handed to the device.

    Attributes:
        seen: T, side that the network sees; 0 for tables.
        side: S, stored side; 0 for tables.
        array: the samples, where the source has them in memory.
        cache: the samples, where they were decoded once.
        crop_pct: the share of the side that the network sees; None: as much as it takes of what is stored.
        interpolation: how images come to the stored side, and from there to a larger one.
    """

    seen: int = 0
    side: int = 0
    array: NDArray[Any] | None = None
    cache: PixelCache | None = None
    crop_pct: float | None = None
    interpolation: Interpolation = "bilinear"

    @property
    def rows(self) -> NDArray[Any] | None:
        """(N, S, S, K) or (N, F), row i of sample_id i; None where files are decoded in every epoch."""
        return self.array if self.cache is None else self.cache.pixels

    @property
    def broken(self) -> dict[int, str]:
        """sample_id -> reason, of what is known to be unreadable."""
        return {} if self.cache is None else self.cache.broken


def store(
    source: Source,
    *,
    image_size: int | None,
    cache: bool | None,
    cache_dir: Path | None,
    num_threads: int | None,
    side: int | None = None,
    crop_pct: float | None = None,
    interpolation: Interpolation | None = None,
) -> Stored:
    """Decide the sizes and the storage, and build the cache where one is used.

    Args:
        source: images or a table.
        image_size: T; None for the rule above.
        cache: None builds one when it fits in memory and on the disk; True always, False never.
        cache_dir, num_threads: see `cache.open_cache`.
        side: S; None for the rule above. A trained network must be shown what it was trained on.
        crop_pct, interpolation: see `Stored`; None: bilinear.

    Raises:
        DataError: if no image can be read, or a forced cache does not fit on the disk.
    """
    reader, ids, how = source.reader, source.manifest.sample_ids, interpolation or "bilinear"
    if source.kind == "table":
        return Stored(array=reader.array)
    if image_size is None or side is None:
        sizes = sample_sizes(reader, ids)
        image_size = image_size or seen_size(sizes)
        side = side or stored_size(image_size, sizes, crop_pct)
    seen = image_size
    if reader.array is not None:
        return Stored(seen, side, squares(reader.array, side, how), None, crop_pct, how)
    why_not = ""
    if cache is None:
        cache, why_not = pays(reader, ids, side, cache_dir, how)
    if why_not:
        say(f"the images are decoded in every epoch: {why_not}")
    if not cache:
        return Stored(seen, side, None, None, crop_pct, how)
    if isinstance(reader, ShardReader) and reader.is_elsewhere and not is_built(reader, ids, side, cache_dir, how):
        _say_that_all_are_read(int(reader.places.size[ids].sum()))
    pixels = open_cache(reader, ids, side, cache_dir=cache_dir, num_threads=num_threads, interpolation=how)
    return Stored(seen, side, None, pixels, crop_pct, how)


def _say_that_all_are_read(num_bytes: int) -> None:
    if num_bytes > _WAITED_FOR:
        say(
            f"all images are read before the first step ({num_bytes / 1e9:.1f} GB), and kept decoded on this machine; "
            "--no-cache begins at once, and reads them in every epoch"
        )


def sample_sizes(reader: Reader, sample_ids: Ids) -> Sizes:
    """Heights and widths of at most `HEADERS` images, spread evenly over the ids.

    Raises:
        DataError: if not one of them can be read; the message is that of the last one.
    """
    sizes, last_error = [], None
    for found in _read_some(reader.size, spread(sample_ids, HEADERS)):
        if isinstance(found, DataError):
            last_error = found
        else:
            sizes.append(found)
    if not sizes:
        raise DataError(f"No image can be read. {last_error}") from last_error
    return np.array(sizes, np.int64)


def seen_size(sizes: Sizes) -> int:
    """Side that the network sees, when nobody chooses."""
    height, width = np.median(sizes, axis=0)
    if max(height, width) <= 64:
        return int(max(height, width))
    return int(np.clip(round(min(height, width) / 32) * 32, 32, 224))


def stored_size(seen: int, sizes: Sizes, crop_pct: float | None = None) -> int:
    """Side of the square that is stored or decoded for a network that sees `seen`.

    Args:
        crop_pct: the share of that side which the network sees; None for the rule above.
    """
    if crop_pct is not None:
        wanted = math.floor(seen / crop_pct)
    else:
        wanted = room_for_crops(seen)
    return min(wanted, int(sizes.min(axis=1).max()))


def room_for_crops(seen: int) -> int:
    """Side that is stored for a network that sees `seen`, of images that are large enough."""
    return round(seen * 256 / 224) if seen >= 128 else seen


def squares(images: NDArray[Any], side: int, interpolation: Interpolation = "bilinear") -> NDArray[Any]:
    """(N, H, W, K) in memory to (N, S, S, K): unchanged where it is already so, else resized and cropped."""
    if images.shape[1:3] == (side, side):
        return images
    return np.stack([resize_crop(image, side, interpolation) for image in images])


Normalization = list[float] | list[list[float]]
"""A number for each channel or feature, or a list of these for each fold."""


def measure(stored: Stored, source: Source, train_ids: Ids) -> tuple[Normalization, Normalization]:
    """Mean and standard deviation of each channel (uint8 in [0, 1]) or feature over training samples.

    Of a source whose samples lie in folds, those for each fold, over the samples outside it.

    All rows of a table; of images at most 2,000, or 200 that must be decoded for it, spread evenly
    over the ids. A constant channel gets the deviation 1.
    """
    folds = source.folds
    if folds is None:
        return _moments(stored, source, train_ids)
    kept = (train_ids[folds[train_ids] != fold] for fold in range(folds.max() + 1))
    means, stds = zip(*(_moments(stored, source, ids) for ids in kept), strict=True)
    return list(means), list(stds)


def _moments(stored: Stored, source: Source, train_ids: Ids) -> tuple[list[float], list[float]]:
    if stored.rows is None:
        return _moments_of_some(source.reader, spread(train_ids, 200), stored)
    values = stored.rows[train_ids if source.kind == "table" else spread(train_ids, 2000)]
    axes = tuple(range(values.ndim - 1))
    scale = 255.0 if values.dtype == np.uint8 else 1.0
    mean = values.mean(axes, dtype=np.float64) / scale
    std = values.std(axes, dtype=np.float64) / scale
    return mean.tolist(), np.where(std > 1e-8, std, 1.0).tolist()


def _moments_of_some(reader: Reader, sample_ids: Ids, stored: Stored) -> tuple[list[float], list[float]]:
    """As `_moments`, of those of the images that can be read; the loader reports the others."""

    def sums(sample_id: int) -> tuple[int, NDArray[Any], NDArray[Any]]:
        """Pixels, and of each channel the sums of values and of squares: of uint8 they are exact."""
        pixels = reader.read(sample_id, min_side=stored.side)
        pixels = resize_crop(pixels, stored.side, stored.interpolation)
        values = pixels.astype(np.int64 if pixels.dtype == np.uint8 else np.float64)
        return pixels.shape[0] * pixels.shape[1], values.sum((0, 1)), (values**2).sum((0, 1))

    found, last_error = [], None
    for one in _read_some(sums, sample_ids):
        if isinstance(one, DataError):
            last_error = one
        else:
            found.append(one)
    if not found:
        raise DataError(f"No training image can be read. {last_error}") from last_error
    count = sum(pixels for pixels, _, _ in found)
    total, squared = np.sum([part for _, part, _ in found], axis=0), np.sum([part for _, _, part in found], axis=0)
    scale = 255.0 if reader.dtype == np.uint8 else 1.0
    mean = total / count
    std = np.sqrt(np.maximum(squared / count - mean**2, 0.0)) / scale
    return list((mean / scale).tolist()), np.where(std > 1e-8, std, 1.0).tolist()


def _read_some(read: Callable[[int], Found], sample_ids: Ids) -> Iterator[Found | DataError]:
    """What is read of each sample, or why it cannot be; several at a time, for storage may be far away."""

    def attempt(sample_id: int) -> Found | DataError:
        try:
            return read(sample_id)
        except DataError as error:
            return error

    with ThreadPoolExecutor(_READS) as pool:
        yield from pool.map(attempt, sample_ids.tolist())
