"""The features of a data set as a table that a person, or `litscope fit`, can read. No torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.data.manifest import UNLABELLED, Manifest
from litscope.data.sources.listing import label_text
from litscope.errors import ConfigError
from litscope.features.file import Features
from litscope.rundir import whole_file
from litscope.spreadsheets import write_csv

OUTPUT_SUFFIXES = (".parquet", ".csv")
_BATCH = 4_096  # rows that are held as float32 at once


def output_path(output: str | os.PathLike[str]) -> Path:
    """The file to write, if it is of a kind that can be written.

    Raises:
        ConfigError: for another ending.
    """
    path = Path(output)
    if path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ConfigError(f"--output {path}: the name must end in {' or '.join(OUTPUT_SUFFIXES)}.")
    return path


def write_features(path: Path, manifest: Manifest, rows: Features, ids: NDArray[np.int64]) -> None:
    """Write a row for each sample: key, label (its class's name, null without), split (null in none), f0, f1, ...

    `litscope fit FILE` takes `key` as the rows' names, and the splits as they are.

    Args:
        path: whose ending says Parquet or CSV; it appears whole or not at all.
        manifest: of N samples.
        rows: (N, F).
        ids: (n,) the samples to write, in this order.
    """
    parts = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)] or [ids]
    tables = (_table(manifest, rows, part) for part in parts)
    with whole_file(path) as file:
        if path.suffix.lower() == ".csv":
            write_csv(pa.concat_tables(list(tables)), file)
            return
        first = next(tables)
        with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)


def _table(manifest: Manifest, rows: Features, ids: NDArray[np.int64]) -> pa.Table:
    names = [label_text(name) for name in manifest.classes]
    labels = [None if k == UNLABELLED else names[k] for k in manifest.labels[ids].tolist()]
    columns: dict[str, Any] = {
        "key": pa.array(manifest.keys[ids], pa.string()),
        "label": pa.array(labels, pa.string()),
        "split": pa.array([split or None for split in manifest.splits[ids]], pa.string()),
    }
    values = np.asarray(rows[ids], np.float32)
    return pa.table(columns | {f"f{j}": values[:, j] for j in range(values.shape[1])})
