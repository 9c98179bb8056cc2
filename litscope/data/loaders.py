"""Loaders: ids in, batches of tensors out, with a position that resumes exactly in mid-epoch.

Both loaders are plain iterables, not torch DataLoaders, so that Lightning leaves them alone: no
injected DistributedSampler that pads by repeating, no rebuilding under `overfit_batches` or
`predict`. They are sized, so Lightning does not prefetch: it asks for a batch when it trains on
it. Therefore a batch counts as consumed when it is handed over, whatever workers have decoded
ahead, and a state saved after a training step holds exactly the steps taken. Lightning never
runs an iterator to its end, so the state after an epoch's last batch is (epoch + 1, 0) at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litscope.data.sampler import EpochOrder, Ids
from litscope.errors import ConfigError
from litscope.types import Batch


class Loader(ABC):
    """Yields the batches of one epoch after another; holds the position.

    Attributes:
        epoch: epoch of the next batch.
        batches_done: batches of that epoch that were handed over.
        last: (epoch, number in the epoch) of the batch handed over last; (-1, -1) before the first.
        limit: batches of an epoch that will be asked for (`limit_train_batches`); the position
            moves to the next epoch there. Never above the epoch's length.
    """

    def __init__(self, order: EpochOrder, *, epoch: int = 0, limit: int | None = None) -> None:
        self.order = order
        self.epoch = epoch
        self.batches_done = 0
        self.last = (-1, -1)
        self.limit = len(order) if limit is None else min(limit, len(order))
        self._is_resumed = False

    def __len__(self) -> int:
        """Batches in a whole epoch, also when the next pass is the rest of one."""
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """One epoch; after `load_state_dict` what is left of it.

        The position is read when the first batch is asked for: Lightning makes iterators that it
        throws away. An epoch that was left part-way is not taken up again, unless from a state.
        """
        if self.batches_done and not self._is_resumed:
            self.epoch, self.batches_done = self.epoch + 1, 0
        epoch, first = self.epoch, self.batches_done
        for number, batch in enumerate(self._load(self.order.batches(epoch, first)), first):
            self._hand_over(epoch, number)
            yield batch

    def _hand_over(self, epoch: int, number: int) -> None:
        self._is_resumed = False
        self.last = (epoch, number)
        is_last = number + 1 >= self.limit
        self.epoch, self.batches_done = (epoch + 1, 0) if is_last else (epoch, number + 1)

    def state_dict(self) -> dict[str, int]:
        """The position, the same on all ranks, and the facts under which it holds."""
        return {"epoch": self.epoch, "batches_done": self.batches_done, **self._facts()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a position; the next pass yields what is left of that epoch.

        Raises:
            ConfigError: if the position lies inside an epoch whose order or batches were others.
        """
        if state["batches_done"]:
            changed = [f"{k}: {state[k]} then, {v} now" for k, v in self._facts().items() if state.get(k) != v]
            if changed:
                raise ConfigError(
                    f"The checkpoint lies inside epoch {state['epoch']}, after {state['batches_done']} batches, but "
                    f"the batches are others now ({'; '.join(changed)}). Resume with what it was trained with, or "
                    "from a checkpoint at the end of an epoch."
                )
        self.epoch, self.batches_done = int(state["epoch"]), int(state["batches_done"])
        self._is_resumed = True

    def _facts(self) -> dict[str, int]:
        order = self.order
        return {
            "seed": order.seed,
            "num_samples": len(order.ids),
            "samples_per_step": order.batch_size * order.world,
        }

    @abstractmethod
    def _load(self, batches: list[Ids]) -> Iterator[Batch]:
        """Read the samples of each batch of ids, in order."""

    def close(self) -> None:
        """Let go of worker processes, where there are any."""


class GatherLoader(Loader):
    """Data in memory or in a memory map: a batch is one gather.

    Args:
        order: the ids of each batch.
        data: row i belongs to sample_id i. Images (N, H, W, K), handed over as (B, K, H, W) in
            channels-last memory; tables (N, F).
        labels: (N,) int64.
        pin_memory: gather into page-locked memory, for asynchronous copies to a GPU.
        epoch, limit: see `Loader`.
    """

    def __init__(
        self,
        order: EpochOrder,
        data: np.ndarray[Any, Any],
        labels: Ids,
        *,
        pin_memory: bool = False,
        epoch: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(order, epoch=epoch, limit=limit)
        self._data = torch.from_numpy(data)
        self._labels = torch.from_numpy(np.ascontiguousarray(labels))
        self._is_image = data.ndim == 4
        self._pin_memory = pin_memory

    def _load(self, batches: list[Ids]) -> Iterator[Batch]:
        for ids in batches:
            yield self._gather(torch.from_numpy(ids))

    def _gather(self, ids: Tensor) -> Batch:
        rows = torch.empty((len(ids), *self._data.shape[1:]), dtype=self._data.dtype, pin_memory=self._pin_memory)
        torch.index_select(self._data, 0, ids, out=rows)
        label = self._labels[ids]
        if self._pin_memory:
            ids, label = ids.pin_memory(), label.pin_memory()
        if self._is_image:
            return {"image": rows.permute(0, 3, 1, 2), "label": label, "sample_id": ids}  # (B, K, H, W)
        return {"features": rows, "label": label, "sample_id": ids}
