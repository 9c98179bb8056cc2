"""`litscope prepare`: a data set, or the curated data of a run, into shards. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from litscope.config.recipe import Recipe
from litscope.console import number_of
from litscope.curation.export import curated, what_was_decided
from litscope.curation.recipe_source import make_source
from litscope.curation.run_data import run_data
from litscope.data.manifest import SPLITS, UNLABELLED, Ids, Manifest
from litscope.data.preflight import inspect
from litscope.data.shards.encode import Form
from litscope.data.shards.index import FILE, Index
from litscope.data.shards.upload import Uploaded
from litscope.data.shards.write import UNLABELLED_SHARDS, Plan, write_shards
from litscope.data.sources.source import Source
from litscope.data.stored import room_for_crops
from litscope.errors import ConfigError, DataError
from litscope.limits import num_cores
from litscope.rundir import RunDir


@dataclass(frozen=True)
class How:
    """How images are put into shards.

    Attributes:
        shard_size: most samples of a shard.
        shard_bytes: most bytes of a shard; None: any number.
        image_size: side in pixels that a network is to see; None: images are stored as they are.
        quality: of JPEG; None: 95.
        num_threads: that encode; None: one for each core.
        overwrite: replace shards of something else.
    """

    shard_size: int = 1000
    shard_bytes: int | None = None
    image_size: int | None = None
    quality: int | None = None
    num_threads: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for flag, value in (("--shard-size", self.shard_size), ("--workers", self.num_threads)):
            if value is not None and value < 1:
                raise ConfigError(f"{flag} {value}: it is 1 or more.")
        if self.shard_bytes is not None and self.shard_bytes < 1:
            raise ConfigError(f"--shard-bytes {self.shard_bytes}: it is 1 or more.")
        if self.image_size is not None and self.image_size < 1:
            raise ConfigError(f"--image-size {self.image_size}: it is 1 or more.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError(f"--quality {self.quality}: it is from 1 to 100.")
        if self.quality is not None and self.image_size is None:
            raise ConfigError(
                f"--quality {self.quality} is of images that are stored at another size. Give --image-size too, or "
                "leave it out: images are stored as they are."
            )

    @property
    def form(self) -> Form:
        """How each image is stored."""
        side = None if self.image_size is None else room_for_crops(self.image_size)
        return Form(side, 95 if self.quality is None else self.quality)


@dataclass
class Sharded:
    """What lies in the folder now.

    Attributes:
        folder: of shards and index.
        num_samples, num_shards, num_bytes: of all.
        splits: name of the shards -> samples in them.
        is_new: False if an earlier write had done it all.
        unreadable: key -> why the image is not among them.
        notes: lines for the person.
        uploaded: what lies in a bucket now, where it was brought there.
    """

    folder: Path
    num_samples: int
    num_shards: int
    num_bytes: int
    splits: dict[str, int]
    is_new: bool
    unreadable: dict[str, str]
    notes: list[str] = field(default_factory=list)
    uploaded: Uploaded | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        uploaded = None if self.uploaded is None else self.uploaded.to_dict()
        return {**vars(self), "folder": str(self.folder), "uploaded": uploaded}

    def lines(self) -> list[str]:
        """For a terminal."""
        told = [*self.notes, *(f"  left out: {key}: {why}" for key, why in self.unreadable.items())]
        counts = ", ".join(f"{split} {count:,}" for split, count in self.splits.items())
        size = f"{self.num_bytes / 1e6:,.1f} MB"
        what = f"{number_of(self.num_samples, 'sample')} in {number_of(self.num_shards, 'shard')}, {size}"
        done = "" if self.is_new else " (an earlier write had done it all)"
        sent = [] if self.uploaded is None else self.uploaded.lines()
        return [*told, f"{what}: {self.folder}{done}", f"  {counts}", *sent]


def shard_source(recipe: Recipe, folder: Path, how: How) -> Sharded:
    """Write the data set that a recipe names as shards.

    Raises:
        ConfigError: for a table; for a folder that holds something else.
        DataError: if the data cannot be used.
    """
    source = make_source(recipe)
    return _shard(source, source.manifest, source.manifest.sample_ids, folder, how, source.notes)


def shard_run(run: RunDir, folder: Path, how: How, dataset: str | None = None, data_dir: str | None = None) -> Sharded:
    """Write the curated data of a run as shards: without discarded samples, with the labels that people gave.

    Args:
        dataset, data_dir: where the run's data are now; None: where they were.

    Raises:
        ConfigError: for a table; for a folder that holds something else.
        DataError: if the data are not there, or a sample is not what it was.
    """
    data, samples = run_data(run, dataset, data_dir), curated(run)
    rows = data.rows(np.asarray(samples["sample_id"].to_numpy(), np.int64), "the shards")
    position = {name: index for index, name in enumerate(data.manifest.classes)}
    labels = np.full(len(data.source.manifest), UNLABELLED, np.int64)
    labels[rows] = [UNLABELLED if name is None else position[name] for name in samples["label"].to_pylist()]
    splits = np.full(len(labels), "", dtype=object)
    splits[rows] = samples["split"].to_pylist()
    known = data.source.manifest.with_labels(labels).with_splits(splits)
    manifest = Manifest(known.table, data.manifest.classes, known.encoding)
    return _shard(data.source, manifest, np.sort(rows), folder, how, what_was_decided(run))


def _shard(source: Source, manifest: Manifest, ids: Ids, folder: Path, how: How, notes: list[str]) -> Sharded:
    if source.kind == "table":
        raise ConfigError(f"{source.name} is a table, which is one file already; shards are for images.")
    report = inspect(source, num_threads=how.num_threads)
    wanted = np.setdiff1d(ids, report.unreadable_ids)
    if len(np.unique(manifest.labels[wanted][manifest.labels[wanted] != UNLABELLED])) < 2:
        raise DataError(f"{source.name}: there are labelled, readable samples of fewer than two classes.")
    plan = Plan(manifest, source.reader, wanted, how.form, how.shard_size, how.shard_bytes)
    written = write_shards(plan, folder, num_threads=how.num_threads or num_cores(), overwrite=how.overwrite)
    keys = set(manifest.keys[ids])
    unreadable = {key: why for key, why in report.unreadable if key in keys}
    return _told(folder, written.index, written.is_new, {**unreadable, **written.broken}, notes)


def shards_in(folder: Path) -> Sharded:
    """What an earlier write has left in a folder.

    Raises:
        DataError: if there is no index.
    """
    return _told(folder, Index.read(folder / FILE), False, {}, [])


def _told(folder: Path, index: Index, is_new: bool, unreadable: dict[str, str], notes: list[str]) -> Sharded:
    splits = index.table["split"].to_numpy(zero_copy_only=False)
    counts = {split or UNLABELLED_SHARDS: int((splits == split).sum()) for split in (*SPLITS, "")}
    return Sharded(
        folder,
        len(index),
        len(index.shards),
        sum(shard.num_bytes for shard in index.shards),
        {split: count for split, count in counts.items() if count},
        is_new,
        unreadable,
        notes,
    )
