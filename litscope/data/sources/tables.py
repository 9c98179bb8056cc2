"""Tables: CSV and Parquet files, and how columns become features. No torch.

    numbers, booleans    float32; a gap (empty, NaN, infinite) becomes the median of the training rows, and a
                         column with gaps in the training rows also gives `<column>_missing`, 0 or 1
    text                 one-hot: one feature per value in the training rows, at most 20; a gap or a value that was
                         not there is 0 in all of them
    empty columns        left out
    dates, lists, ...    an error that names the column

The rules are learned from the training rows alone and kept as plain JSON (`fit_encoding`), so that a
new table is encoded in the same way (`encode`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from litscope.errors import DataError
from litscope.spreadsheets import escaped_text, unescaped, unescaped_text

MAX_LEVELS = 20
SUFFIXES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
_GAPS = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "#N/A", "-nan", "inf", "-inf"]

Floats = npt.NDArray[np.float32]


def read_table(path: Path, text_columns: Iterable[str] = ()) -> pa.Table:
    """Read a CSV (separated by comma, semicolon or tab) or Parquet file.

    Args:
        path: the file; its ending says which.
        text_columns: columns that are read as text, so that 007 stays 007 and empty stays empty.

    Raises:
        DataError: if it cannot be read, has no rows, or has two columns of one name.
    """
    try:
        if _is_parquet(path):
            table = pq.read_table(path, partitioning=None)
        else:
            table = unescaped(_read_csv(path, {*text_columns, *map(escaped_text, text_columns)}))
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    names = table.column_names
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(f"{path} has more than one column named {', '.join(map(repr, doubled))}. Rename them.")
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows below its header ({', '.join(names)}).")
    return table


def column_names(path: Path) -> list[str]:
    """Names of the columns, from the file's head. Raises DataError."""
    try:
        names = pq.read_schema(path).names if _is_parquet(path) else list(map(unescaped_text, _csv_header(path)[0]))
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    if not names:
        raise DataError(f"{path}: the file is empty.")
    return [name.strip() for name in names]


def fit_encoding(table: pa.Table, train: npt.NDArray[np.bool_]) -> tuple[list[dict[str, Any]], list[str]]:
    """Learn from the training rows how each column becomes features.

    Args:
        table: (N rows) the feature columns.
        train: (N,) bool, the rows to learn from.

    Returns:
        One JSON-able record per column that is used: `{"name", "type": "number", "median", "indicator"}` or
        `{"name", "type": "category", "levels"}`; and lines for the person.

    Raises:
        DataError: naming the column, if one cannot become features, or if none is left.
    """
    rows = pa.array(np.flatnonzero(train))
    columns: list[dict[str, Any]] = []
    notes = []
    for name in table.column_names:
        column = _fit_column(name, table[name].take(rows))
        if column is None:
            notes.append(f"column {name!r} is empty in the training rows and is left out")
        else:
            columns.append(column)
            notes += _column_notes(column)
    if not columns:
        raise DataError("The table has no column to learn from, besides label, split and group.")
    return columns, notes


def encode(table: pa.Table, columns: list[dict[str, Any]], source: str) -> tuple[Floats, list[str]]:
    """Turn columns into features, as `fit_encoding` learned it.

    Args:
        table: (N rows) with at least the columns of the encoding; others are not looked at.
        source: name of the table, for messages.

    Returns:
        (N, F) float32 without NaN, and lines for the person.

    Raises:
        DataError: if a column is missing or is not of its type.
    """
    absent = [c["name"] for c in columns if c["name"] not in table.column_names]
    if absent:
        raise DataError(f"{source} lacks the columns {', '.join(map(repr, absent))}, which the model was trained on.")
    out = np.zeros((table.num_rows, len(feature_names(columns))), dtype=np.float32)
    start, notes = 0, []
    for column in columns:
        values = table[column["name"]]
        if column["type"] == "number":
            numbers = _numbers(column["name"], values)
            gaps = ~np.isfinite(numbers)
            out[:, start] = np.where(gaps, column["median"], numbers)
            if column["indicator"]:
                out[:, start + 1] = gaps
        else:
            codes = _codes(column["name"], values, column["levels"])
            out[np.flatnonzero(codes >= 0), start + codes[codes >= 0]] = 1
            num_new = int((codes == -2).sum())
            if num_new:
                notes.append(f"column {column['name']!r}: {num_new:,} values that no training row has (read as gaps)")
        start += _width(column)
    return out, notes


def feature_names(columns: list[dict[str, Any]]) -> list[str]:
    """Names of the F features, in order."""
    names: list[str] = []
    for column in columns:
        if column["type"] == "category":
            names += [f"{column['name']}={level}" for level in column["levels"]]
        else:
            names += [column["name"], f"{column['name']}_missing"] if column["indicator"] else [column["name"]]
    return names


def _width(column: dict[str, Any]) -> int:
    return len(column["levels"]) if column["type"] == "category" else 1 + bool(column["indicator"])


def _fit_column(name: str, values: pa.ChunkedArray) -> dict[str, Any] | None:
    """The record of one column, or None where it is empty."""
    if values.null_count == len(values):
        return None
    if not _is_text(values.type):
        numbers = _numbers(name, values)
        known = numbers[np.isfinite(numbers)]
        if not len(known):
            return None
        indicator = len(known) < len(numbers)
        return {"name": name, "type": "number", "median": float(np.median(known)), "indicator": indicator}
    levels = sorted(level for level in pc.unique(_texts(values)).to_pylist() if level is not None)
    if len(levels) > MAX_LEVELS:
        raise DataError(
            f"The text column {name!r} has {len(levels):,} different values; up to {MAX_LEVELS} become features. "
            "Leave the column out of the file, or put its values into fewer categories or numbers."
        )
    return {"name": name, "type": "category", "levels": levels} if levels else None


def _column_notes(column: dict[str, Any]) -> list[str]:
    name = column["name"]
    if column["type"] == "category":
        return [f"column {name!r}: {len(column['levels'])} categories, one feature each"]
    if column["indicator"]:
        return [f"column {name!r}: gaps become the median {column['median']:g}, and '{name}_missing' marks them"]
    return []


def _numbers(name: str, values: pa.ChunkedArray) -> Floats:
    """(N,) float32, NaN for gaps."""
    kind = values.type
    try:
        if pa.types.is_boolean(kind):
            values = values.cast(pa.int8())
        elif pa.types.is_temporal(kind):
            raise pa.ArrowInvalid("dates and times are not features")
        elif _is_text(kind):
            values = _texts(values)
        numbers = values.cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(
            f"The column {name!r} of type {kind} cannot be read as numbers ({error}). "
            "Turn it into numbers or categories, or leave it out of the file."
        ) from error
    with np.errstate(over="ignore"):
        return np.asarray(numbers, dtype=np.float32)


def _codes(name: str, values: pa.ChunkedArray, levels: list[str]) -> npt.NDArray[np.int64]:
    """(N,) position among the levels; -1 for a gap, -2 for another value."""
    try:
        texts = _texts(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"The column {name!r} of type {values.type} cannot be read as text: {error}.") from error
    codes = pc.fill_null(pc.index_in(texts, value_set=pa.array(levels, pa.string())), -2)
    return np.where(pc.is_null(texts).to_numpy(), -1, codes.to_numpy()).astype(np.int64)


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Strings without white space around them; what stands for a gap is null."""
    if pa.types.is_dictionary(values.type):
        values = pa.chunked_array([chunk.dictionary_decode() for chunk in values.chunks], values.type.value_type)
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    is_gap = pc.is_in(texts, value_set=pa.array(_GAPS))
    return pc.if_else(is_gap, pa.scalar(None, pa.string()), texts)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _csv_header(path: Path) -> tuple[list[str], str]:
    """Column names and separator, from the first line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = file.readline()
    separator = max(",;\t", key=line.count)
    return next(csv.reader([line], delimiter=separator), []), separator


def _read_csv(path: Path, text_columns: set[str]) -> pa.Table:
    names, separator = _csv_header(path)
    text = {name: pa.string() for name in names if name.strip() in text_columns}
    table = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=text, null_values=_GAPS, strings_can_be_null=False),
    )
    return table.rename_columns([name.strip() for name in table.column_names])
