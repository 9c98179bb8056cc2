"""Opens labelled data once more, as a run read its own: to evaluate, to export, to show. No torch.

What training needs of a data set (two classes, training samples, one kind of pixels) is not asked for here: any
labelled subset will do. Nothing is decided anew either: channels, columns and classes are the run's, and a row is in
the split that the data give it, or in none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.data.manifest import UNLABELLED, Manifest, build_manifest, in_one_piece
from litscope.data.reading.bands import Axis
from litscope.data.reading.digests import table_digests
from litscope.data.reading.fits import Rule
from litscope.data.reading.readers import ArrayReader, FileReader, Reader
from litscope.data.sources.columns import NOTHING, Asked
from litscope.data.sources.listing import Listing
from litscope.data.sources.names import NAMES, TABLE_SUFFIXES
from litscope.data.sources.sharded import shard_reader
from litscope.data.sources.source import Source, check_axis, read_rows
from litscope.data.sources.table_files import open_table
from litscope.data.sources.tables import encode, text_columns
from litscope.errors import DataError


def open_again(
    dataset: str | os.PathLike[str],
    *,
    like: Manifest,
    data_dir: str | os.PathLike[str] = "data",
    asked: Asked = NOTHING,
    download: bool = False,
    cache_dir: Path | None = None,
) -> Source:
    """Open data as a run read its own.

    Args:
        dataset, data_dir, download, cache_dir: as in `sources.source.open_source`.
        like: the run's manifest.
        asked: what is said of the columns and axes of a file.

    Returns:
        A source whose classes are the run's, followed by those that the run does not know.

    Raises:
        DataError: if it does not exist, is of another kind, or cannot be read as the run reads.
        ConfigError: if a column is named that does not exist.
    """
    place = Path(data_dir).expanduser()
    rows = read_rows(os.fspath(dataset), place, asked, download, is_trained_on=False, cache_dir=cache_dir)
    check_axis(rows, asked.channels)
    if not len(rows.keys):
        raise DataError(f"{rows.name} has no rows.")
    kind, wanted = "image" if rows.features is None else "table", like.encoding["kind"]
    if kind != wanted:
        raise DataError(f"{rows.name} is of kind {kind}; the run was trained on {wanted} data.")
    classes = (*like.classes, *(name for name in rows.classes if name not in set(like.classes)))
    position = {name: index for index, name in enumerate(classes)}
    index = np.array([*(position[name] for name in rows.classes), UNLABELLED], np.int64)
    manifest = build_manifest(
        rows.keys,
        index[rows.labels],  # -1 takes the last entry
        classes,
        splits=rows.splits,
        groups=rows.groups,
        extra=rows.extra,
        encoding=like.encoding,
    )
    if rows.features is None:
        shards = rows.shards
        digests = in_one_piece(shards.table["digest"]) if shards is not None and shards.has_digests else None
        reader = _reader(rows, like.encoding, asked.channels)
        return Source(manifest, reader, "image", rows.name, rows.notes, digests=digests)
    columns = like.encoding["columns"]
    table, separator = _columns_of(rows.features, dataset, columns)
    array, notes = encode(table, columns, rows.name, separator)
    digests = _digests(table, columns)
    return Source(manifest, ArrayReader(array), "table", rows.name, rows.notes + notes, digests=digests)


def encoded_as(source: Source, dataset: str, encoding: Mapping[str, Any]) -> Source:
    """A table whose columns become the features that a run was trained on, whatever they would become today.

    Args:
        source: as `open_source` opens the data set.
        dataset: the data set.
        encoding: of the run's manifest.

    Raises:
        DataError: if it lacks a column.
    """
    columns, path = encoding.get("columns", []), Path(dataset).expanduser()
    is_file = dataset not in NAMES and path.suffix.lower() in TABLE_SUFFIXES
    if source.kind != encoding["kind"] or source.encoding.get("columns", []) == columns or not is_file:
        return source
    table, separator = _read_columns(path, columns)
    array, _ = encode(table, columns, source.name, separator)
    manifest = source.manifest.with_encoding(encoding)
    return replace(source, manifest=manifest, reader=ArrayReader(array), digests=_digests(table, columns))


def _reader(rows: Listing, encoding: dict[str, Any], axis: Axis | None) -> Reader:
    channels, dtype = int(encoding["channels"]), np.dtype(encoding["dtype"])
    if rows.shards is not None:
        return shard_reader(rows, channels, dtype)
    if rows.pixels is not None:
        return ArrayReader(_pixels(rows, channels, dtype))
    assert rows.root is not None
    rule = None if "fits" not in encoding else Rule.of_plain(encoding["fits"])
    return FileReader(rows.root.absolute(), rows.keys, channels, dtype, axis or encoding.get("channel_axis"), rule)


def _columns_of(
    features: pa.Table, dataset: str | os.PathLike[str], columns: list[dict[str, Any]]
) -> tuple[pa.Table, str | None]:
    """The columns that a run knows, and the separator of their file."""
    path = Path(dataset).expanduser()
    if os.fspath(dataset) in NAMES or path.suffix.lower() not in TABLE_SUFFIXES:
        return features, None
    return _read_columns(path, columns)


def _read_columns(path: Path, columns: list[dict[str, Any]]) -> tuple[pa.Table, str | None]:
    """All columns of a file; what was text in training is read as text, so that 007 stays 007."""
    file = open_table(path)
    return file.read(text_columns(columns)), file.separator


def _digests(table: pa.Table, columns: list[dict[str, Any]]) -> pa.Array:
    return table_digests(table, [column["name"] for column in columns])


def _pixels(rows: Listing, channels: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Images in memory; gray ones of a colour network get three equal channels, as files do."""
    pixels = rows.pixels
    assert pixels is not None
    if pixels.dtype == dtype and pixels.shape[3] == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=3)
    if (pixels.shape[3], pixels.dtype) != (channels, dtype):
        raise DataError(
            f"{rows.name} has images with {pixels.shape[3]} channels of {pixels.dtype}; "
            f"the run was trained on {channels} of {dtype}."
        )
    return pixels
