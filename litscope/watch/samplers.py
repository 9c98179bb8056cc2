"""Samplers that leave discarded samples out. They replace a loader's own sampler, and draw what it would have drawn.

The index lists of a DataLoader are made in the training process, so a discard reaches worker processes of every kind
with the first batch that has not been handed to them yet. As long as nothing is discarded, the loader's own sampler
provides one batch after the other, in its order and with its random numbers. Once something is, the remaining samples
of the epoch are spread evenly over the remaining batches. So the batches become smaller, and their number, on which
schedules, progress bars and other ranks rely, stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from litscope.watch import active
from litscope.watch.ids import Ids, WithIds, find_ids

LEAST = 2
"""Fewest samples in a batch, if the loader's own have as many: batch normalisation cannot train on one."""


class SteeredBatchSampler(Sampler[list[int]]):
    """Batches of a loader's own batch sampler, without discarded samples.

    Args:
        inner: the loader's own batch sampler.
        data: the data set that the samples belong to.
        indices: (n,) index in `data` of each index that `inner` yields; None if they are the same.
    """

    def __init__(self, inner: Any, data: WithIds, indices: Ids | None) -> None:
        self.inner = inner
        self._data, self._indices = data, indices

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        """`sampler`, `batch_size`, `drop_last`: Lightning asks for them."""
        if name.startswith("_") or name == "inner":  # not there yet, while it is being copied
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[list[int]]:
        num_left = len(self.inner)
        own = iter(self.inner)
        while not self._data.has_discarded:
            batch = next(own, None)
            if batch is None or self._data.is_over:
                return
            num_left -= 1
            yield batch
        yield from self._spread(np.array([i for batch in own for i in batch], np.int64), num_left)

    def _spread(self, rest: Ids, num_left: int) -> Iterator[list[int]]:
        """The rest of the epoch, in `num_left` batches. If it is too little, some samples come a second time."""
        again = rest
        while num_left > 0 and len(again) and not self._data.is_over:
            kept = np.flatnonzero(self._is_kept(rest))
            size = max(-(-len(kept) // num_left), min(LEAST, getattr(self.inner, "batch_size", None) or LEAST))
            batch = rest[kept[:size]]
            rest = rest[kept[size - 1] + 1 :] if len(kept) >= size else rest[:0]
            if len(batch) < size:
                rest = again[self._is_kept(again)]
                batch, rest = np.concatenate([batch, rest[: size - len(batch)]]), rest[size - len(batch) :]
            if not len(batch):
                return
            num_left -= 1
            yield batch.tolist()

    def _is_kept(self, at: Ids) -> Any:
        return ~self._data.is_discarded[at if self._indices is None else self._indices[at]]


def steer(loader: Any) -> None:
    """Have a loader follow the discards of the `with_ids` data set that it draws from. A second call does nothing.

    A loader of other data, one that makes no batches (`batch_size=None`), and one that is not a DataLoader stay as
    they are; their data set's `is_steered` says so.
    """
    if not isinstance(loader, DataLoader) or (found := find_ids(loader.dataset)) is None:
        return
    inner = loader.batch_sampler
    if inner is None or not hasattr(inner, "__len__"):
        return
    data, indices = found
    data.is_steered = True
    if not isinstance(inner, SteeredBatchSampler):
        # DataLoader forbids plain assignment, to protect a running iterator; here none is running yet.
        object.__setattr__(loader, "batch_sampler", SteeredBatchSampler(inner, data, indices))


class Loader(DataLoader[Any]):
    """A DataLoader for a `with_ids` data set that follows discards, whoever iterates over it."""

    def __iter__(self) -> Any:
        steer(self)
        session = active.current()
        if session is not None and (found := find_ids(self.dataset)) is not None:
            session.pass_begins(found[0])
        return super().__iter__()
