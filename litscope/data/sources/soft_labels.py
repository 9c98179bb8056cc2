"""Soft labels: grades of a file -> how likely each class is of each row. No torch.

    one column          g = grade / most, where `most` is what --soft-label-max says, else the largest grade; 1 where no
                        grade is above 1. Of two classes (1 - g, g): g is for the positive one, the second
    several columns     one for each class, such as votes: each row is divided by its sum

A row without a grade has its label as before. The hard label, by which everything is measured, is that of the label
column. Where there is none (or --target none leaves it out), it is the class with the largest share: of one column NAME
the classes are `not NAME` and `NAME`, and from 0.5 on it is the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.manifest import SOFT_LABEL, UNLABELLED
from litscope.data.reading.gaps import NUMBER_GAPS
from litscope.data.sources import numbers
from litscope.data.sources.columns import NONE, Asked
from litscope.data.sources.listing import Listing
from litscope.errors import ConfigError, DataError, did_you_mean

HALF = 0.5
"""From this share on a row without a label column is of the second class."""

Grades = npt.NDArray[np.float64]


def named_columns(path: Path, names: Sequence[str], asked: Asked, label: str | None) -> list[str]:
    """The columns of grades that are asked for.

    Args:
        names: of the file's columns.
        label: the one that holds the label.

    Raises:
        ConfigError: if one is not there, or is the label column.
    """
    for name in asked.soft_labels:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ConfigError(
                f"--soft-label-column {name!r} is no column of {path}.{hint} Its columns: {', '.join(names)}."
            )
        if name == label:
            raise ConfigError(f"--soft-label-column {name!r} is the label column of {path}. --target names another.")
    return list(asked.soft_labels)


def has_no_label_column(asked: Asked, names: Sequence[str], usual: bool) -> bool:
    """Whether the grades alone tell the labels.

    Args:
        names: of the file's columns.
        usual: whether one of them has a usual name of a label column.
    """
    if not asked.soft_labels:
        return False
    return not usual if asked.target is None else asked.target == NONE and NONE not in names


def grades_in(
    path: Path, table: pa.Table, columns: Sequence[str], most: float | None, separator: str | None
) -> tuple[Grades, list[str]]:
    """(N, K) shares from 0 to 1, NaN where a row has none, of one column or of one for each class; lines about them.

    Args:
        most: what a single column is divided by; None: as the module says.
        separator: of the CSV file that the table is from; beside semicolons 0,7 is a number as it is in the features.

    Raises:
        DataError: for a grade that is no number, is below 0 or above `most`.
        ConfigError: for `most` of several columns.
    """
    raw = np.stack([_numbers(path, table[name], name, separator) for name in columns], axis=1)
    for k, name in enumerate(columns):
        wrong = np.flatnonzero(raw[:, k] < 0)
        if len(wrong):
            raise DataError(
                f"{path}: {name!r} is {raw[wrong[0], k]:g} in row {wrong[0] + 1:,} below the header; a grade is 0 or "
                "more."
            )
    if len(columns) > 1:
        if most is not None:
            raise ConfigError(
                f"--soft-label-max {most:g} is for one column; of several each row is divided by its sum. Leave it out."
            )
        sums = raw.sum(1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.where(sums > 0, raw / sums, np.nan)
        return shares, [_counted(f"the columns {', '.join(map(repr, columns))}, each row by its sum", shares)]
    known = raw[~np.isnan(raw)]
    if not len(known):
        raise DataError(f"{path}: the column {columns[0]!r} holds no grade.")
    largest = float(known.max())
    most = most or (1.0 if largest <= 1 else largest)
    if largest > most:
        row = int(np.nanargmax(raw[:, 0]))
        raise DataError(
            f"{path}: {columns[0]!r} is {largest:g} in row {row + 1:,} below the header, above --soft-label-max "
            f"{most:g}."
        )
    shares = raw / most
    return shares, [_counted(f"{columns[0]!r} / {most:g}", shares)]


def labels_of(grades: Grades, columns: Sequence[str]) -> tuple[npt.NDArray[np.int64], tuple[str, ...], list[str]]:
    """The hard labels that the grades alone tell, their classes, and a line about them."""
    is_known = ~np.isnan(grades).any(1)
    if len(columns) == 1:
        classes: tuple[str, ...] = (f"not {columns[0]}", columns[0])
        hard = (np.nan_to_num(grades[:, 0]) >= HALF).astype(np.int64)
        note = f"labels: {classes[1]!r} from a grade of {HALF} on, else {classes[0]!r}"
    else:
        classes = tuple(columns)
        hard = np.nan_to_num(grades).argmax(1)
        note = "labels: the class with the largest share"
    labels = np.where(is_known, hard, UNLABELLED).astype(np.int64)
    if len(np.unique(labels[is_known])) < 2:
        only = classes[int(labels[is_known][0])] if is_known.any() else "none"
        raise DataError(f"The grades make one class only, {only!r}; a classifier needs two.")
    return labels, classes, [note]


def soft_labels(rows: Listing) -> npt.NDArray[np.float32] | None:
    """(N, C) how likely each class is, NaN in rows without a grade; None where nobody asked. Adds notes, and columns
    for the manifest.

    Raises:
        ConfigError: if the columns do not fit the classes.
    """
    grades, columns, classes = rows.grades, rows.grade_columns, rows.classes
    if grades is None:
        return None
    if len(columns) == 1:
        if len(classes) != 2:
            raise ConfigError(
                f"--soft-label-column {columns[0]}: one column is for two classes, and these are {len(classes)}. Give "
                "a column for each class, named as it is."
            )
        soft = np.stack([1 - grades[:, 0], grades[:, 0]], axis=1)
        rows.extra[SOFT_LABEL] = pa.array(soft[:, 1], pa.float32(), from_pandas=True)
        rows.notes.append(f"soft labels: a grade of 1 is {classes[1]!r}, one of 0 {classes[0]!r}")
    else:
        if set(columns) != set(classes):
            odd = sorted(set(columns) ^ set(classes))[0]
            raise ConfigError(
                f"--soft-label-column {','.join(columns)}: there is a column for each class, named as it is; the "
                f"classes are {', '.join(classes)} ({odd!r} is one of the two alone)."
            )
        soft = grades[:, [list(columns).index(name) for name in classes]]
        rows.extra |= {
            f"{SOFT_LABEL}_{name}": pa.array(soft[:, k], pa.float32(), from_pandas=True)
            for k, name in enumerate(classes)
        }
    is_both = (rows.labels >= 0) & ~np.isnan(soft).any(1)
    num_other = int((soft[is_both].argmax(1) != rows.labels[is_both]).sum())
    if num_other:
        rows.notes.append(
            f"soft labels: {num_other:,} of {is_both.sum():,} labels are not the class of the largest share"
        )
    return soft.astype(np.float32)


def put_second(rows: Listing, positive: str) -> None:
    """Make a class the second of two, which is the positive one.

    Raises:
        ConfigError: if there are not two classes, or it is none of them.
    """
    if len(rows.classes) != 2:
        raise ConfigError(
            f"--positive-class {positive}: it is one of two, and {rows.name} has {len(rows.classes)} classes."
        )
    if positive not in rows.classes:
        hint = did_you_mean(positive, rows.classes)
        raise ConfigError(f"--positive-class {positive!r} is none of {', '.join(map(repr, rows.classes))}.{hint}")
    if positive == rows.classes[0]:
        rows.classes = (rows.classes[1], rows.classes[0])
        rows.labels = np.where(rows.labels == UNLABELLED, UNLABELLED, 1 - rows.labels)
    rows.notes.append(f"positive class: {positive!r}")


def _numbers(path: Path, values: pa.ChunkedArray, name: str, separator: str | None) -> Grades:
    """(N,) float64, NaN in gaps."""
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan)
    if numbers.is_text(values.type):
        texts = numbers.known_texts(values, NUMBER_GAPS)
        found = numbers.parse(texts, numbers.recognise(texts, separator == ";")[0])
        odd = np.flatnonzero(pc.and_(pc.is_valid(texts), pc.is_null(found)).to_numpy(zero_copy_only=False))
        if len(odd):
            raise DataError(
                f"{path}: {name!r} is {texts[int(odd[0])].as_py()!r} in row {odd[0] + 1:,} below the header; a grade "
                "is a number."
            )
    elif not (
        pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)
    ):
        raise DataError(f"{path}: the column {name!r} is of type {values.type}; a grade is a number.")
    else:
        found = values
    array: Grades = found.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    if np.isinf(array).any():
        row = int(np.flatnonzero(np.isinf(array))[0]) + 1
        raise DataError(f"{path}: {name!r} is infinite in row {row:,} below the header; a grade is a number.")
    return array


def _counted(what: str, shares: Grades) -> str:
    is_known = ~np.isnan(shares).any(1)
    lacking = f"; {(~is_known).sum():,} rows have none, and keep their label alone" if not is_known.all() else ""
    return f"soft labels: {what}, of {is_known.sum():,} rows{lacking}"
