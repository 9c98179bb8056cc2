"""Data sets inside data sets: what a wrapper draws from, and what all of them together tell about their samples.

A `Subset`, a `ConcatDataset` and a data set of a person's own that only changes the items of another one (the usual
`TransformedSubset(subset, transform)`) are looked through: their items are those of the data set inside.
"""

from __future__ import annotations

import operator
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

Ids = NDArray[np.int64]

_DEPTH = 6
"""How deep `all_inside` looks."""

_MOST = 64
"""Entries of a list or dict in which `all_inside` looks."""


def inside(dataset: Any) -> tuple[Any, Ids | None] | None:
    """The one data set that a `Subset` or a wrapper draws from, and the index there of each of its items.

    A wrapper is a data set that holds exactly one other in its attributes, and is as long as that, or as its own
    attribute `indices`, which then says which items it has.

    Returns:
        The data set and (N,) indices (None: all, in order); None where it is no such data set.
    """
    if isinstance(dataset, Subset):
        return dataset.dataset, np.asarray(dataset.indices, np.int64)
    if isinstance(dataset, ConcatDataset) or not _is_map_style(dataset):
        return None
    held: dict[int, Any] = {id(each): each for each in getattr(dataset, "__dict__", {}).values() if _is_dataset(each)}
    if len(held) != 1 or not _is_map_style(inner := next(iter(held.values()))):
        return None
    indices = _positions(getattr(dataset, "indices", None), len(inner))
    if indices is not None and len(indices) == len(dataset):
        return inner, indices
    return (inner, None) if len(inner) == len(dataset) else None


def positions_of(dataset: Any) -> Ids | None:
    """(N,) the place of each item in the data set at the very inside; None where each is as it stands there."""
    if (found := inside(dataset)) is None:
        return None
    inner, indices = found
    deeper = positions_of(inner)
    return deeper if indices is None else indices if deeper is None else deeper[indices]


def all_inside(held: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """Every data set that one holds somewhere in its attributes, also in lists and dicts, itself included."""
    if _is_dataset(held):
        yield held
        inner = list(getattr(held, "__dict__", {}).values())
    elif isinstance(held, Mapping | list | tuple):
        inner = list(held.values() if isinstance(held, Mapping) else held)[:_MOST]
    else:
        return
    for each in inner if depth else ():
        yield from all_inside(each, depth - 1)


def _is_dataset(value: object) -> bool:
    return isinstance(value, Dataset)


def _is_map_style(dataset: Any) -> bool:
    return hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")


def _positions(values: Any, count: int) -> Ids | None:
    """Indices into a data set of `count` items, if `values` are such."""
    if not isinstance(values, list | tuple | np.ndarray | Tensor | range) or not len(values):
        return None
    array = np.asarray(values)
    is_one = array.ndim == 1 and array.dtype.kind in "iu" and int(array.min()) >= 0 and int(array.max()) < count
    return array.astype(np.int64) if is_one else None


# ---- what data sets tell ---------------------------------------------------------------------------


def keys_of(dataset: Any) -> list[str] | None:
    """Names of the samples that stay the same from run to run, if the data set has them: relative paths."""
    if isinstance(dataset, ConcatDataset):
        parts = [keys_of(part) for part in dataset.datasets]
        return [key for part in parts if part for key in part] if all(parts) else None
    if (own := getattr(dataset, "own_keys", None)) is not None:
        return list(own)
    for name in ("samples", "imgs", "paths", "filenames"):
        found = getattr(dataset, name, None)
        if isinstance(found, list | tuple) and len(found) == len(dataset) and len(found):
            paths = [entry[0] if isinstance(entry, tuple | list) else entry for entry in found]
            if all(isinstance(path, str | os.PathLike) for path in paths):
                root = Path(getattr(dataset, "root", "") or ".").absolute().parent
                return [_relative(os.fspath(path), root) for path in paths]
    if (found := inside(dataset)) is not None and (keys := keys_of(found[0])) is not None:
        return keys if found[1] is None else [keys[i] for i in found[1]]
    return None


def _relative(path: str, root: Path) -> str:
    """Below the folder that holds the data set's root, so that train/ and val/ stay apart."""
    return os.path.relpath(path, root) if Path(path).is_absolute() or Path(path).exists() else path


def labels_of(dataset: Any) -> Ids | None:
    """(N,) class indices if the data set has them without reading its items, else None.

    A wrapper of a person's own may give other labels than the data set inside it, so those are not taken for its own.
    """
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices, np.int64)]
    if isinstance(dataset, ConcatDataset):
        parts = [labels_of(part) for part in dataset.datasets]
        known = [part for part in parts if part is not None]
        return np.concatenate(known) if len(known) == len(parts) else None
    if isinstance(dataset, TensorDataset):
        return _class_indices(dataset.tensors[1], len(dataset)) if len(dataset.tensors) > 1 else None
    for name in ("targets", "labels", "y"):
        if (found := _class_indices(getattr(dataset, name, None), len(dataset))) is not None:
            return _transformed(dataset, found)
    return None


def _transformed(dataset: Any, labels: Ids) -> Ids | None:
    """What the data set's `target_transform` makes of its labels; None if that is no class index."""
    if getattr(dataset, "target_transform", None) is None:
        return labels
    stored, where = np.unique(labels, return_inverse=True)
    given = _given(dataset.target_transform, stored.tolist())
    return None if given is None else np.array(given, np.int64)[where.reshape(-1)]


def _given(transform: Callable[[int], Any], stored: Sequence[int]) -> list[int] | None:
    """What a `target_transform` makes of class indices, if it makes class indices. Random numbers stay as they were."""
    state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            given = [operator.index(transform(label)) for label in stored]
    except Exception:  # noqa: BLE001 - made for labels of another kind; the rows will tell
        return None
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
    return given if all(label >= 0 for label in given) else None


def _class_indices(values: Any, count: int) -> Ids | None:
    if not isinstance(values, Tensor | np.ndarray | list | tuple) or len(values) != count:
        return None
    array = np.asarray(values)
    if array.dtype.kind == "f" and np.isin(array, (0, 1)).all():  # as a binary loss wants them; others may be anything
        array = array.astype(np.int64)
    array = array.reshape(-1) if array.shape == (count, 1) else array
    is_index = array.ndim == 1 and array.dtype.kind in "iu" and (not count or array.min() >= 0)
    return array.astype(np.int64) if is_index else None


def classes_of(dataset: Any) -> tuple[str, ...] | None:
    """Names of the classes, if the data set has them."""
    if isinstance(dataset, Subset):
        return classes_of(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return classes_of(dataset.datasets[0]) if dataset.datasets else None
    names: Sequence[Any] | None = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
        transform = getattr(dataset, "target_transform", None)
        given = list(range(len(names))) if transform is None else _given(transform, range(len(names)))
        if given is None or sorted(given) != list(range(len(names))):
            return None  # several classes became one
        return tuple(names[given.index(label)] for label in range(len(names)))
    found = inside(dataset)
    return None if found is None else classes_of(found[0])
