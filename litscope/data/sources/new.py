"""New data for a trained model -> a Source without labels and splits, read as the training data were. No torch.

The `encoding` that the manifest keeps says how bytes become what the network sees. Errors are those of the person who
gives the data: what does not fit is named with its file, and what the model was trained on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.addresses import BETWEEN
from litscope.data.manifest import UNLABELLED, Manifest, build_manifest
from litscope.data.reading import bands
from litscope.data.reading.fits import Rule, is_fits, require_astropy
from litscope.data.reading.npz import read_npz
from litscope.data.reading.readers import ArrayReader, FileReader, Reader
from litscope.data.reading.regular import check_regular
from litscope.data.shards.index import index_of
from litscope.data.sources.arrays import new_pixels, number_columns, table_keys
from litscope.data.sources.columns import Asked
from litscope.data.sources.folders import list_images
from litscope.data.sources.lists import listed_images
from litscope.data.sources.named import tests_in
from litscope.data.sources.names import TABLE_SUFFIXES, require_paths
from litscope.data.sources.shard_names import is_addressed
from litscope.data.sources.sharded import list_addressed, list_shards, shard_reader
from litscope.data.sources.source import Source, refuse_columns
from litscope.data.sources.table_files import open_table
from litscope.data.sources.tables import encode, infinite_cells, infinite_line, text_columns
from litscope.errors import ConfigError, DataError

Like = Source | Manifest | Mapping[str, Any]
"""What a model was trained on: the source, its manifest, or the manifest's `encoding`."""

_COLOURS = 3

_IN_MEMORY = Path("the array")
"""The place of data that have no file, in messages and keys."""


def open_paths(
    paths: Sequence[str | os.PathLike[str]],
    *,
    like: Like,
    image_column: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    channels: bands.Axis | None = None,
) -> Source:
    """Open new data to predict; no row has a label or a split.

    Args:
        paths: for images: image files, folders (all images below them, whatever the folders are called; of one that
            holds none, but the files of a named data set, the test set), CSV or Parquet lists, .npz arrays, or
            addresses of shards; gray ones are three equal channels for a model of colours. For tables: CSV, Parquet or
            .npz files with the columns that the model was trained on.
        like: the source or manifest that the model was trained on, or its `encoding`.
        image_column, image_root: of lists of images, as in `open_source`. Default: the column of the training list,
            where a list has it.
        channels: as in `open_source`. Default: as in the training data.

    Raises:
        ConfigError: for a column or a folder that there is not.
        DataError: if a path does not exist, holds nothing, or does not fit the model.
    """
    encoding = _encoding(like)
    if any(is_addressed(os.fspath(path)) for path in paths):
        return _source(_addressed(paths, encoding), like, os.fspath(paths[0]))
    given = require_paths(paths)
    if not given:
        raise DataError("Nothing to predict: name image files, folders, or CSV, Parquet or .npz files.")
    for path in given:
        if not path.is_dir() and path.suffix.lower() in {*TABLE_SUFFIXES, ".npz"}:
            try:
                check_regular(path)
            except DataError as error:
                raise DataError(f"{path} is {error}.") from None
    asked = Asked(image_column=image_column, image_root=image_root, channels=channels)
    if channels is not None and encoding["kind"] == "table":
        raise ConfigError(f"--channels {channels} is for the arrays of .npz and .npy files; the run is about a table.")
    if encoding["kind"] == "table" or not any(path.suffix.lower() in TABLE_SUFFIXES for path in given):
        refuse_columns(asked, "what is to be predicted")
    opened = _new_table(given, encoding) if encoding["kind"] == "table" else _new_images(given, encoding, asked)
    return _source(opened, like, given[0].name if len(given) == 1 else f"{len(given)} paths")


def open_arrays(x: npt.NDArray[Any] | pa.Table, *, like: Like) -> Source:
    """Open new data in memory to predict; no row has a label or a split.

    Args:
        x: (N, H, W), (N, H, W, K) or (N, K, H, W) images of the training images' kind of numbers; for a table (N, F)
            numbers in the order of its columns, or an Arrow table with columns of their names.
        like: what the model was trained on.

    Raises:
        DataError: if it does not fit the model.
    """
    encoding = _encoding(like)
    if encoding["kind"] == "table":
        opened = _rows(x, encoding["columns"])
    elif isinstance(x, pa.Table):
        raise DataError("The model was trained on images, and this is a table.")
    else:
        pixels = _pixels(_IN_MEMORY, x, encoding, encoding.get("channel_axis"))
        opened = _New(table_keys(_IN_MEMORY, len(pixels)), ArrayReader(pixels))
    if not opened.keys:
        raise DataError("Nothing to predict: the array has no rows.")
    return _source(opened, like, str(_IN_MEMORY))


def _rows(x: npt.NDArray[Any] | pa.Table, columns: list[dict[str, Any]]) -> _New:
    table = x if isinstance(x, pa.Table) else _numbers(_IN_MEMORY, x, columns)
    array, unknown = encode(table, columns, str(_IN_MEMORY), None)
    infinite = infinite_cells(table, columns)
    notes = [*unknown, *([f"{_IN_MEMORY}: {infinite_line(infinite)}"] if infinite else [])]
    return _New(table_keys(_IN_MEMORY, table.num_rows), ArrayReader(array), {}, notes)


def _encoding(like: Like) -> dict[str, Any]:
    return dict(like) if isinstance(like, Mapping) else like.encoding


def _source(opened: _New, like: Like, name: str) -> Source:
    classes = () if isinstance(like, Mapping) else (like.manifest if isinstance(like, Source) else like).classes
    labels = np.full(len(opened.keys), UNLABELLED, dtype=np.int64)
    manifest = build_manifest(opened.keys, labels, classes, extra=opened.extra, encoding=_encoding(like))
    return Source(manifest, opened.reader, opened.reader.kind, name, opened.notes)


@dataclass
class _New:
    keys: list[str]
    reader: Reader
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _new_images(paths: Sequence[Path], encoding: Mapping[str, Any], asked: Asked) -> _New:
    channels, dtype = int(encoding["channels"]), np.dtype(encoding["dtype"])
    axis = asked.channels or encoding.get("channel_axis")
    if any(path.suffix.lower() == ".npz" for path in paths):
        return _new_arrays(paths, encoding, axis)
    indices = [index_of(path) for path in paths]
    if any(indices):
        return _new_shards(paths, indices[0], channels, dtype)
    keys: list[str] = []
    extra: dict[str, Any] = {}
    notes: list[str] = []
    for path in paths:
        if path.is_dir():
            below, said = list_images(path)
            found = [str(path / key) for key in below]
            notes += said
            if not found:
                return _new_named(path, encoding, is_alone=len(paths) == 1)
            keys += found
        elif path.suffix.lower() in TABLE_SUFFIXES:
            found, others, more = listed_images(path, asked, encoding.get("image_column"))
            keys += found
            notes += more
            extra = others if len(paths) == 1 else {}
        else:
            keys.append(str(path))
    if asked.channels is not None and not any(key.lower().endswith(bands.SUFFIX) for key in keys):
        raise ConfigError(f"--channels {asked.channels} is for .npz and .npy files; there are none to be predicted.")
    rule = None if "fits" not in encoding else Rule.of_plain(encoding["fits"])
    if any(map(is_fits, keys)):
        require_astropy()
        notes += [] if rule is None else [f"{rule.words}, as in training"]
    return _New(keys, FileReader(Path.cwd(), keys, channels, dtype, axis, rule), extra, notes)


def _new_named(folder: Path, encoding: Mapping[str, Any], is_alone: bool) -> _New:
    """The test set of the named data set whose files lie in a folder without images."""
    rows = tests_in(folder)
    if rows is None or rows.pixels is None:
        raise DataError(f"{folder} holds no images.")
    if not is_alone:
        raise DataError(f"{folder} holds {rows.name}: its images are in memory and cannot be joined with other paths.")
    told = f"{folder} holds {rows.name}: these are the {len(rows.keys):,} images of its test set"
    return _New(list(rows.keys), ArrayReader(_pixels(folder, rows.pixels, encoding, "last")), {}, [told])


def _new_shards(paths: Sequence[Path], index: Path | None, channels: int, dtype: np.dtype[Any]) -> _New:
    if len(paths) > 1 or index is None:
        raise DataError("One folder of shards at a time: it cannot be joined with other paths.")
    rows = list_shards(index, is_trained_on=False)
    return _New(rows.keys, shard_reader(rows, channels, dtype), rows.extra, rows.notes)


def _addressed(paths: Sequence[str | os.PathLike[str]], encoding: Mapping[str, Any]) -> _New:
    if encoding["kind"] == "table":
        raise DataError(f"{os.fspath(paths[0])}: shards hold images, and the model was trained on a table.")
    names = [os.fspath(path) for path in paths]
    others = [name for name in names if not is_addressed(name)]
    if others:
        raise DataError(f"Shards cannot be joined with other paths: {others[0]}.")
    rows = list_addressed(BETWEEN.join(names), None, is_trained_on=False)
    return _New(rows.keys, shard_reader(rows, int(encoding["channels"]), encoding["dtype"]), rows.extra, rows.notes)


def _new_arrays(paths: Sequence[Path], encoding: Mapping[str, Any], axis: bands.Axis | None) -> _New:
    if len(paths) > 1:
        raise DataError("One .npz file at a time: its images are in memory and cannot be joined with other paths.")
    pixels = _pixels(paths[0], _features_of(paths[0]), encoding, axis)
    return _New(table_keys(paths[0], len(pixels)), ArrayReader(pixels))


def _pixels(path: Path, x: npt.NDArray[Any], encoding: Mapping[str, Any], axis: bands.Axis | None) -> npt.NDArray[Any]:
    """(N, H, W, K) images of an array, if they are of the training images' kind."""
    channels, dtype = int(encoding["channels"]), np.dtype(encoding["dtype"])
    pixels = new_pixels(path, x, channels, axis)
    if pixels.shape[3] == 1 and channels == _COLOURS:  # as gray files are decoded
        pixels = pixels.repeat(channels, 3)
    if (pixels.shape[3], pixels.dtype) != (channels, dtype):
        raise DataError(
            f"{path} has {pixels.shape[3]} channels of {pixels.dtype}; the model was trained on {channels} of {dtype}."
        )
    return pixels


def _features_of(path: Path) -> Any:
    """The array X of an .npz file."""
    arrays = read_npz(path)
    if "x" not in arrays:
        raise DataError(f"{path} needs the array X; it has {', '.join(arrays) or 'none'}.")
    return arrays["x"]


def _new_table(paths: Sequence[Path], encoding: Mapping[str, Any]) -> _New:
    columns = encoding["columns"]
    keys: list[str] = []
    parts, notes = [], []
    for path in paths:
        table, separator, more = _features_table(path, columns)
        array, unknown = encode(table, columns, str(path), separator)
        infinite = infinite_cells(table, columns)
        keys += table_keys(path, table.num_rows)
        parts.append(array)
        notes += [*more, *unknown, *([f"{path.name}: {infinite_line(infinite)}"] if infinite else [])]
    return _New(keys, ArrayReader(np.concatenate(parts)), {}, notes)


def _features_table(path: Path, columns: list[dict[str, Any]]) -> tuple[pa.Table, str | None, list[str]]:
    """The table of a file, the separator of its cells, and lines for the person."""
    if path.suffix.lower() in TABLE_SUFFIXES:
        file = open_table(path)
        return file.read(text_columns(columns)), file.separator, file.notes
    if path.suffix.lower() != ".npz":
        kinds = ", ".join(sorted(TABLE_SUFFIXES))
        raise DataError(f"{path}: the model reads tables; give files that end in {kinds} or .npz.")
    return _numbers(path, _features_of(path), columns), None, []


def _numbers(path: Path, x: npt.NDArray[Any], columns: list[dict[str, Any]]) -> pa.Table:
    """(N, F) numbers as the columns of the training table."""
    if x.ndim != 2 or x.shape[1] != len(columns):
        raise DataError(f"{path}: X has shape {x.shape}; the model was trained on {len(columns)} columns.")
    return number_columns(path, x, np.array([c["name"] for c in columns]))
