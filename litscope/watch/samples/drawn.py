"""Drawn: which samples of `with_ids` data sets a loader draws, whatever stands between the two."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import ConcatDataset

from litscope.console import warn
from litscope.errors import ConfigError
from litscope.watch.samples.ids import WithIds
from litscope.watch.samples.nesting import Ids, all_inside, inside

_REMEMBERED = 256
"""Batches that a sampler may be ahead of the loop, for `Drawn.check`."""


class Drawn:
    """The items of a loader's data set, and the items of `with_ids` data sets that they are.

    Attributes:
        datasets: the `with_ids` data sets, each once.
        is_exact: whether it is known which item is which. Else they are recorded by the ids in their batches, and no
            sampler can leave one out.
        name: of the class of the loader's data set.
        is_checked: whether the first batch has been looked at.
        is_another: whether its items are others than when the run was told of them.
    """

    def __init__(self, dataset: Any, datasets: list[WithIds], which: Ids | None, index: Ids | None) -> None:
        # which: (n,) number of the data set of each item; index: (n,) index in it; both None where it is not known
        self.datasets = datasets
        self.is_exact = which is not None
        self.name = type(dataset).__name__
        self.is_checked = self.is_another = False
        self._dataset = dataset
        self._asked: deque[Any] = deque(maxlen=_REMEMBERED)
        self._which, self._index = which, index

    def pieces(self) -> Iterator[tuple[WithIds, Ids | None]]:
        """Each data set, and the indices of those of its items that are drawn; None where that is not known."""
        for number, data in enumerate(self.datasets):
            known = None if self._which is None or self._index is None else self._index[self._which == number]
            yield data, known

    def ids(self, at: Ids | None = None) -> Ids:
        """(n,) the `sample_id` of all items, or of those at some indices; in no order where it is not exact."""
        if self._which is None or self._index is None:
            return np.concatenate([data.ids() for data in self.datasets])
        which, index = (self._which, self._index) if at is None else (self._which[at], self._index[at])
        found = np.empty(len(index), np.int64)
        for number, data in enumerate(self.datasets):
            found[which == number] = data.ids(index[which == number])
        return found

    @property
    def has_discarded(self) -> bool:
        """Whether any sample is discarded."""
        return any(data.has_discarded for data in self.datasets)

    @property
    def is_over(self) -> bool:
        """Whether samplers stop; see `WithIds`."""
        return any(data.is_over for data in self.datasets)

    def is_kept(self, at: Ids) -> Any:
        """(B,) bool: which of the items at these indices are not discarded."""
        assert self._which is not None
        assert self._index is not None
        kept = np.ones(len(at), bool)
        for number, data in enumerate(self.datasets):
            mine = self._which[at] == number
            kept[mine] = ~data.is_discarded[self._index[at[mine]]]
        return kept

    def ids_in(self, batch: Any) -> Tensor | None:
        """The ids (B,) of a batch of these items; None if they are not where `with_ids` puts them."""
        return self.datasets[0].ids_in(batch)

    def label_in(self, batch: Any) -> Tensor | None:
        """The labels (B,) of such a batch; None if they are not in their place."""
        return self.datasets[0].label_in(batch)

    def begins(self) -> None:
        """A sampler begins a pass: see which items there are now, as a pool grows while it is labelled.

        Raises:
            ConfigError: if a data set inside has become longer or shorter, so that items have no id, or ids no item.
        """
        for data in self.datasets:
            if (now := len(data.dataset)) != len(data):
                raise ConfigError(
                    f"{type(data.dataset).__name__} had {len(data):,} items when with_ids wrapped it, and has {now:,} "
                    "now: each has had its id since then. Wrap all that there will be once, and draw from a subset "
                    "whose indices may change: Subset(with_ids(dataset), indices)."
                )
        if not self.is_exact:
            return
        found = _look(self._dataset, self.datasets)
        if found is not None and not _are_equal(found, (self._which, self._index)):
            (self._which, self._index), self.is_another = found, True

    def is_asked_for(self, batch: Any) -> None:
        """Note that a sampler has provided this batch, for `check`.

        A wrapper may be asked for its items otherwise than by number, as for an image and its size; then it is not
        known which they are.
        """
        if self.is_checked:
            return
        if np.asarray(batch).ndim == 1 and np.asarray(batch).dtype.kind in "iu":
            self._asked.append(batch)
        elif self.is_exact and not isinstance(self._dataset, WithIds):  # that refuses such an item
            self._is_not_exact(f"is asked for items by {batch[0]!r}, not by their number")

    def _is_not_exact(self, why: str, advice: str = "") -> None:
        self.is_exact = False
        for data in self.datasets:
            data.is_steered = False
        warn(f"{self.name} {why}: its samples are recorded, but discards cannot follow.{advice}")

    def check(self, ids: Tensor) -> None:
        """Compare the ids of the first batch with the items that were asked for. The one time that it reads a batch.

        A wrapper that reads other items than it is asked for is not followed by discards, which is said.

        Raises:
            ConfigError: if they are no ids of these samples: a wrapper lost them, or they come from somewhere else.
        """
        if self.is_checked or not ids.numel():
            return
        self.is_checked = True
        found = Counter(ids.tolist())
        if not set(found) <= set(self.ids().tolist()):
            raise self._are_no_ids(found)
        if not self._asked or not self.is_exact:
            if 2 * len(found) < ids.numel():  # so few different ones are labels
                raise self._are_no_ids(found)
            return
        for indices in self._asked:
            asked = Counter(self.ids(np.asarray(indices, np.int64)).tolist())
            if found <= asked or found.keys() == asked.keys():
                return
        if max(found.values()) > 1:
            raise self._are_no_ids(found)
        self._is_not_exact(
            "reads other items of its with_ids data set than those it is asked for",
            f" Wrap the outermost data set instead: with_ids({self.name}(...)).",
        )

    def _are_no_ids(self, found: Iterable[int]) -> ConfigError:
        first = ", ".join(str(value) for value in sorted(found)[:3])
        return ConfigError(
            f"sample_id {first}, ...: this batch was read from {self.name}, and these are no ids of its samples. A "
            "wrapper around a with_ids data set has to hand on the id of what it reads: x, y, sample_id = "
            "self.dataset[i]; return self.transform(x), y, sample_id. Or wrap the outermost data set: "
            f"with_ids({self.name}(...))."
        )


def drawn_from(dataset: Any) -> Drawn | None:
    """What a data set draws from `with_ids` data sets; None where there is none in it."""
    datasets: list[WithIds] = []
    found = _look(dataset, datasets)
    if found is not None:
        return Drawn(dataset, datasets, *found)
    datasets = list({id(each): each for each in all_inside(dataset) if isinstance(each, WithIds)}.values())
    return Drawn(dataset, datasets, None, None) if datasets else None


def _are_equal(one: tuple[Ids, Ids], other: tuple[Ids | None, Ids | None]) -> bool:
    return all(b is not None and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _look(dataset: Any, datasets: list[WithIds]) -> tuple[Ids, Ids] | None:
    """(n,) which of `datasets` each item is of, and (n,) its index there; None where it is not known of all.

    `datasets` grows by those that are met.
    """
    if isinstance(dataset, WithIds):
        number = next((i for i, known in enumerate(datasets) if known is dataset), len(datasets))
        if number == len(datasets):
            datasets.append(dataset)
        return np.full(len(dataset), number, np.int64), np.arange(len(dataset))
    if isinstance(dataset, ConcatDataset):
        parts = [_look(part, datasets) for part in dataset.datasets]
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        return np.concatenate([which for which, _ in known]), np.concatenate([index for _, index in known])
    if (held := inside(dataset)) is None or (found := _look(held[0], datasets)) is None:
        return None
    which, index = found
    return found if held[1] is None else (which[held[1]], index[held[1]])
