"""EvaluationData: samples in the form that a trained network expects, for `evaluate` and `predict`.

`ClassificationData` decides sizes from its data, and needs training samples. Here the run has
decided: images are stored and seen at the run's sizes whatever their own, and any samples will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from litscope.console import number_of, warn
from litscope.data.gather_loader import GatherLoader
from litscope.data.loader import Loader
from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder
from litscope.data.sources.source import Source
from litscope.data.stored import store
from litscope.data.stream_loader import StreamLoader
from litscope.shown import evaluation
from litscope.types import Batch, Interpolation


def warn_of_unreadable(unreadable: Sequence[tuple[str, str]]) -> None:
    """Say that samples which were asked for are left out: how many, and the first of them.

    Args:
        unreadable: (key, reason) of each.
    """
    if unreadable:
        key, reason = unreadable[0]
        are = "is left out" if len(unreadable) == 1 else "are left out; the first"
        warn(f"{number_of(len(unreadable), 'sample')} that cannot be read {are}: {key} ({reason})")


class EvaluationData:
    """Some samples of a source, in the order of their ids.

    Args:
        source: images or a table.
        ids: (n,) int64, the samples.
        image_size, stored_size: the run's sizes; None for tables.
        crop_pct, interpolation: those of the run, see `data.stored.Stored`.
        batch_size: samples per step.
        num_workers: threads that decode.
        pin_memory: page-locked batches.
        cache, cache_dir: see `data.stored.store`.
    """

    def __init__(
        self,
        source: Source,
        ids: NDArray[np.int64],
        *,
        image_size: int | None,
        stored_size: int | None,
        batch_size: int,
        num_workers: int,
        pin_memory: bool = False,
        cache: bool | None = False,
        cache_dir: Path | None = None,
        crop_pct: float | None = None,
        interpolation: Interpolation | None = None,
    ) -> None:
        self._source = source
        self._num_workers = num_workers
        self._pin_memory = pin_memory
        self._stored = store(
            source,
            image_size=image_size,
            side=stored_size,
            cache=cache,
            cache_dir=cache_dir,
            num_threads=num_workers or None,
            crop_pct=crop_pct,
            interpolation=interpolation,
        )
        known_broken = np.fromiter(self._stored.broken, np.int64)
        self._asked = ids
        self._order = EpochOrder(np.setdiff1d(ids, known_broken), batch_size, shuffle=False)
        self._loader: Loader | None = None

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(key, reason) of the samples that were asked for and could not be read; complete after a pass."""
        broken = dict(self._stored.broken)
        if isinstance(self._loader, StreamLoader):
            broken |= self._loader.broken
        manifest = self._source.manifest
        return [(manifest.key(i), broken[i]) for i in self._asked.tolist() if i in broken]

    def batches(self) -> Loader:
        """The samples that were asked for, once and in order, as they are stored."""
        rows, overlay, order = self._stored.rows, Overlay(self._source.manifest.labels), self._order
        if rows is not None:
            self._loader = GatherLoader(order, rows, overlay, pin_memory=self._pin_memory)
        else:
            self._loader = StreamLoader(
                order,
                self._source.reader,
                self._stored.side,
                overlay,
                num_workers=self._num_workers,
                pin_memory=self._pin_memory,
                skips_empty=True,
                interpolation=self._stored.interpolation,
            )
        return self._loader

    def seen(self, batch: Batch) -> Batch:
        """A batch as the network sees it, on its device: the evaluation transform."""
        if "image" not in batch:
            return batch
        stored = self._stored
        return {**batch, "image": evaluation(batch["image"], stored.seen, stored.crop_pct, stored.interpolation)}

    def close(self) -> None:
        """End the decoding threads."""
        if self._loader is not None:
            self._loader.close()


def on_device(batch: Batch, device: torch.device) -> Any:
    """A batch with each tensor on a device, without waiting for a GPU."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}  # type: ignore[attr-defined]
