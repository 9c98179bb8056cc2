"""What `--dataset` may name -> a Source: manifest, reader, and lines for the person. No torch.

    digits, iris, breast_cancer, mnist, ...      named.py
    a folder                                     folders.py
    a CSV, Parquet or .npz file                  lists.py, tables.py, arrays.py
    a folder of shards, or its index             sharded.py
    addresses of shards, s3://bucket/prefix/     addressed.py

A name always means the named data set; write `./digits` for a folder of that name. `new` opens new data for a trained
model, by the `encoding` that the manifest keeps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.data.manifest import UNLABELLED, Manifest, build_manifest, in_one_piece
from litscope.data.reading import bands, fits
from litscope.data.reading.digests import table_digests
from litscope.data.reading.readers import ArrayReader, FileReader, Reader
from litscope.data.shards.index import index_of
from litscope.data.shards.reader import ShardReader
from litscope.data.sources import splits
from litscope.data.sources.arrays import npz_rows
from litscope.data.sources.columns import NONE, Asked
from litscope.data.sources.folders import list_folder
from litscope.data.sources.headers import look_at_headers, look_at_shapes
from litscope.data.sources.listing import Listing
from litscope.data.sources.lists import list_rows
from litscope.data.sources.named import named_in, open_named
from litscope.data.sources.names import NAMES, TABLE_SUFFIXES, require_dataset
from litscope.data.sources.shard_names import is_addressed
from litscope.data.sources.sharded import list_addressed, list_shards, shard_reader
from litscope.data.sources.soft_labels import put_second, soft_labels
from litscope.data.sources.tables import (
    encode,
    feature_names,
    fit_encoding,
    infinite_cells,
)
from litscope.errors import ConfigError, DataError

_PLAIN = {"name", "type", "values", "median", "indicator"}
"""What is known of a column of numbers whose rows teach nothing but a median."""


@dataclass
class Source:
    """Samples that can be read.

    Attributes:
        manifest: ids, keys, labels, splits; its `encoding` opens new data in the same way.
        reader: sample_id -> pixels or features.
        kind: image or table.
        name: for the person.
        notes: lines for the person.
        folds: (N,) int64, the fold of each sample (-1: in none), where folds were asked for and none validates.
        digests: (N,) 16 bytes, of the rows of a table as they were read, and of images in shards; else None.
        unreadable: folder -> why it is set aside, with all that it holds.
        infinite: columns of a table with infinite cells, which are read as gaps -> how many they are.
        group_column: what names the groups, where there are any.
        soft_labels: (N, C) float32, how likely each class is, NaN in rows without a grade; None where nobody asked.
        wanted: split -> the share of the labelled samples that was asked for, of those that were drawn.
        uneven: columns of a table that become other features if they are learned without one of the `folds`.
    """

    manifest: Manifest
    reader: Reader
    kind: Literal["image", "table"]
    name: str
    notes: list[str] = field(default_factory=list)
    folds: npt.NDArray[np.int64] | None = None
    digests: pa.Array | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    infinite: dict[str, int] = field(default_factory=dict)
    group_column: str = ""
    soft_labels: npt.NDArray[np.float32] | None = None
    wanted: dict[str, float] = field(default_factory=dict)
    uneven: tuple[str, ...] = ()

    @property
    def encoding(self) -> dict[str, Any]:
        """Plain JSON values: `kind`, then for images `channels`, `dtype`; for tables `columns`, `feature_names`."""
        return self.manifest.encoding


def open_source(
    dataset: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] = "data",
    target: str | None = None,
    val_split: float = 0.1,
    test_split: float = 0.0,
    group_column: str | None = None,
    image_column: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    channels: Literal["first", "last"] | None = None,
    positive_class: str | None = None,
    soft_label_column: Sequence[str] = (),
    soft_label_max: float | None = None,
    fits_stretch: fits.Stretch | None = None,
    fits_limits: Sequence[float] = (),
    seed: int = 42,
    download: bool = True,
    folds: splits.Folds | None = None,
    cache_dir: Path | None = None,
) -> Source:
    """Open a data set to train on. Every labelled row is in train, val or test afterwards.

    Args:
        dataset: a name, a folder, or a CSV, Parquet or .npz file.
        data_dir: where named data sets lie.
        target: label column of a CSV or Parquet file. Default: label, target or class.
        val_split, test_split: shares of the training data set aside where the data bring no such split.
        group_column: rows of one value stay in one split. Default: group, where a list of images has it.
        image_column: holds the paths of a list of images; "none": the file is a table. Default: by name and values.
        image_root: the folder that the relative paths of a list start from. Default: that of the list.
        channels: the axis of images in .npz and .npy files that is the channels. Default: as the shape says.
        positive_class: the second of two classes, which is the positive one. Default: as their names are ordered.
        soft_label_column, soft_label_max: grades of a CSV or Parquet file; see `soft_labels`.
        fits_stretch, fits_limits: how FITS images become numbers from 0 to 1; see `reading.fits`. Default: asinh, and
            limits of each band's own.
        seed: of the splits.
        download: fetch a named data set that is not under `data_dir`.
        folds: of cross-validation, instead of `val_split`.
        cache_dir: where the indices of shards elsewhere are kept; None for the usual place.

    Raises:
        DataError: if it does not exist, or cannot be trained on as it is.
        ConfigError: if a share is out of range, or a column is named that does not exist.
    """
    soft = tuple(soft_label_column)
    asked = Asked(target, group_column, image_column, image_root, channels, soft, soft_label_max)
    rows = read_rows(os.fspath(dataset), Path(data_dir).expanduser(), asked, download, cache_dir=cache_dir)
    check_axis(rows, channels)
    if not len(rows.keys):
        raise DataError(f"{rows.name} has no rows.")
    if positive_class is not None:
        put_second(rows, positive_class)
    graded = soft_labels(rows)
    wanted = splits.drawn(rows.labels, rows.splits, val_split=val_split, test_split=test_split, folds=folds)
    rows.splits, notes = splits.assign(
        rows.labels,
        rows.splits,
        rows.groups,
        val_split=val_split,
        test_split=test_split,
        seed=seed,
        folds=folds,
    )
    rows.notes += notes
    rule = _rule(rows, fits_stretch, fits_limits)
    reader, encoding = _reader(rows, channels, rule)
    manifest = build_manifest(
        rows.keys,
        rows.labels,
        rows.classes,
        splits=rows.splits,
        groups=rows.groups,
        extra=rows.extra,
        encoding=encoding,
    )
    numbers, uneven = None, tuple[str, ...]()
    if folds is not None and folds.number is None:
        numbers = splits.fold_of(rows.labels, rows.splits, rows.groups, folds.count, seed)
        uneven = _uneven(rows, numbers, encoding)
    infinite = {} if rows.features is None else infinite_cells(rows.features, encoding["columns"])
    digests = _digests(rows, encoding)
    return Source(
        manifest,
        reader,
        reader.kind,
        rows.name,
        rows.notes,
        folds=numbers,
        digests=digests,
        unreadable=rows.unreadable,
        infinite=infinite,
        group_column=rows.group_column,
        soft_labels=graded,
        wanted=wanted,
        uneven=uneven,
    )


def require_shards(source: Source) -> None:
    """Refuse data of another kind, where --use-webdataset was asked for. Raises ConfigError."""
    if not isinstance(source.reader, ShardReader):
        raise ConfigError(f"--use-webdataset is for shards, and {source.name} is none. Leave it out.")


def read_rows(
    dataset: str,
    data_dir: Path,
    asked: Asked,
    download: bool,
    is_trained_on: bool = True,
    cache_dir: Path | None = None,
) -> Listing:
    """What a source holds, before its splits are completed and its table becomes features; see `open_source`.

    Args:
        is_trained_on: refuse what cannot be learned from, such as a single class.
    """
    require_dataset(dataset)
    if dataset not in NAMES and is_addressed(dataset):
        refuse_columns(asked, dataset)
        return list_addressed(dataset, cache_dir, is_trained_on)
    path = Path(dataset).expanduser()
    index = None if dataset in NAMES else index_of(path)
    if index is not None:
        refuse_columns(asked, dataset)
        return list_shards(index, is_trained_on)
    is_list = dataset not in NAMES and path.suffix.lower() in TABLE_SUFFIXES and path.is_file()
    is_npz = dataset not in NAMES and path.suffix.lower() == ".npz" and path.is_file()
    if is_list:
        return list_rows(path, asked, is_trained_on)
    refuse_columns(asked, dataset)
    if is_npz:
        return npz_rows(path, asked.channels, asked.group_column != NONE, is_trained_on)
    if dataset in NAMES:
        rows = open_named(dataset, data_dir, download)
        if path.exists():
            rows.notes.append(f"{dataset} is the named data set; for what lies here, write ./{dataset}")
        return rows
    return _rows_of_folder(path, is_trained_on)


def check_axis(rows: Listing, asked: bands.Axis | None) -> None:
    """Refuse --channels for rows that are no arrays of images. Raises ConfigError."""
    has_files = rows.root is not None and rows.shards is None and len(rows.keys) > 0
    is_npy = has_files and str(rows.keys[0]).lower().endswith(bands.SUFFIX)
    if asked is not None and not is_npy and "channel_axis" not in rows.encoding:
        raise ConfigError(f"--channels {asked} is for the arrays of .npz and .npy files; {rows.name} has none.")


def _rule(rows: Listing, stretch: fits.Stretch | None, limits: Sequence[float]) -> fits.Rule | None:
    """How FITS images are read; None where there are none. Adds a note.

    Raises:
        ConfigError: for a word about FITS images where there are none, or limits out of order.
        MissingExtra: without astropy.
    """
    has_files = rows.root is not None and rows.shards is None and len(rows.keys) > 0
    if not has_files or not fits.is_fits(str(rows.keys[0])):
        for flag, value in (("--fits-stretch", stretch), ("--fits-limits", ",".join(f"{one:g}" for one in limits))):
            if value:
                raise ConfigError(f"{flag} {value} is for FITS images; {rows.name} has none. Leave it out.")
        return None
    fits.require_astropy()
    if limits and not (len(limits) == 2 and limits[0] < limits[1]):
        shown = ",".join(f"{one:g}" for one in limits)
        raise ConfigError(f"--fits-limits {shown}: it is two numbers, the lower one first: --fits-limits 0,100.")
    rule = fits.Rule(stretch or "asinh", (limits[0], limits[1]) if limits else None)
    rows.notes.append(rule.words)
    rows.encoding["fits"] = rule.plain()
    return rule


def refuse_columns(asked: Asked, dataset: str) -> None:
    """Refuse flags that are about the columns of a file. Raises ConfigError."""
    for flag, value in (
        ("--target", asked.target),
        ("--group-column", None if asked.group_column == NONE else asked.group_column),
        ("--image-column", asked.image_column),
        ("--soft-label-column", ",".join(asked.soft_labels) or None),
    ):
        if value is not None:
            raise ConfigError(f"{flag} {value!r} names a column of a CSV or Parquet file, and {dataset} is not one.")
    if asked.image_root is not None:
        raise ConfigError(
            f"--image-root {asked.image_root} is for the paths in a list of images (CSV or Parquet); {dataset} is none."
        )


def _rows_of_folder(path: Path, is_trained_on: bool) -> Listing:
    try:
        return list_folder(path, is_trained_on)
    except DataError as error:
        if names := named_in(path):
            raise DataError(f"{error} It holds {' or '.join(names)}: give --dataset {names[0]} too.") from None
        lists = [file for file in sorted(path.iterdir()) if file.suffix.lower() in {*TABLE_SUFFIXES, ".npz"}]
        if lists:
            raise DataError(f"{error} The data may be {lists[0]}: name that file.") from None
        raise


def _reader(rows: Listing, axis: bands.Axis | None, rule: fits.Rule | None) -> tuple[Reader, dict[str, Any]]:
    """The reader for some rows, and the encoding for others like them; adds notes.

    Args:
        axis: of .npy files, that holds the bands; None: as their shapes say.
        rule: of FITS images.
    """
    if rows.features is not None:
        train = (rows.splits == "train") & (rows.labels != UNLABELLED)
        columns, notes = fit_encoding(rows.features, train, rows.separator, rows.categories)
        array, more = encode(rows.features, columns, rows.name, rows.separator)
        rows.notes += notes + more
        names = feature_names(columns)
        return ArrayReader(array), {"kind": "table", "columns": columns, "feature_names": names}
    reader: Reader
    if rows.shards is not None:
        reader = shard_reader(rows)
    elif rows.pixels is not None:
        reader = ArrayReader(rows.pixels)
    else:
        assert rows.root is not None
        if rows.keys[0].lower().endswith(bands.SUFFIX):
            axis, notes = look_at_shapes(rows.root, rows.keys, axis)
            rows.notes += notes
            rows.encoding |= {} if axis is None else {"channel_axis": axis}
        is_list = "image_column" in rows.encoding
        channels, dtype, notes = look_at_headers(rows.root, rows.keys, is_list, axis)
        rows.notes += notes
        reader = FileReader(rows.root.absolute(), rows.keys, channels, dtype, axis, rule)
    return reader, {"kind": "image", "channels": reader.channels, "dtype": reader.dtype.name, **rows.encoding}


def _uneven(rows: Listing, fold: npt.NDArray[np.int64], encoding: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns of a table of which the rows outside of each fold (N,) do not all teach the same as those of all folds.

    A median fills gaps; where there are none it may differ.
    """
    if rows.features is None:
        return ()

    def learned(columns: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        return {c["name"]: c if c.get("indicator", True) else {**c, "median": None} for c in columns}

    of_all = learned(encoding["columns"])
    if all(c["type"] == "number" and not c["indicator"] and c.keys() <= _PLAIN for c in of_all.values()):
        return ()
    found: set[str] = set()
    for number in range(fold.max() + 1):
        kept = (fold >= 0) & (fold != number)
        own = learned(fit_encoding(rows.features, kept, rows.separator, rows.categories)[0])
        found |= {name for name in of_all.keys() | own.keys() if of_all.get(name) != own.get(name)}
    return tuple(sorted(found))


def _digests(rows: Listing, encoding: Mapping[str, Any]) -> pa.Array | None:
    """What identifies the rows of a table: the cells that become features, as they were read. Shards bring theirs."""
    if rows.shards is not None:
        return in_one_piece(rows.shards.table["digest"]) if rows.shards.has_digests else None
    if rows.features is None:
        return None
    return table_digests(rows.features, [column["name"] for column in encoding["columns"]])
