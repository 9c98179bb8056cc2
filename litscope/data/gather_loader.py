"""GatherLoader: batches of data that lie in memory, in a memory map, or in a GPU's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litscope.data.loader import Loader
from litscope.data.overlay import Overlay, as_tensor
from litscope.data.sampler import EpochOrder, Ids
from litscope.types import Batch


class GatherLoader(Loader):
    """Data in memory or in a memory map: a batch is one gather.

    Args:
        order, overlay, pin_memory, epoch, limit: see `Loader`.
        data: row i belongs to sample_id i. Images (N, H, W, K), handed over as (B, K, H, W) in
            channels-last memory; tables (N, F). An array, or a tensor in a GPU's memory: rows are then gathered,
            and handed over, there.

    Attributes:
        stride: asked before each batch, with its number in the epoch and how many batches of one size come from
            there on; as many as it says are handed over as one stack. 0, or no stride, is a plain batch.
        first_row: epoch -> the row of sample_id 0 in it, where the data hold several views of each sample one after
            the other.
    """

    def __init__(
        self,
        order: EpochOrder,
        data: np.ndarray[Any, Any] | Tensor,
        overlay: Overlay,
        *,
        pin_memory: bool = False,
        epoch: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(order, overlay, pin_memory=pin_memory, epoch=epoch, limit=limit)
        self.stride: Callable[[int, int], int] | None = None
        self.first_row: Callable[[int], int] | None = None
        self._data = data if isinstance(data, Tensor) else as_tensor(data)
        self._is_image = data.ndim == 4

    def _load(self, batches: list[Ids]) -> Iterator[Batch]:
        if self.stride is None:
            for ids in batches:
                yield self._gather(torch.from_numpy(ids))
            return
        runs, done = _runs(batches), 0
        while done < len(batches):
            count = self.stride(self.batches_done, min(runs[done], self.limit - self.batches_done))
            ids = np.stack(batches[done : done + count]) if count else batches[done]
            yield self._gather(torch.from_numpy(ids))
            done += max(1, count)

    def example(self, num_batches: int) -> Batch:
        """A stack of batches of full size, some samples perhaps many times; the position stays."""
        size = num_batches * self.order.batch_size
        ids = np.resize(self.order.ids, size).reshape(num_batches, -1)
        return self._finish(self._gather(torch.from_numpy(ids)))

    def _gather(self, ids: Tensor) -> Batch:
        """The rows of `ids` (B,), or of a stack of batches (N, B)."""
        data, is_pinned = self._data, self._pin_memory
        if is_pinned:
            ids = ids.pin_memory()
        at = ids if self.first_row is None else ids + self.first_row(self.epoch)
        if data.device.type == "cpu":
            rows = torch.empty((ids.numel(), *data.shape[1:]), dtype=data.dtype, pin_memory=is_pinned)
            torch.index_select(data, 0, at.view(-1), out=rows)
        else:
            rows = data.index_select(0, at.view(-1).to(data.device, non_blocking=True))
        rows = rows.view(*ids.shape, *data.shape[1:])
        if self._is_image:
            return {"image": rows.movedim(-1, -3), "sample_id": ids}  # (B, K, H, W)
        return {"features": rows, "sample_id": ids}


def _runs(batches: list[Ids]) -> list[int]:
    """For each batch, how many of its size come from there on, itself included."""
    runs = [1] * len(batches)
    for i in range(len(batches) - 2, -1, -1):
        if len(batches[i]) == len(batches[i + 1]):
            runs[i] += runs[i + 1]
    return runs
