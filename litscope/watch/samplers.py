"""Samplers that leave discarded samples out. They replace a loader's own sampler, and draw what it would have drawn.

The index lists of a DataLoader are made in the training process, so a discard reaches worker processes of every kind
with the first batch that has not been handed to them yet. As long as nothing is discarded, the loader's own sampler
provides one batch after the other, in its order and with its random numbers. Once something is, the remaining samples
of the epoch are spread evenly over the remaining batches. So the batches become smaller, and their number, on which
schedules, progress bars and other ranks rely, stays the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from litscope.watch import active
from litscope.watch.samples.drawn import Drawn, drawn_from
from litscope.watch.samples.nesting import Ids

LEAST = 2
"""Fewest samples in a batch, if the loader's own have as many: batch normalisation cannot train on one."""


class SteeredBatchSampler(Sampler[list[int]]):
    """Batches of a loader's own batch sampler, without discarded samples.

    Args:
        inner: the loader's own batch sampler.
        drawn: which samples the indices are that `inner` yields.
    """

    def __init__(self, inner: Any, drawn: Drawn) -> None:
        self.inner = inner
        self.drawn = drawn

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        """`sampler`, `batch_size`, `drop_last`: Lightning asks for them."""
        if name.startswith("_") or name == "inner":  # not there yet, while it is being copied
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[list[int]]:
        self.drawn.begins()
        num_left = len(self.inner)
        own = iter(self.inner)
        while not (self.drawn.has_discarded and self.drawn.is_exact):
            batch = next(own, None)
            if batch is None or self.drawn.is_over:
                return
            num_left -= 1
            self.drawn.is_asked_for(batch)
            yield batch
        yield from self._spread(np.array([i for batch in own for i in batch], np.int64), num_left)

    def _spread(self, rest: Ids, num_left: int) -> Iterator[list[int]]:
        """The rest of the epoch, in `num_left` batches. If it is too little, some samples come a second time."""
        again = rest
        while num_left > 0 and len(again) and not self.drawn.is_over:
            kept = np.flatnonzero(self.drawn.is_kept(rest))
            size = max(-(-len(kept) // num_left), min(LEAST, getattr(self.inner, "batch_size", None) or LEAST))
            batch = rest[kept[:size]]
            rest = rest[kept[size - 1] + 1 :] if len(kept) >= size else rest[:0]
            if len(batch) < size:
                rest = again[self.drawn.is_kept(again)]
                batch, rest = np.concatenate([batch, rest[: size - len(batch)]]), rest[size - len(batch) :]
            if not len(batch):
                return
            num_left -= 1
            self.drawn.is_asked_for(indices := batch.tolist())
            yield indices


def steered(loader: Any, drawn: Drawn) -> Any:
    """A loader that is like another one and follows discards; that one stays as it is.

    One that makes no batches (`batch_size=None`), that is no DataLoader, or of which it is not known which samples it
    draws, cannot: it comes back itself. The data sets' `is_steered` says so.
    """
    if not isinstance(loader, DataLoader) or (sampler := _sampler(loader, drawn)) is None:
        return loader
    found = copy.copy(loader)
    found._iterator = None  # persistent workers of a loader that was looked into before know no ids yet
    object.__setattr__(found, "batch_sampler", sampler)  # DataLoader forbids plain assignment, for a running iterator
    return found


def _sampler(loader: DataLoader[Any], drawn: Drawn) -> SteeredBatchSampler | None:
    """A loader's own batch sampler, steered; None if it cannot be."""
    inner: Any = loader.batch_sampler
    if not drawn.is_exact or inner is None or not hasattr(inner, "__len__"):
        return None
    for data in drawn.datasets:
        data.is_steered = True
    return SteeredBatchSampler(inner.inner if isinstance(inner, SteeredBatchSampler) else inner, drawn)


def drawn_by(loader: Any) -> Drawn | None:
    """What a loader draws of `with_ids` data sets."""
    sampler = getattr(loader, "batch_sampler", None)
    return sampler.drawn if isinstance(sampler, SteeredBatchSampler) else drawn_from(getattr(loader, "dataset", None))


class Loader(DataLoader[Any]):
    """A DataLoader for a `with_ids` data set that follows discards, whoever iterates over it."""

    def __iter__(self) -> Any:
        session = active.current()
        drawn = drawn_from(self.dataset)
        if drawn is None or (session is not None and session.is_predicting):
            return super().__iter__()
        if session is not None:
            for data in drawn.datasets:
                session.pass_begins(data)
        own: Any = self.batch_sampler
        if isinstance(own, SteeredBatchSampler):
            return super().__iter__()
        object.__setattr__(self, "batch_sampler", _sampler(self, drawn) or own)
        try:
            return super().__iter__()
        finally:
            object.__setattr__(self, "batch_sampler", own)
