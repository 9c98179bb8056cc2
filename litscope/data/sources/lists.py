"""CSV and Parquet files -> Listing: lists of images, and tables. No torch.

A file with a column of image paths is a list of images, any other one is a table; `columns` tells which column is what.
Order is the file's own: row i gets sample_id i.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.data.sources import columns, soft_labels
from litscope.data.sources.arrays import table_keys
from litscope.data.sources.columns import GROUP_COLUMN, NONE, Asked
from litscope.data.sources.image_files import check_some, image_keys
from litscope.data.sources.listing import Listing, group_names, index_labels, no_splits
from litscope.data.sources.splits import canonical_names, canonical_split
from litscope.data.sources.table_files import TableFile, open_table
from litscope.errors import ConfigError, DataError

KEY_COLUMN = "key"
"""Where `litscope export` writes the keys that samples had in their run, `litscope features` those of its images."""

FIRST_FEATURE = "f0"
"""Beside `KEY_COLUMN`: the file is one of `litscope features`, a table whose rows have the names of images."""


def list_rows(path: Path, asked: Asked, is_trained_on: bool = True) -> Listing:
    """Rows of a CSV or Parquet file that is trained on: a list of images or a table.

    Args:
        path: the file.
        asked: what the person says about its columns.
        is_trained_on: as in `listing.index_labels`.

    Raises:
        DataError, ConfigError: if a column is missing, or its values cannot be used.
    """
    file = open_table(path)
    label = None
    if not soft_labels.has_no_label_column(asked, file.names, columns.has_usual_label(file.names)):
        try:
            label = columns.label_column(path, file.names, asked.target)
        except DataError as error:
            raise DataError(f"{error}{_one_hot_hint(file)}") from None
    graded = soft_labels.named_columns(path, file.names, asked, label)
    group = columns.named_group(path, file.names, asked.group_column)
    split = columns.split_column([name for name in file.names if name not in (label, group)])
    special = [name for name in (label, group, split) if name]
    root = _root(path, asked)
    table, image, notes = _read(file, special, root, asked)
    if image is None and asked.image_root is not None:
        raise ConfigError(f"--image-root: {path} has no column of image paths. Name it with --image-column.")
    if image and group is None and asked.group_column is None and GROUP_COLUMN in table.column_names:
        group = GROUP_COLUMN
        notes.append(f"rows of one {group!r} stay in one split (--group-column none: they need not)")
    grades = None
    if graded:
        grades, more = soft_labels.grades_in(path, table, graded, asked.soft_label_max, file.separator)
        notes += more
    if label is None:
        assert grades is not None
        labels, classes, more = soft_labels.labels_of(grades, graded)
    else:
        labels, classes, more = index_labels(table[label], label, is_trained_on)
    splits = no_splits(table.num_rows)
    if split is not None:
        splits, split = _splits(path, table, split)
    notes += more
    others = table.drop_columns([name for name in (label, group, split, image) if name])
    if image is None:
        others = others.drop_columns(graded)
    others, more = _without_index(others, file.index)
    if image is None and more and not others.column_names:
        raise DataError(_nothing_left(path, table.column_names, special, more))
    keys = table_keys(path, table.num_rows)
    if image is None and _names_rows(others):
        keys, others = others[KEY_COLUMN].to_pylist(), others.drop_columns([KEY_COLUMN])
    if image:
        keys, found = image_keys(path, table[image], root)
        notes += found
        root, keys = _as_exported(root, keys, others)
    rows = Listing(
        name=path.name,
        keys=keys,
        labels=labels,
        classes=classes,
        splits=splits,
        groups=group_names(table[group], group) if group else None,
        group_column=group or "",
        notes=[*file.notes, *notes, *more],
        grades=grades,
        grade_columns=tuple(graded),
    )
    if image is None:
        rows.features, rows.separator, rows.categories = others, file.separator, file.categories
        if GROUP_COLUMN in others.column_names and asked.group_column is None:
            rows.notes.append(
                f"column {GROUP_COLUMN!r} is a feature; if it tells which rows belong together, give "
                f"--group-column {GROUP_COLUMN}, and they stay in one split"
            )
        return rows
    rows.root, rows.extra = root, dict(zip(others.column_names, others.columns, strict=True))
    rows.encoding["image_column"] = image
    num_repeated = len(rows.keys) - len(set(rows.keys))
    if num_repeated:
        rows.notes.append(f"{num_repeated:,} rows repeat a {image} of an earlier row; they stay in its split")
        if rows.groups is None:
            rows.groups, rows.group_column = np.array(rows.keys, dtype=object), image
    return rows


def listed_images(path: Path, asked: Asked, trained_on: str | None) -> tuple[list[str], dict[str, Any], list[str]]:
    """The images of a list that a trained network has never seen.

    Args:
        path: the list.
        asked: what the person says about it.
        trained_on: the column of image paths in the run's own list.

    Returns:
        (N,) paths, whole or from the working directory; the other columns; and lines for the person.

    Raises:
        ConfigError, DataError: if it has no column of image paths, or they cannot be used.
    """
    file = open_table(path)
    if asked.image_column is None and trained_on in file.names:
        asked = Asked(image_column=trained_on, image_root=asked.image_root)
    root = _root(path, asked)
    table, image, notes = _read(file, [], root, asked)
    if image is None:
        raise DataError(
            f"{path} has no column filepath, and the model reads images; its columns: {', '.join(file.names)}. "
            "Name the one that holds their paths with --image-column."
        )
    keys, found = image_keys(path, table[image], root)
    check_some(root, keys)
    others = table.drop_columns([image])
    return (
        [str(root / key) for key in keys],
        dict(zip(others.column_names, others.columns, strict=True)),
        [*file.notes, *notes, *found],
    )


def _one_hot_hint(file: TableFile) -> str:
    """What is said of a file whose labels may be in several columns; "" where nothing is."""
    try:
        return columns.one_hot_hint(file.read())
    except DataError:  # there is no label column, which is said already
        return ""


def _root(path: Path, asked: Asked) -> Path:
    """The folder that relative image paths start from."""
    if asked.image_root is None:
        return path.parent
    root = Path(asked.image_root).expanduser()
    if not root.is_dir():
        raise ConfigError(f"--image-root {asked.image_root}: there is no such folder.")
    return root


def _as_exported(root: Path, paths: list[str], others: pa.Table) -> tuple[Path, list[str]]:
    """The root and keys of a list that `litscope export` wrote: samples keep the keys that they had in that run.

    Such a list has whole paths, and in a column `key` the end of each, all below one folder. With other lists, the
    root and paths that were given.
    """
    names = others[KEY_COLUMN].to_pylist() if KEY_COLUMN in others.column_names else []
    if not names or not all(isinstance(name, str) and name for name in names):
        return root, paths
    folder = paths[0].removesuffix(f"/{names[0]}") or "/"
    is_below = Path(folder).is_absolute() and folder != paths[0]
    if not is_below or any(path != f"{folder.rstrip('/')}/{name}" for path, name in zip(paths, names, strict=True)):
        return root, paths
    return Path(folder), names


def _names_rows(table: pa.Table) -> bool:
    """Whether a table is one of features, with a name for each row."""
    if not {KEY_COLUMN, FIRST_FEATURE} <= set(table.column_names):
        return False
    keys = table[KEY_COLUMN]
    return bool(pa.types.is_string(keys.type)) and keys.null_count == 0


def _read(file: TableFile, special: list[str], root: Path, asked: Asked) -> tuple[pa.Table, str | None, list[str]]:
    """The table, its column of image paths (None: it has none), and lines for the person."""
    names = [name for name in file.names if name not in special]
    named = columns.named_image(file.path, names, asked.image_column)
    if named is not None:
        return file.read([*special, named]), named, []
    if {KEY_COLUMN, FIRST_FEATURE} <= set(names):
        return file.read([*special, KEY_COLUMN]), None, []
    candidates = [] if asked.image_column == NONE else columns.image_candidates(names)
    table = file.read([*special, *candidates])
    found = [name for name in candidates if columns.holds_paths(table[name], root, is_sure=True)]
    if found:
        also = "".join(f"; {name!r} holds paths too (--image-column {quote(name)})" for name in found[1:])
        return table, found[0], [f"the images are those of the column {found[0]!r}{also}"] if also else []
    if candidates:  # they are no paths: read them as what they are
        table = file.read(special)
    others = [name for name in table.column_names if name not in special]
    hidden = [name for name in others if columns.holds_paths(table[name], root, is_sure=False)]
    if hidden and asked.image_column == NONE:
        notes = [f"column {name!r} holds image paths and is left out (--image-column none)" for name in hidden]
        return table.drop_columns(hidden), None, notes
    if hidden:
        raise DataError(
            f"{file.path}: the column {hidden[0]!r} holds image paths ({table[hidden[0]][0]}). To train on the images "
            f"give --image-column {quote(hidden[0])}; to train on the other columns, --image-column none."
        )
    return table, None, []


def _nothing_left(path: Path, names: list[str], special: list[str], left_out: list[str]) -> str:
    """What is said of a table whose every column numbers its rows: they may be names of images without a suffix."""
    said = f"{path} has no column to learn from: {'; '.join(left_out)}."
    for image in columns.image_candidates([name for name in names if name not in special])[:1]:
        said += f" If {image!r} names images: --image-column {quote(image)}, and --image-root for their folder."
    return said


def _without_index(table: pa.Table, of_pandas: list[str]) -> tuple[pa.Table, list[str]]:
    """The table without the columns that number its rows, and lines for the person."""
    index = columns.index_columns(table, of_pandas)
    notes = [f"column {name!r} numbers or names the rows and is left out" for name in index]
    return table.drop_columns(index), notes


def _splits(path: Path, table: pa.Table, column: str) -> tuple[npt.NDArray[np.object_], str | None]:
    """(N,) splits, and the column if it holds them: one that is only written alike may hold something else."""
    texts = table[column].cast(pa.string()).fill_null("").to_numpy()
    if column != columns.SPLIT_COLUMN and any(canonical_split(name) is None for name in set(texts)):
        return no_splits(len(texts)), None
    return canonical_names(path, texts, table.num_rows), column
