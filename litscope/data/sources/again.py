"""Opens labelled data once more, as a run read its own: to evaluate, to export, to show. No torch.

What training needs of a data set (two classes, training samples, one kind of pixels) is not asked for here: any
labelled subset will do. Nothing is decided anew either: channels, columns and classes are the run's, and a row is in
the split that the data give it, or in none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litscope.data.manifest import UNLABELLED, Manifest, build_manifest
from litscope.data.reading.digests import table_digests
from litscope.data.reading.readers import ArrayReader, FileReader, Reader
from litscope.data.sources.listing import Listing
from litscope.data.sources.named import NAMES
from litscope.data.sources.source import Source, read_rows
from litscope.data.sources.tables import SUFFIXES, encode, read_table
from litscope.errors import DataError


def open_again(
    dataset: str | os.PathLike[str],
    *,
    like: Manifest,
    data_dir: str | os.PathLike[str] = "data",
    target: str | None = None,
    group_column: str | None = None,
    download: bool = False,
) -> Source:
    """Open data as a run read its own.

    Args:
        dataset, data_dir, target, group_column, download: as in `sources.source.open_source`.
        like: the run's manifest.

    Returns:
        A source whose classes are the run's, followed by those that the run does not know.

    Raises:
        DataError: if it does not exist, is of another kind, or cannot be read as the run reads.
        ConfigError: if a column is named that does not exist.
    """
    place = Path(data_dir).expanduser()
    rows = read_rows(os.fspath(dataset), place, target, group_column, download, is_trained_on=False)
    if not rows.keys:
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
    source = Source(manifest, _reader(rows, dataset, like.encoding), like.encoding["kind"], rows.name, rows.notes)
    if rows.features is not None:
        source.digests = table_digests(rows.features, [column["name"] for column in like.encoding["columns"]])
    return source


def _reader(rows: Listing, dataset: str | os.PathLike[str], encoding: dict[str, Any]) -> Reader:
    if rows.features is not None:
        return _table_reader(rows, dataset, encoding["columns"])
    channels, dtype = int(encoding["channels"]), np.dtype(encoding["dtype"])
    if rows.pixels is not None:
        return ArrayReader(_pixels(rows, channels, dtype))
    assert rows.root is not None
    return FileReader(rows.root.absolute(), rows.keys, channels, dtype)


def _table_reader(rows: Listing, dataset: str | os.PathLike[str], columns: list[dict[str, Any]]) -> Reader:
    """Columns as features; what was text in training is read as text, so that 007 stays 007."""
    path, features = Path(dataset).expanduser(), rows.features
    if os.fspath(dataset) not in NAMES and path.suffix.lower() in SUFFIXES:
        features = read_table(path, text_columns=[c["name"] for c in columns if c["type"] == "category"])
    array, notes = encode(features, columns, rows.name)
    rows.notes += notes
    return ArrayReader(array)


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
