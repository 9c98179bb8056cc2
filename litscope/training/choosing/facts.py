"""DataFacts: the dozen facts of a data set and a machine that the choices rest on. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from litscope.data.sources.source import Source
from litscope.data.stored import sample_sizes
from litscope.limits import memory_bytes, num_cores

SMALL_PIXELS = 64
"""Images whose longer side is at most this are thumbnails: they keep their size and train from scratch."""


@dataclass(frozen=True)
class DataFacts:
    """What the rules look at.

    Attributes:
        class_counts: labelled training samples per class, in the order of the classes.
        val_counts: likewise of the validation samples; empty where nobody counted them.
        height, width: median over a sample of the training images, in pixels; None for tables.
        in_memory: the data are one array already (tables, idx files, digits).
        device: "cpu", "cuda" or "mps".
        num_devices: training processes, on all machines.
        epochs_done: of the checkpoint that the run goes on from.
        memory_bytes: memory that this process may use.
    """

    kind: Literal["image", "table"]
    num_train: int
    num_val: int
    class_counts: tuple[int, ...]
    height: int | None = None
    width: int | None = None
    channels: int | None = None
    num_features: int | None = None
    in_memory: bool = False
    device: str = "cpu"
    num_devices: int = 1
    num_cores: int = 1
    memory_bytes: int = 8 * 2**30
    val_counts: tuple[int, ...] = ()
    epochs_done: int = 0

    @property
    def num_classes(self) -> int:
        """Number of classes, with those that have no training sample."""
        return len(self.class_counts)

    @property
    def is_thumbnail(self) -> bool:
        """Images so small that they are used as they are."""
        return max(self.height or 0, self.width or 0) <= SMALL_PIXELS

    @property
    def short_side(self) -> int:
        """The median image's shorter side, in pixels."""
        return min(self.height or 0, self.width or 0)


def look(source: Source, *, device: str = "cpu", num_devices: int = 1, epochs_done: int = 0) -> DataFacts:
    """The facts of an opened data set.

    Args:
        source: a `data.sources.Source` (manifest, reader, kind); it holds a labelled training sample.
        device: "cpu", "cuda" or "mps", from `hardware.plan`.
        num_devices: training processes on all machines.
        epochs_done: of the checkpoint that the run goes on from.

    Raises:
        DataError: if no image can be read.
    """
    manifest, reader = source.manifest, source.reader
    train_ids, val_ids = manifest.ids("train"), manifest.ids("val")
    counts, val_counts = (
        tuple(int(n) for n in np.bincount(manifest.labels[ids], minlength=manifest.num_classes))
        for ids in (train_ids, val_ids)
    )
    height = width = None
    if source.kind == "image":
        height, width = (int(side) for side in np.median(sample_sizes(reader, train_ids), axis=0))
    return DataFacts(
        kind=source.kind,
        num_train=len(train_ids),
        num_val=len(val_ids),
        class_counts=counts,
        val_counts=val_counts,
        height=height,
        width=width,
        channels=reader.channels if source.kind == "image" else None,
        num_features=reader.channels if source.kind == "table" else None,
        in_memory=reader.array is not None,
        device=device,
        num_devices=num_devices,
        epochs_done=epochs_done,
        num_cores=num_cores(),
        memory_bytes=memory_bytes(),
    )
