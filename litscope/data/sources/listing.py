"""Listing: what a source holds, before its splits are completed and its reader is made. No torch.

This module also answers two questions that all sources share: how label values become class indices,
and in which order the classes are.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.manifest import UNLABELLED
from litscope.errors import DataError


@dataclass
class Listing:
    """N samples, and one of: files under `root`, `pixels` in memory, columns of a table.

    Attributes:
        name: for the person.
        keys: (N,) names; for files the path relative to `root` (or absolute).
        labels: (N,) int64, -1 for none.
        splits: (N,) str objects: train, val, test or "".
        groups: (N,) str objects or None.
        extra: other columns for the manifest.
        notes: lines for the person.
        root: folder that the keys start from.
        unreadable: folder -> why it is set aside.
        pixels: (N, H, W, K) uint8 or float32.
        features: columns that become features.
    """

    name: str
    keys: list[str]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    splits: npt.NDArray[np.object_]
    groups: npt.NDArray[np.object_] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    root: Path | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    pixels: npt.NDArray[Any] | None = None
    features: pa.Table | None = None


def no_splits(count: int) -> npt.NDArray[np.object_]:
    """(N,) empty strings."""
    return np.full(count, "", dtype=object)


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted names; by value where all are whole numbers, so that 10 comes after 9."""
    unique = set(names)
    if all(name.isascii() and name.removeprefix("-").isdigit() for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))


def index_labels(
    values: pa.ChunkedArray | pa.Array, column: str, is_trained_on: bool = True
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], list[str]]:
    """Label values of any type -> class indices.

    Empty, null and NaN mean "no label"; white space around a label is dropped; 0.0 and 1.0 (as pandas
    writes integers beside gaps) are 0 and 1.

    Args:
        values: (N,) strings, numbers or booleans.
        column: name of the column, for messages.
        is_trained_on: refuse labels that nothing can be learned from.

    Returns:
        (N,) int64 with -1 for no label, the classes, and lines for the person.

    Raises:
        DataError: if no row has a label, all have the same one, labels are fractions, or nearly every
            row has a label of its own.
    """
    texts, notes = _as_text(values, column)
    encoded = texts.dictionary_encode()
    found = [str(name) for name in encoded.dictionary.to_pylist()]
    names = _whole_numbers(found, column)
    classes = order_classes(names)
    if is_trained_on:
        _check_classes(classes, len(texts) - texts.null_count, len(texts), column)
    position = {name: index for index, name in enumerate(classes)}
    lookup = np.array([position[name] for name in names] + [UNLABELLED], dtype=np.int64)
    codes = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    notes += look_alikes(classes)
    return lookup[codes], classes, notes


def _as_text(values: pa.ChunkedArray | pa.Array, column: str) -> tuple[pa.Array, list[str]]:
    """(N,) strings without white space around them, null for no label."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    try:
        texts = array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"The label column {column!r} is of type {array.type}; labels are text or numbers.") from error
    trimmed = pc.utf8_trim_whitespace(texts)
    num_changed = pc.sum(pc.not_equal(texts, trimmed)).as_py() or 0
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    notes = [f"labels: white space around {num_changed:,} values of {column!r} is dropped"] if num_changed else []
    return trimmed, notes


def _whole_numbers(names: list[str], column: str) -> list[str]:
    """The names; if all are numbers and some are written as 1.0, written as whole numbers."""
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return names
    if not all(math.isfinite(number) for number in numbers):
        return names
    fractions = [name for name, number in zip(names, numbers, strict=True) if number != int(number)]
    if fractions:
        raise DataError(
            f"The label column {column!r} holds fractions such as {fractions[0]}: litscope trains classifiers. "
            "Name a column of classes with --target, or cut the numbers into classes first."
        )
    if all(name.removeprefix("-").isdigit() for name in names):
        return names
    return [str(int(number)) for number in numbers]


def _check_classes(classes: tuple[str, ...], num_labelled: int, num_rows: int, column: str) -> None:
    if not classes:
        raise DataError(
            f"None of the {num_rows:,} rows has a label in the column {column!r}. "
            "Fill it in for the rows to train on, or name another column with --target."
        )
    if len(classes) == 1:
        raise DataError(f"All labels in {column!r} are {classes[0]!r}; a classifier needs at least two classes.")
    if num_labelled >= 50 and len(classes) > num_labelled / 2:
        raise DataError(
            f"The label column {column!r} has {len(classes):,} different values in {num_labelled:,} rows, so it looks "
            "like a name or a quantity, not a class. Name the column of classes with --target."
        )


def look_alikes(classes: tuple[str, ...]) -> list[str]:
    """Lines about classes whose names a person can hardly tell apart."""
    by_folded = defaultdict(list)
    for name in classes:
        by_folded[_folded(name)].append(name)
    notes = []
    for names in by_folded.values():
        if len(names) > 1:
            how = "differ only in case" if len({name.casefold() for name in names}) == 1 else "look alike"
            notes.append(f"labels: {' and '.join(map(repr, names))} {how} and are different classes")
    return notes


def _folded(name: str) -> str:
    """A name without case, ligatures, invisible letters, and what stands between its words."""
    visible = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", unicodedata.normalize("NFKC", visible).casefold()).strip()
