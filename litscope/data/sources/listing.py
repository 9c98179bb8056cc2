"""Listing: what a source holds, before its splits are completed and its reader is made. No torch.

This module also answers two questions that all sources share: how label values become class indices,
and in which order the classes are.
"""

from __future__ import annotations

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
from litscope.data.reading.gaps import NUMBER_GAPS
from litscope.data.shards.index import Index
from litscope.errors import DataError

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"([+-]?[0-9]+)(\.0*)?")
"""A label that is a number: the digits are its name."""


@dataclass
class Listing:
    """N samples, and one of: files under `root`, shards, `pixels` in memory, columns of a table.

    Attributes:
        name: for the person.
        keys: (N,) names; for files the path relative to `root` (or absolute).
        labels: (N,) int64, -1 for none.
        splits: (N,) str objects: train, val, test or "".
        groups: (N,) str objects or None.
        group_column: what names the groups, where there are any.
        extra: other columns for the manifest.
        notes: lines for the person.
        root: folder that the keys start from; of shards none.
        unreadable: folder -> why it is set aside.
        shards: where in shards the samples lie.
        shard_root: folder or address that the names of the shards start from.
        pixels: (N, H, W, K) uint8 or float32.
        features: columns that become features.
        separator: of the CSV file that the features are from.
        categories: names of features that are categories of whole numbers.
        grades, grade_columns: (N, K) shares of the classes, and the columns that they are from; see `soft_labels`.
        encoding: what is needed besides to read new files alike: plain JSON values of the manifest's encoding.
    """

    name: str
    keys: list[str] | pa.Array
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    splits: npt.NDArray[np.object_]
    groups: npt.NDArray[np.object_] | None = None
    group_column: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    root: Path | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    shards: Index | None = None
    shard_root: str = ""
    pixels: npt.NDArray[Any] | None = None
    features: pa.Table | None = None
    separator: str | None = None
    categories: frozenset[str] = frozenset()
    grades: npt.NDArray[np.float64] | None = None
    grade_columns: tuple[str, ...] = ()
    encoding: dict[str, Any] = field(default_factory=dict)


def no_splits(count: int) -> npt.NDArray[np.object_]:
    """(N,) empty strings: the source does not say which sample belongs to which split."""
    return np.full(count, "", dtype=object)


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted names; by value where all are whole numbers, so that 10 comes after 9."""
    unique = set(names)
    if all(name.isascii() and name.removeprefix("-").isdigit() for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))


def group_names(values: pa.ChunkedArray | pa.Array, column: str) -> npt.NDArray[np.object_]:
    """(N,) names of groups; None for a row without one: empty, null, NaN, and the word nan that pandas writes for it.

    Args:
        values: (N,) of any type that has a text; whole floats (integers beside gaps) are as integers.
        column: its name, for messages.

    Raises:
        DataError: for lists and other values that have no text.
    """
    texts, _ = _as_text(values, column, "groups")
    is_gap = pc.equal(pc.utf8_lower(texts), "nan").fill_null(fill_value=True)
    groups: npt.NDArray[np.object_] = pc.if_else(is_gap, pa.scalar(None, pa.string()), texts).to_numpy(
        zero_copy_only=False
    )
    return groups


def index_labels(
    values: pa.ChunkedArray | pa.Array, column: str, is_trained_on: bool = True
) -> tuple[npt.NDArray[np.int64], tuple[str, ...], list[str]]:
    """Label values of any type -> class indices.

    Labels are text, and white space around one is dropped. Where all are numbers, one that is written as 1.0 or +1 (as
    pandas writes integers beside gaps) is 1; 007 and 1e5 stay as they are. Empty, null and NaN mean "no label"; among
    numbers so do NA, None and the like, which among words are classes. A class of such a name has an apostrophe before
    it (`label_text`).

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
    texts, more = _without_gaps(texts, column)
    encoded = texts.dictionary_encode()
    found = [_without_mark(str(name)) for name in encoded.dictionary.to_pylist()]
    names = _whole_numbers(found, column)
    classes = order_classes(names)
    if is_trained_on:
        _check_classes(classes, len(texts) - texts.null_count, len(texts), column)
    position = {name: index for index, name in enumerate(classes)}
    lookup = np.array([position[name] for name in names] + [UNLABELLED], dtype=np.int64)
    codes = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    indices = lookup[codes]
    return indices, classes, [*notes, *more, *look_alikes(classes), *_minus_one(indices, classes, column)]


def label_text(name: str) -> str:
    """How a class is written into the label column of a file, so that `index_labels` finds it there again.

    >>> [label_text(name) for name in ("cat", "nan", "'nan")]
    ['cat', "'nan", "''nan"]
    """
    return f"'{name}" if _may_be_gap(name.lstrip("'")) else name


def _without_mark(text: str) -> str:
    """The class that `label_text` wrote."""
    return text[1:] if text.startswith("'") and _may_be_gap(text.lstrip("'")) else text


def _may_be_gap(name: str) -> bool:
    """Whether a label of this name may mean that there is none."""
    return name != "" and (name.casefold() == "nan" or name in NUMBER_GAPS)


def _minus_one(indices: npt.NDArray[np.int64], classes: tuple[str, ...], column: str) -> list[str]:
    """A line about the class -1 among 0, 1, 2, ...: in other programs it is the mark of a row without a label."""
    others = [name for name in classes if name != "-1"]
    if len(others) == len(classes) or others == ["1"] or not all(name.isascii() and name.isdigit() for name in others):
        return []
    count = int((indices == classes.index("-1")).sum())
    return [
        f"labels: -1 is a class like the others, of {count:,} rows; if it means that a row has no label, leave "
        f"{column!r} empty there (NaN in an array)"
    ]


def _as_text(values: pa.ChunkedArray | pa.Array, column: str, what: str = "labels") -> tuple[pa.Array, list[str]]:
    """(N,) strings without white space around them, null for none."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        array = _whole(pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array))
    try:
        texts = array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"The {what.removesuffix('s')} column {column!r} is of type {array.type}; {what} are text or numbers."
        ) from error
    trimmed = pc.utf8_trim_whitespace(texts)
    num_changed = pc.sum(pc.not_equal(texts, trimmed)).as_py() or 0
    trimmed = pc.utf8_normalize(trimmed, form="NFC")  # two ways to write one accent are one class
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    notes = [f"labels: white space around {num_changed:,} values of {column!r} is dropped"] if num_changed else []
    return trimmed, notes


def _whole(array: pa.Array) -> pa.Array:
    """Floats as integers, where all are whole: 1e+16 is a number that nobody wrote."""
    try:
        return array.cast(pa.int64())
    except pa.ArrowInvalid:
        return array


def _without_gaps(texts: pa.Array, column: str) -> tuple[pa.Array, list[str]]:
    """The texts with null for what means "no label", and lines for the person."""
    names = [name for name in pc.unique(texts).to_pylist() if name is not None]
    gaps = [name for name in names if name.casefold() == "nan"]
    among_numbers = [name for name in names if name in NUMBER_GAPS]
    rest = [name for name in names if name not in gaps and name not in among_numbers]
    if rest and all(_NUMBER.fullmatch(name) for name in rest):
        gaps = sorted({*gaps, *among_numbers})
    if not gaps:
        return texts, []
    is_gap = pc.is_in(texts, value_set=pa.array(gaps, pa.string()))
    num_gaps = pc.sum(is_gap).as_py()
    said = f"labels: {num_gaps:,} values of {column!r} are {' or '.join(map(repr, gaps))}, read as no label"
    return pc.if_else(is_gap, pa.scalar(None, pa.string()), texts), [said]


def _whole_numbers(names: list[str], column: str) -> list[str]:
    """The names; if all are numbers and some are written as 1.0, written as whole numbers."""
    if not all(_NUMBER.fullmatch(name) for name in names):
        return names
    fractions = [name for name in names if not _WHOLE.fullmatch(name) and not float(name).is_integer()]
    if fractions:
        raise DataError(
            f"The label column {column!r} holds fractions such as {fractions[0]}: litscope trains classifiers. "
            "Name a column of classes with --target, or cut the numbers into classes first."
        )
    if all(_WHOLE.fullmatch(name) for name in names):
        return [_WHOLE.sub(r"\1", name.removeprefix("+")) for name in names]
    return names


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
