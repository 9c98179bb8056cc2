"""StreamLoader: batches of images that are decoded in every epoch, by threads that work ahead."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

from litscope.console import warn
from litscope.data.loader import Loader
from litscope.data.overlay import Overlay
from litscope.data.reading.decoding import BatchDecoder
from litscope.data.reading.readers import Reader
from litscope.data.sampler import EpochOrder, Ids
from litscope.errors import DataError
from litscope.types import Batch, Interpolation


class StreamLoader(Loader):
    """Files that are decoded in every epoch, by threads that work ahead and live as long as the loader.

    An image that cannot be read is left out of its batch and reported once; nothing takes its
    place. torch's own generator is never drawn from.

    Args:
        order, overlay, pin_memory, epoch, limit: see `Loader`.
        reader: of images.
        size: S, side of the square that is handed over: (B, K, S, S) in channels-last memory.
        num_workers: threads; 0 decodes in the calling one, when the batch is asked for.
        strict: raise for the first image that cannot be read.
        most_broken: samples that may be left out before it raises; None: any number.
        skips_empty: pass over a batch of which no image can be read, instead of raising.
        interpolation: how images come to that size.

    Attributes:
        broken: sample_id -> reason, of the images left out so far.
    """

    def __init__(
        self,
        order: EpochOrder,
        reader: Reader,
        size: int,
        overlay: Overlay,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        strict: bool = False,
        most_broken: int | None = None,
        skips_empty: bool = False,
        interpolation: Interpolation = "bilinear",
        epoch: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(order, overlay, pin_memory=pin_memory, epoch=epoch, limit=limit)
        self.broken: dict[int, str] = {}
        self._strict, self._most_broken = strict, most_broken
        self._skips_empty = skips_empty
        self._decoder = BatchDecoder(reader, size, num_workers, pin_memory, interpolation)
        weakref.finalize(self, self._decoder.close)  # also at exit

    def close(self) -> None:
        """End the threads; the next pass starts others."""
        self._decoder.close()

    def _load(self, batches: list[Ids]) -> Iterator[Batch]:
        for batch, broken in self._decoder.batches(batches):
            self._report(broken)
            if not len(batch["sample_id"]):
                if self._skips_empty:
                    continue
                raise DataError(f"No image of a batch can be read; the first: {next(iter(broken.values()))}")
            yield batch

    def _report(self, broken: dict[int, str]) -> None:
        for id_, reason in broken.items():
            if self._strict:
                raise DataError(reason)
            if id_ not in self.broken:
                warn(f"left out: {reason}")
        self.broken.update(broken)
        if self._most_broken is not None and len(self.broken) > self._most_broken:
            raise DataError(
                f"{len(self.broken):,} samples cannot be read, and at most 1 % may be left out ({self._most_broken:,} "
                f"here). The last: {next(reversed(self.broken.values()))} Mend the data, or discard these samples "
                "(litscope discard)."
            )
