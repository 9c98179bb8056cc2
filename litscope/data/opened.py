"""Opened: a data set that was found, stored, checked and measured, as a data module serves it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np

from litscope.console import one_line
from litscope.data.batch_transform import BatchTransform
from litscope.data.manifest import Manifest, memory_given_back
from litscope.data.pieces import WINDOW, Pieces, pieces_of
from litscope.data.preflight import Report, inspect
from litscope.data.reading.cache import default_folder, disk_bytes
from litscope.data.reading.readers import FileReader
from litscope.data.sampler import Ids
from litscope.data.settings import DataSettings
from litscope.data.shards.fetch import Fetch
from litscope.data.shards.reader import ShardReader
from litscope.data.sources.source import Source
from litscope.data.storage.cache import BlockCache
from litscope.data.storage.retries import Retries
from litscope.data.stored import Normalization, Stored, measure, store
from litscope.data.transforms import Augmentation
from litscope.errors import ConfigError, DataError
from litscope.sizes import num_bytes

_SHOWN = 5  # samples that a message names

NEVER_FLIPPED = ("digits", "mnist", "svhn")
"""Named data sets of characters: mirrored they are others."""


@dataclass
class Opened:
    """What there is to know of a data set before the first batch.

    Attributes:
        source: manifest, reader and kind, as found.
        stored: its samples in the shape in which they are handed to the device.
        report: what the checks found.
        manifest: the source's; of images with the sizes by which never-seen ones are stored alike.
        pieces: of shards, where training samples lie beside each other.
    """

    source: Source
    stored: Stored
    report: Report
    manifest: Manifest
    pieces: Pieces | None = None

    def readable(self, ids: Ids) -> Ids:
        """The `ids` whose files can be read, ascending."""
        return np.setdiff1d(ids, self.report.unreadable_ids) if len(self.report.unreadable_ids) else ids

    @property
    def flips(self) -> bool:
        """Whether mirrored images keep their meaning: not for characters, which gray images of 32 pixels
        and less usually are; fashion_mnist is known to be an exception.
        """
        name = self.source.name
        if name == "fashion_mnist":
            return True
        return name not in NEVER_FLIPPED and (self.source.reader.channels > 1 or self.stored.side > 32)

    def normalization(self) -> tuple[Normalization, Normalization]:
        """Mean and deviation of the training samples; see `stored.measure`."""
        return measure(self.stored, self.source, self.readable(self.manifest.ids("train")))

    def transform(self, settings: DataSettings) -> BatchTransform:
        """The transform from a batch's bytes to the network's input."""
        augmentation = None
        if self.source.kind == "image":
            stored = self.stored
            of_images = (settings.augment, stored.seen, settings.seed, self.flips, settings.crop_padding)
            augmentation = Augmentation(*of_images, stored.crop_pct, stored.interpolation)
        return BatchTransform(augmentation, len(self.manifest.classes), settings.mixup, settings.cutmix, settings.seed)


def open_data(settings: DataSettings, progress: bool = False) -> Opened:
    """Find a data set, decode it where that pays, and check every file.

    Args:
        progress: draw a bar while the files are looked at.

    Raises:
        ConfigError: for something that only images have, where the data are a table.
        DataError: if the data cannot be used.
    """
    with memory_given_back():  # there may be millions of rows
        return _open(settings, progress)


def _open(settings: DataSettings, progress: bool) -> Opened:
    source = settings.open_source()
    if source.kind == "table" and settings.cutmix:
        raise ConfigError("--cutmix cuts patches out of images; for a table use --mixup.")
    if settings.shuffle_window is not None and not isinstance(source.reader, ShardReader):
        raise ConfigError(
            f"--shuffle-window {settings.shuffle_window} is for shards; {source.name} is none, and is shuffled as a "
            "whole. Leave it out."
        )
    reader = source.reader
    if isinstance(reader, ShardReader) and reader.is_elsewhere:
        reader.fetch = Fetch(retries=Retries(settings.storage_timeout), cache=_kept_on_disk(settings))
    elif settings.cache_size is not None:
        raise ConfigError(
            f"--cache-size {settings.cache_size} is for shards that lie elsewhere; {source.name} is on this machine. "
            "Leave it out."
        )
    stored = store(
        source,
        image_size=settings.image_size,
        cache=settings.cache,
        cache_dir=settings.cache_folder,
        num_threads=settings.num_workers or None,
        crop_pct=settings.crop_pct,
        interpolation=settings.interpolation,
    )
    report = inspect(
        source,
        broken=stored.broken,
        num_threads=settings.num_workers or None,
        progress=progress,
        kept_in=None if stored.cache is None else stored.cache.folder,
    )
    if isinstance(reader, ShardReader) and len(report.unreadable_ids) > max(1, len(reader) // 100):
        if stored.cache is not None:  # what can be read tomorrow, must not be missing in it
            shutil.rmtree(stored.cache.folder, ignore_errors=True)
        files = "".join(f"\n  {one_line(key)}: {one_line(reason)}" for key, reason in report.unreadable[:_SHOWN])
        raise DataError(
            f"{len(report.unreadable_ids):,} of {len(reader):,} samples cannot be read; at most 1 % may be left out. "
            f"`litscope verify` names what is wrong with shards. The first:{files}"
        )
    if report.unreadable and settings.stops_at_bad_data:
        asked = "--strict-data" if settings.strict_data else "--on-bad-data stop"
        files = "".join(f"\n  {one_line(key)}: {one_line(reason)}" for key, reason in report.unreadable)
        raise DataError(
            f"{len(report.unreadable):,} files cannot be read, and {asked} is on. Mend or remove them, "
            f"or leave {asked} out to set them aside:{files}"
        )
    manifest = source.manifest
    if source.kind == "image":
        # Never-seen images must be stored as these are, whatever their own sizes.
        given = {"crop_pct": settings.crop_pct, "interpolation": settings.interpolation}
        sizes: dict[str, Any] = {"image_size": stored.seen, "stored_size": stored.side}
        sizes |= {name: value for name, value in given.items() if value is not None}
        manifest = manifest.with_encoding({**manifest.encoding, **sizes})
    if report.digests is not None:
        stats = source.reader.stats().T if isinstance(source.reader, FileReader) else ()
        manifest = manifest.with_content(report.digests, *stats)
    pieces = _pieces(source, settings.shuffle_window or WINDOW)
    if pieces is not None and not pieces.is_whole:
        report.notes.append(
            f"order: an epoch draws from about {pieces.samples:,} samples at a time, which a window of "
            f"{settings.shuffle_window or WINDOW} holds ({pieces.name}); --shuffle-window sets it"
        )
    opened = Opened(source, stored, report, manifest, pieces)
    if not len(opened.readable(manifest.ids("train"))):
        raise DataError(f"{source.name} has no labelled, readable training sample.")
    return opened


def _kept_on_disk(settings: DataSettings) -> BlockCache | None:
    """Where parts of shards elsewhere are kept; None where nobody asks for it."""
    if settings.cache_size is None and settings.cache_dir is None:
        return None
    folder = (settings.cache_folder or default_folder()) / "shards"
    if settings.cache_size is not None:
        return BlockCache(folder, num_bytes(settings.cache_size))
    return BlockCache(folder, disk_bytes(folder) // 4)


def _pieces(source: Source, window: str) -> Pieces | None:
    reader = source.reader
    if not isinstance(reader, ShardReader):
        return None
    return pieces_of(*reader.places, source.manifest.ids("train", labelled=False), num_bytes(window))
