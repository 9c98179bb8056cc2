"""with_ids: a map-style data set whose items carry their sample_id."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from litscope.errors import ConfigError, DataError
from litscope.watch.samples.nesting import Ids, all_inside, keys_of

Place = Literal["last", "second"]

LABEL_KEYS = ("label", "labels", "target", "targets", "y")
"""Where an item that is a dict may have its label."""

_UNCHANGED = -1


def with_ids(
    dataset: Any, *, place: Place = "last", keys: Sequence[str] | None = None, label: int | str | None = None
) -> WithIds:
    """Wrap a data set so that every item carries its `sample_id`.

    Args:
        dataset: map-style: it has a length and takes an index.
        place: where the id goes in an item that is a tuple: `(x, y, id)`, or "second": `(x, id, y)`, in place of the
            second part where an item has three or more already. A dict gets the key `sample_id`, anything else x
            becomes `(x, id)`.
        keys: a name for each sample that stays the same from run to run; default: what the data set tells (paths of
            an ImageFolder and the like), else `train/00042`.
        label: index or key of an item's label (before the id is put in), so that a relabelled sample gets its new one;
            default: 1 (2 where the id takes the place of the second part), or the first of label, labels, target,
            targets and y that is there.

    A data set that `with_ids` made comes back itself.

    Raises:
        ConfigError: if the data set has no length, the keys do not match it or name two samples alike, or it is to be
            wrapped once more in another way.
    """
    if isinstance(dataset, WithIds):
        if (place, keys, label) == ("last", None, None):
            return dataset
        raise ConfigError("with_ids(with_ids(dataset), ...): its items carry ids already. Give all options at once.")
    return WithIds(dataset, place, keys, label)


class WithIds(Dataset[Any]):
    """A data set whose items carry their id; see `with_ids`.

    Attributes:
        dataset: the one that is wrapped.
        first_id: the least `sample_id` of its items; set when a run takes it up.
        is_discarded: (N,) bool: items that the samplers leave out. They run in the training process, not in workers.
        has_discarded: whether any item is discarded.
        is_over: whether its samplers stop, because somebody asked to end a run that has no other end.
        is_steered: whether a sampler that follows it draws from it.
        own_keys: what it was given as `keys`, or None.
        known_by: number of the part of a run (`Part.number`) whose samples its items are; None before any run.
    """

    def __init__(self, dataset: Any, place: Place, keys: Sequence[str] | None, label: int | str | None) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ConfigError(
                f"with_ids takes a map-style data set, with a length and an index; {type(dataset).__name__} is none. "
                'Have an iterable one yield ids of its own, and return them as "sample_id" from the step.'
            )
        if place not in ("last", "second"):
            raise ConfigError(f"place={place!r}: it is 'last' or 'second'.")
        if keys is not None and len(keys) != len(dataset):
            raise ConfigError(f"{len(keys)} keys for a data set of {len(dataset)} samples.")
        if keys is not None and len(set(keys)) != len(keys):
            twice = next(key for key, count in Counter(keys).items() if count > 1)
            raise ConfigError(f"keys has {twice!r} more than once: each sample needs a key of its own.")
        self.dataset = dataset
        self.first_id = 0
        self.is_discarded: NDArray[np.bool_] = np.zeros(len(dataset), bool)
        self.has_discarded = False
        self.is_over = False
        self.is_steered = False
        self._place = place
        self.own_keys = None if keys is None else [str(key) for key in keys]
        self.known_by: int | None = None
        self._label = label
        self._offsets: Ids | None = None
        self._reads_together = True
        self._has_inner: bool | None = None
        # Worker processes see what is written here: it is shared memory, even if they are spawned.
        with torch.inference_mode(False):  # made in the middle of a validation, it must stay writable
            labels = torch.full((len(dataset),), _UNCHANGED, dtype=torch.int64)
            self._relabelled = labels.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.is_discarded)

    def __getitem__(self, index: int) -> Any:
        return self._with_id(self.dataset[index], index)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Several items at once, which some data sets read faster."""
        items = self._read_together(indices)
        if items is None:
            items = [self.dataset[index] for index in indices]
        return [self._with_id(item, index) for item, index in zip(items, indices, strict=True)]

    def _read_together(self, indices: list[int]) -> list[Any] | None:
        """The items, if the data set reads several at once. A `__getitems__` that takes a single index does not."""
        read = getattr(self.dataset, "__getitems__", None)
        if read is None or not self._reads_together:
            return None
        try:
            items = read(indices)
        except Exception:  # noqa: BLE001 - if it is the data's fault, reading one by one raises it again
            items = None
        self._reads_together = isinstance(items, list) and len(items) == len(indices)
        return items if self._reads_together else None

    def _with_id(self, item: Any, index: int) -> Any:
        try:
            index = operator.index(index)
        except TypeError:
            raise ConfigError(
                f"A sampler asks for the item {index!r}, and with_ids knows items by whole numbers only. Put it "
                "inside a data set that takes such an index and reads x, y, sample_id = self.dataset[i]."
            ) from None
        index += len(self) if index < 0 else 0
        label = int(self._relabelled[index])
        if label != _UNCHANGED:
            item = self._with_label(item, label)
        sample_id = self.first_id + (index if self._offsets is None else int(self._offsets[index]))
        if isinstance(item, Mapping):
            if "sample_id" in item and not self._carries_ids_inside():
                raise ConfigError(
                    "Items have a sample_id of their own, which that of with_ids would replace. Give it another name, "
                    "or leave with_ids away and return yours as sample_id: it is recorded, but discards cannot follow."
                )
            return {**item, "sample_id": sample_id}
        if not isinstance(item, tuple | list):
            return item, sample_id
        if self._place == "last":
            return (*item, sample_id)
        return (item[0], sample_id, *item[1 if len(item) < 3 else 2 :])

    def _carries_ids_inside(self) -> bool:
        if self._has_inner is None:
            self._has_inner = any(isinstance(each, WithIds) for each in all_inside(self.dataset))
        return self._has_inner

    def ids_in(self, batch: Any) -> Tensor | None:
        """The ids (B,) of a batch that a DataLoader made of these items; None if they are not in their place."""
        if isinstance(batch, Mapping):
            found = batch.get("sample_id")
        elif isinstance(batch, tuple | list) and len(batch) > 1:
            found = batch[-1] if self._place == "last" else batch[1]
        else:
            found = None
        return found if isinstance(found, Tensor) and found.dtype is torch.int64 and found.ndim == 1 else None

    def label_in(self, batch: Any) -> Tensor | None:
        """The labels of such a batch, in whatever shape they are; None if they are not in their place."""
        if isinstance(batch, Mapping):
            # a collate_fn may have given them another name
            name = self._label if self._label in batch else next((k for k in LABEL_KEYS if k in batch), None)
            found = batch.get(name)
        elif isinstance(batch, tuple | list):
            found = self._label_of(batch)
        else:
            found = None
        return found if isinstance(found, Tensor) else None

    def is_known_as(self, first_id: int, offsets: Ids) -> None:
        """Give the items the ids that a run knows them by.

        Args:
            first_id: the least of them.
            offsets: (N,) what each item's id is above it.
        """
        self.first_id = first_id
        self._offsets = None if np.array_equal(offsets, np.arange(len(offsets))) else offsets

    def ids(self, indices: Ids | None = None) -> Ids:
        """The `sample_id` of items, by index; None: of all."""
        offsets = np.arange(len(self), dtype=np.int64) if self._offsets is None else self._offsets
        return self.first_id + (offsets if indices is None else offsets[indices])

    def _indices(self, ids: Ids) -> Ids:
        """The items that have these ids."""
        if self._offsets is None:
            return ids - self.first_id
        return np.argsort(self._offsets)[ids - self.first_id]

    def item_of(self, sample_id: int) -> Any:
        """The item of the data set inside, as that gives it: without its id, and with its own label."""
        return self.dataset[int(self._indices(np.array([sample_id], np.int64))[0])]

    def leave_out(self, ids: Ids) -> None:
        """Discard the items of these ids, and only these."""
        self.is_discarded[:] = False
        self.is_discarded[self._indices(ids)] = True
        self.has_discarded = bool(len(ids))

    def _label_of(self, batch: Any) -> Any:
        """The labels in a batch of tuples, or None if it has none."""
        if self._place == "last":
            at = 1 if self._label is None else int(self._label)
            return batch[at] if at < len(batch) - 1 else None
        at = 2 if self._label is None else max(2, int(self._label))
        return batch[at] if at < len(batch) else None

    def relabel(self, labels: Mapping[int, int]) -> None:
        """Give items other labels, by `sample_id`; they replace all labels given before."""
        self._relabelled.fill_(_UNCHANGED)
        if labels:
            indices = self._indices(np.array(list(labels), np.int64))
            self._relabelled[indices.tolist()] = torch.tensor(list(labels.values()))

    def names(self) -> list[str] | None:
        """(N,) a stable name of each sample, if it was given or the data set has one."""
        return keys_of(self)

    def _with_label(self, item: Any, label: int) -> Any:
        place: Any = self._label
        if isinstance(item, Mapping):
            place = place if place is not None else next((key for key in LABEL_KEYS if key in item), None)
            if place in item:
                return {**item, place: _like(item[place], label)}
        elif isinstance(item, tuple | list):
            place = (2 if self._place == "second" and len(item) > 2 else 1) if place is None else place
            if isinstance(place, int) and place < len(item):
                return (*item[:place], _like(item[place], label), *item[place + 1 :])
        raise DataError(
            f"A sample was relabelled, but its item ({type(item).__name__}) has no label at {place!r}. Say where it "
            "is: with_ids(dataset, label=INDEX or KEY)."
        )


def _like(old: Any, label: int) -> Any:
    """A label in the form of the one that an item has: a number of its type, or one-hot.

    Raises:
        DataError: if it is neither.
    """
    if isinstance(old, Tensor | np.ndarray) and math.prod(old.shape) > 1:
        if old.ndim > 1 or label >= len(old) or sorted(old.tolist()) != [0] * (len(old) - 1) + [1]:
            raise DataError(
                f"A sample was relabelled, but its item's label, of shape {tuple(old.shape)}, is neither a class index "
                "nor one-hot, so it cannot be given another class."
            )
        new = old * 0
        new[label] = 1
        return new
    if isinstance(old, Tensor):
        return torch.full_like(old, label)
    if isinstance(old, np.ndarray):
        return np.full_like(old, label)
    return type(old)(label) if isinstance(old, float | np.generic) else label


def numbered(split: str, index: int) -> str:
    """The name of a sample without one of its own."""
    return f"{split}/{index:05d}"
