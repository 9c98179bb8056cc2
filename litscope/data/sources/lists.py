"""CSV, Parquet and `.npz` files -> Listing: lists of images, tables, arrays. No torch.

A file with a column `filepath` (or path, file, filename, image, image_path) is a list of images; any
other one is a table. Order is the file's own: row i gets sample_id i.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.reading import bands
from litscope.data.reading.npz import read_npz
from litscope.data.sources.listing import Listing, index_labels, no_splits
from litscope.data.sources.splits import canonical_split
from litscope.data.sources.tables import column_names, read_table
from litscope.errors import ConfigError, DataError, did_you_mean

PATH_COLUMNS = ("filepath", "path", "file", "filename", "image", "image_path")
LABEL_COLUMNS = ("label", "target", "class")
SPLIT_COLUMN, GROUP_COLUMN = "split", "group"


def path_column(names: list[str]) -> str | None:
    """The column that makes a file a list of images, or None for a table."""
    return next((name for name in PATH_COLUMNS if name in names), None)


def list_rows(path: Path, target: str | None, group_column: str | None, is_trained_on: bool = True) -> Listing:
    """Rows of a CSV or Parquet file that is trained on: a list of images or a table.

    Args:
        path: the file; relative image paths start from its folder.
        target: the label column; None: label, target or class.
        group_column: None: `group`, where it exists.
        is_trained_on: as in `listing.index_labels`.

    Raises:
        DataError, ConfigError: if a column is missing, or its values cannot be used.
    """
    names = column_names(path)
    label_column = _label_column(path, names, target)
    group = _group_column(path, names, group_column)
    paths = path_column([name for name in names if name not in (label_column, group)])
    special = [name for name in (paths, label_column, group, SPLIT_COLUMN) if name]
    table = read_table(path, text_columns=special)
    labels, classes, notes = index_labels(table[label_column], label_column, is_trained_on)
    splits = _splits(path, table) if SPLIT_COLUMN in names else no_splits(table.num_rows)
    others = table.drop_columns([name for name in special if name in names])
    rows = Listing(
        name=path.name,
        keys=image_keys(path, table[paths]) if paths else table_keys(path, table.num_rows),
        labels=labels,
        classes=classes,
        splits=splits,
        groups=_groups(table[group]) if group else None,
        notes=notes,
    )
    if not paths:
        rows.features = others
        return rows
    rows.root, rows.extra = path.parent, dict(zip(others.column_names, others.columns, strict=True))
    num_repeated = len(rows.keys) - len(set(rows.keys))
    if num_repeated:
        rows.notes.append(f"{num_repeated:,} rows repeat a {paths} of an earlier row; they stay in its split")
        rows.groups = rows.groups if rows.groups is not None else np.array(rows.keys, dtype=object)
    return rows


def image_keys(path: Path, column: pa.ChunkedArray) -> list[str]:
    """The paths of images in a list, without white space around them, with "/" as separator."""
    try:
        texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}: the column of image paths is of type {column.type}; paths are text.") from error
    empty = pc.or_(pc.is_null(texts), pc.equal(texts, "")).fill_null(True).to_numpy()
    if empty.any():
        raise DataError(f"{path}: row {int(np.argmax(empty)) + 1} below the header has no image path.")
    return [key.replace("\\", "/").removeprefix("./") for key in texts.to_pylist()]


def table_keys(path: Path, count: int) -> list[str]:
    """Names for rows that have none: the file's name and the row's number, from 0."""
    return [f"{path.name}#{i}" for i in range(count)]


def npz_rows(path: Path, is_trained_on: bool = True) -> Listing:
    """Rows of an `.npz` file: X and y, X_test and y_test or split; also x_train, y_train and so on.

    X of shape (N, F) is a table; (N, H, W), (N, H, W, K) or (N, K, H, W) are images, scaled as `.npy`
    files are.
    """
    arrays = read_npz(path)
    parts = _npz_parts(path, arrays)
    x = _joined(path, [arrays[f"x{suffix}"] for suffix, _ in parts])
    y = np.concatenate([arrays[f"y{suffix}"].ravel() for suffix, _ in parts])
    if len(x) != len(y):
        raise DataError(f"{path}: X has {len(x):,} rows and y has {len(y):,} values.")
    if len(x) == 0:
        raise DataError(f"{path} has no rows.")
    labels, classes, notes = index_labels(pa.array(y.tolist() if y.dtype.kind in "SU" else y), "y", is_trained_on)
    splits = np.concatenate([np.full(len(arrays[f"x{suffix}"]), split, dtype=object) for suffix, split in parts])
    if "split" in arrays:
        splits = _canonical(path, np.array([str(name) for name in arrays["split"]], dtype=object), len(x))
    groups = None
    if "group" in arrays:
        groups = np.array([str(name) for name in arrays["group"]], dtype=object)
        if len(groups) != len(x):
            raise DataError(f"{path}: X has {len(x):,} rows and group has {len(groups):,} values.")
    rows = Listing(path.name, table_keys(path, len(x)), labels, classes, splits, groups, notes=notes)
    if x.ndim == 2:
        rows.features = number_columns(path, x, arrays.get("feature_names"))
    else:
        rows.pixels = image_array(path, x)
    return rows


def image_array(path: Path, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N, H, W), (N, H, W, K) or (N, K, H, W) -> (N, H, W, K) uint8 or float32."""
    if x.ndim == 3:
        x = x[:, :, :, None]
    elif x.ndim != 4:
        raise DataError(f"{path}: X has shape {x.shape}; (N, F) is a table, (N, H, W) or (N, H, W, K) are images.")
    elif x.shape[3] > x.shape[1]:
        x = x.transpose(0, 2, 3, 1)
    try:
        return bands.scale(x)
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error


def number_columns(path: Path, x: npt.NDArray[Any], names: npt.NDArray[Any] | None) -> pa.Table:
    """(N, F) numbers as named columns."""
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: X holds {x.dtype}; features are numbers.")
    if names is not None and len(names) == x.shape[1]:
        return pa.table({str(name): x[:, k] for k, name in enumerate(names)})
    return pa.table({f"x{k}": x[:, k] for k in range(x.shape[1])})


def _label_column(path: Path, names: list[str], target: str | None) -> str:
    if target is not None:
        if target not in names:
            hint = did_you_mean(target, names)
            raise ConfigError(f"--target {target!r} is no column of {path}.{hint} Its columns: {', '.join(names)}.")
        return target
    found = next((name for name in LABEL_COLUMNS if name in names), None)
    if found is None:
        raise DataError(
            f"{path} has no column named {', '.join(LABEL_COLUMNS)}. Say with --target which column holds the label; "
            f"its columns: {', '.join(names)}."
        )
    return found


def _group_column(path: Path, names: list[str], group_column: str | None) -> str | None:
    if group_column is None:
        return GROUP_COLUMN if GROUP_COLUMN in names else None
    if group_column not in names:
        hint = did_you_mean(group_column, names)
        raise ConfigError(
            f"--group-column {group_column!r} is no column of {path}.{hint} Its columns: {', '.join(names)}."
        )
    return group_column


def _splits(path: Path, table: pa.Table) -> npt.NDArray[np.object_]:
    texts = table[SPLIT_COLUMN].cast(pa.string()).fill_null("")
    return _canonical(path, texts.to_numpy(), table.num_rows)


def _canonical(path: Path, names: npt.NDArray[np.object_], count: int) -> npt.NDArray[np.object_]:
    """Split names in our spelling."""
    if len(names) != count:
        raise DataError(f"{path}: {count:,} rows and {len(names):,} splits.")
    known: Mapping[str, str | None] = {name: canonical_split(name) for name in set(names)}
    unknown = sorted(name for name, split in known.items() if split is None)
    if unknown:
        raise DataError(
            f"{path}: the column 'split' holds {', '.join(map(repr, unknown[:5]))}; allowed are train, val, test "
            "and empty."
        )
    return np.array([known[name] for name in names], dtype=object)


def _groups(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """Names of groups; None for a row without one."""
    texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    groups: npt.NDArray[np.object_] = pc.if_else(pc.equal(texts, ""), None, texts).to_numpy()
    return groups


def _npz_parts(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> list[tuple[str, str]]:
    """(suffix of x and y, split) of the parts that a file has."""
    main = "_train" if "x_train" in arrays else ""
    if not {f"x{main}", f"y{main}"} <= arrays.keys():
        raise DataError(f"{path} needs the arrays X and y; it has {', '.join(arrays) or 'none'}.")
    others = [(f"_{name}", split) for name, split in (("val", "val"), ("test", "test")) if f"x_{name}" in arrays]
    lacking = [f"y{suffix}" for suffix, _ in others if f"y{suffix}" not in arrays]
    if lacking:
        raise DataError(f"{path} has no array {', '.join(lacking)}.")
    return [(main, "train" if others else ""), *others]


def _joined(path: Path, parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise DataError(
            f"{path}: the parts of X have different shapes: {', '.join(str(part.shape) for part in parts)}."
        )
    return np.concatenate(parts) if len(parts) > 1 else parts[0]
