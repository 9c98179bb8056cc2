"""What a network says of each sample, as a table: the label, the prediction, the probabilities, how sure it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.data.manifest import UNLABELLED
from litscope.data.sources.source import Source
from litscope.errors import ConfigError
from litscope.models.readout import Readout
from litscope.rundir import whole_file
from litscope.spreadsheets import write_csv
from litscope.training.readouts import Answers, decided, scaling_of, sets_of
from litscope.uncertainty.entropies import predictive_entropy

OUTPUT_SUFFIXES = (".csv", ".parquet")


def table_of(
    source: Source,
    names: Sequence[str],
    sample_id: NDArray[np.int64],
    probs: NDArray[np.floating[Any]],
    top_k: int | None = None,
    readout: Readout | None = None,
    more: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """One row per sample: key, label where known, prediction, the highest probability, probabilities.

    Args:
        names: those of the C classes.
        sample_id: (n,) ids of the source.
        probs: (n, C).
        top_k: at most C; see `predict.Predictions`.
        readout: its threshold decides the prediction.
        more: columns that come before the probabilities.
    """
    classes = np.array(names, dtype=object)
    prediction = decided(probs, readout)
    columns: dict[str, Any] = {"key": pa.array(source.manifest.keys[sample_id], pa.string())}
    label = source.manifest.labels[sample_id]
    if (label != UNLABELLED).any():
        columns["label"] = pa.array([classes[k] if k != UNLABELLED else None for k in label], pa.string())
    columns["prediction"] = pa.array(classes[prediction], pa.string())
    columns["p_max"] = pa.array(probs.max(1), pa.float32())
    columns |= more or {}
    if top_k is not None:
        best = most_probable(probs, top_k)
        for k in range(top_k):
            columns[f"class_{k + 1}"] = pa.array(classes[best[:, k]], pa.string())
            columns[f"p_{k + 1}"] = pa.array(np.take_along_axis(probs, best[:, k : k + 1], 1)[:, 0], pa.float32())
        return pa.table(columns)
    for k, name in enumerate(classes):
        column = f"p_{name}" if f"p_{name}" not in columns else f"p_{name}_class"  # a class may be called max
        columns[column] = pa.array(probs[:, k], pa.float32())
    return pa.table(columns)


def most_probable(probs: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """(n, count) the classes of each row of probs (n, C), the most probable first, equal ones in order."""
    return np.argsort(-probs, axis=1, kind="stable")[:, :count]


def uncertainty_columns(answers: Answers, readout: Readout | None, names: Sequence[str]) -> dict[str, pa.Array]:
    """How sure the network is of each sample: entropy, in nats; where it has several parts, how much of that each of
    them has by itself, and how far they disagree; where sets are made, the classes that it may be.
    """
    probs = scaling_of(readout, len(names)).probabilities(answers.logits)
    columns = {"entropy": pa.array(predictive_entropy(probs), pa.float32())}
    for name in ("expected_entropy", "mutual_information"):
        if (values := getattr(answers, name)) is not None:
            columns[name] = pa.array(values, pa.float32())
    if (is_in := sets_of(answers, readout, probs)) is not None:
        classes = np.array(names, dtype=object)
        columns["set"] = pa.array([classes[row].tolist() for row in is_in], pa.list_(pa.string()))
        columns["set_size"] = pa.array(is_in.sum(1), pa.int32())
    return columns


def output_path(output: str | os.PathLike[str] | None) -> Path | None:
    """The output's path, if it is of a kind that can be written.

    Raises:
        ConfigError: for another kind.
    """
    if output is None:
        return None
    path = Path(output)
    if path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ConfigError(f"--output {path}: the name must end in {' or '.join(OUTPUT_SUFFIXES)}.")
    return path


def write_table(table: pa.Table, path: Path) -> None:
    """Write CSV or Parquet, as the file's ending says, whole or not at all. A list is JSON text in CSV."""
    with whole_file(path) as file:
        if path.suffix.lower() == ".csv":
            write_csv(_with_texts(table), file)
        else:
            pq.write_table(table, file)


def _with_texts(table: pa.Table) -> pa.Table:
    columns = {
        name: pa.array([json.dumps(value, ensure_ascii=False) for value in column.to_pylist()], pa.string())
        if pa.types.is_list(column.type)
        else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table(columns)
