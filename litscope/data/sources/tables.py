"""Tables: how columns become features. No torch.

    numbers, booleans,   float32; a gap (empty, NaN, infinite) becomes the median of the training rows, and a
    dates, times         column with gaps in the training rows also gives `<column>_missing`, 0 or 1. See `numbers`
    text                 one-hot: one feature per value in the training rows, at most 20; a gap or a value that was
                         not there is 0 in all of them. In a CSV file, text that is numbers throughout is numbers
    categories of whole  written as such by pandas or Arrow, without an order: as text, if they have at most 20 values;
    numbers              else as numbers
    empty columns        left out
    lists, bytes, ...    an error that names the column

The rules are learned from the training rows alone and kept as plain JSON (`fit_encoding`), so that a
new table is encoded in the same way (`encode`).
"""

from __future__ import annotations

from collections.abc import Collection
from shlex import quote
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.reading.gaps import GAPS, NUMBER_GAPS
from litscope.data.sources import numbers
from litscope.data.sources.columns import image_candidates
from litscope.data.sources.numbers import Marks
from litscope.errors import DataError

MAX_LEVELS = 20
_NO_NUMBER = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)

Floats = npt.NDArray[np.float32]
Column = dict[str, Any]


def fit_encoding(
    table: pa.Table,
    train: npt.NDArray[np.bool_],
    separator: str | None = None,
    categories: Collection[str] = (),
) -> tuple[list[Column], list[str]]:
    """Learn from the training rows how each column becomes features.

    Args:
        table: (N rows) the feature columns.
        train: (N,) bool, the rows to learn from.
        separator: of the CSV file that the columns are from. Text that is numbers throughout is numbers there.
        categories: names of columns of whole numbers that are categories, as long as they have few values.

    Returns:
        One JSON-able record per column that is used: `{"name", "type": "number", "median", "indicator"}`, with more
        where a column needs it (`numbers`), or `{"name", "type": "category", "levels"}`; and lines for the person.

    Raises:
        DataError: naming all columns that cannot become features, or if none is left.
    """
    rows = pa.array(np.flatnonzero(train))
    columns: list[Column] = []
    notes: list[str] = []
    problems: dict[str, str] = {}
    for name in table.column_names:
        try:
            column, more = _fit_column(name, table[name].take(rows), separator, is_category=name in categories)
        except DataError as error:
            problems[name] = str(error)
            continue
        notes += more
        if column is None:
            notes.append(f"column {name!r} is empty in the training rows and is left out")
        else:
            columns.append(column)
            notes += _column_notes(column)
    if problems:
        raise DataError(_unusable(problems))
    if not columns:
        raise DataError("The table has no column to learn from, besides label, split and group.")
    return columns, notes


def encode(
    table: pa.Table, columns: list[Column], source: str, separator: str | None = None
) -> tuple[Floats, list[str]]:
    """Turn columns into features, as `fit_encoding` learned it.

    Args:
        table: (N rows) with at least the columns of the encoding; others are not looked at.
        source: name of the table, for messages.
        separator: of the CSV file that the table is from.

    Returns:
        (N, F) float32 without NaN, and lines for the person.

    Raises:
        DataError: naming all columns that are missing or not of their type.
    """
    absent = [c["name"] for c in columns if c["name"] not in table.column_names]
    if absent:
        raise DataError(f"{source} lacks the columns {', '.join(map(repr, absent))}, which the model was trained on.")
    out = np.zeros((table.num_rows, len(feature_names(columns))), dtype=np.float32)
    start = 0
    notes: list[str] = []
    problems: list[str] = []
    for column in columns:
        part = out[:, start : start + _width(column)]
        values = table[column["name"]]
        start += _width(column)
        try:
            if column["type"] == "number":
                _put_numbers(part, values, column, separator)
            else:
                notes += _put_levels(part, values, column)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(f"{source}: {problem}" for problem in problems))
    return out, notes


def infinite_cells(table: pa.Table, columns: list[Column]) -> dict[str, int]:
    """Name of each number column with infinite cells, which are read as gaps -> how many they are."""
    counts = {c["name"]: numbers.num_infinite(table[c["name"]], c) for c in columns if c["type"] == "number"}
    return {name: count for name, count in counts.items() if count}


def infinite_line(counts: dict[str, int]) -> str:
    """What is said of infinite cells.

    Args:
        counts: as `infinite_cells` returns them, not empty.
    """
    shown = ", ".join(f"{name}: {count:,}" for name, count in list(counts.items())[:5])
    more = f" and {len(counts) - 5:,} more columns" if len(counts) > 5 else ""
    return f"{sum(counts.values()):,} cells are infinite and are read as gaps ({shown}{more})"


def feature_names(columns: list[Column]) -> list[str]:
    """Names of the F features, in order."""
    names: list[str] = []
    for column in columns:
        if column["type"] == "category":
            names += [f"{column['name']}={level}" for level in column["levels"]]
        else:
            names += [column["name"], f"{column['name']}_missing"] if column["indicator"] else [column["name"]]
    return names


def text_columns(columns: list[Column]) -> list[str]:
    """Names of the columns whose cells an encoding takes as they are written."""
    return [c["name"] for c in columns if c["type"] == "category" or "decimal" in c]


def _width(column: Column) -> int:
    return len(column["levels"]) if column["type"] == "category" else 1 + bool(column["indicator"])


def _fit_column(
    name: str, values: pa.ChunkedArray, separator: str | None, is_category: bool
) -> tuple[Column | None, list[str]]:
    """The record of one column, or None where it is empty; and lines for the person."""
    if values.null_count == len(values):
        return None, []
    notes: list[str] = []
    if is_category:
        levels = [str(level) for level in sorted(pc.unique(values.drop_null()).to_pylist())]
        if len(levels) <= MAX_LEVELS:
            return {"name": name, "type": "category", "levels": levels}, []
        few = f"up to {MAX_LEVELS} become features of their own"
        notes = [f"column {name!r}: a category of {len(levels):,} whole numbers ({few}), so it is taken as numbers"]
    if numbers.is_text(values.type):
        return _fit_text(name, values, separator)
    try:
        return numbers.fit_number(name, values), notes
    except _NO_NUMBER as error:
        raise DataError(_no_numbers(values.type, error)) from error


def _fit_text(name: str, values: pa.ChunkedArray, separator: str | None) -> tuple[Column | None, list[str]]:
    """A column of words: of numbers that Arrow does not take for numbers, or of categories."""
    levels = sorted(v for v in pc.unique(numbers.known_texts(values, GAPS)).to_pylist() if v is not None)
    cells = numbers.known_texts(values, NUMBER_GAPS)
    num_cells = len(cells) - cells.null_count
    marks, others = numbers.recognise(cells, separator == ";")
    is_category = pa.types.is_dictionary(values.type) or (separator is None and len(levels) <= MAX_LEVELS)
    if num_cells and not len(others) and not is_category:
        notes = [] if marks == Marks() else [f"column {name!r}: numbers with {marks.words}"]
        return numbers.fit_number(name, values, marks), notes
    said = ""
    if len(others) and len(others) <= num_cells / 2:
        said = f"all but {len(others):,} of its {num_cells:,} values are numbers; the first is {others[0].as_py()!r}"
    if len(levels) > MAX_LEVELS:
        first = numbers.trimmed(values).drop_null()[0].as_py()
        many = f"{len(levels):,} different values; up to {MAX_LEVELS} become features (the first is {first!r})"
        raise DataError(said or many)
    if not levels:
        return None, []
    notes = [f"column {name!r}: {said}, so it is taken as categories"] if said and not is_category else []
    return {"name": name, "type": "category", "levels": levels}, notes


def _unusable(problems: dict[str, str]) -> str:
    """What is said of columns that cannot become features: in a line, or a line for each."""
    advice = "Leave {} out of the file, or turn {} into numbers, or into at most 20 categories."
    images = image_candidates(list(problems))
    if images:
        advice += (
            f" If {images[0]!r} names images: --image-column {quote(images[0])}, and --image-root for their folder."
        )
    if len(problems) == 1:
        name, problem = next(iter(problems.items()))
        link = " has " if problem[0].isdigit() else " is " if problem.startswith("of type") else ": "
        return f"The column {name!r}{link}{problem}. {advice.format('the column', 'it')}"
    lines = [f"  {name!r}: {problem}" for name, problem in problems.items()]
    head = f"{len(problems)} columns cannot become features:"
    return "\n".join([head, *lines, advice.format("the columns", "them")])


def _column_notes(column: Column) -> list[str]:
    name = column["name"]
    if column["type"] == "category":
        return [f"column {name!r}: {len(column['levels'])} categories, one feature each"]
    notes = [f"column {name!r}: dates and times, as seconds"] if column.get("values") == "time" else []
    if column["indicator"]:
        notes.append(f"column {name!r}: gaps become the median {column['median']:g}, and '{name}_missing' marks them")
    return notes


def _put_numbers(part: Floats, values: pa.ChunkedArray, column: Column, separator: str | None) -> None:
    """Fill the features of a number column: the number, and whether it is a gap."""
    found = _read_numbers(values, column, separator)
    with np.errstate(over="ignore"):
        narrow = found.astype(np.float32)
    gaps = ~np.isfinite(narrow)
    part[:, 0] = np.where(gaps, numbers.fill(column), narrow)
    if column["indicator"]:
        part[:, 1] = gaps


def _read_numbers(values: pa.ChunkedArray, column: Column, separator: str | None) -> npt.NDArray[np.float64]:
    kind, name = column.get("values", "number"), column["name"]
    if numbers.is_text(values.type) and kind == "boolean":
        values = _booleans(values)
    elif numbers.is_text(values.type) and kind == "time":
        values = _times(values)
    elif numbers.is_text(values.type) and "decimal" not in column:
        marks, _ = numbers.recognise(numbers.known_texts(values, NUMBER_GAPS), separator == ";")
        column = {**column, "decimal": marks.decimal, "thousands": marks.thousands}
    odd = _odd_cell(values, column)
    if odd is not None:
        raise DataError(f"the column {name!r} holds {odd}; {_EXPECTED[kind]}")
    try:
        return numbers.read_numbers(values, column)
    except _NO_NUMBER as error:
        raise DataError(f"the column {name!r} is {_no_numbers(values.type, error)}.") from error


_EXPECTED = {
    "number": "its training rows hold numbers. Write a number, or leave the cell empty.",
    "boolean": "its training rows hold true and false. Write true or false (or 1 and 0), or leave the cell empty.",
    "time": (
        "its training rows hold dates or times. Write them like 2024-12-31, 2024-12-31 10:15:00 or 10:15:00, or "
        "leave the cell empty."
    ),
}
"""What a cell of a number column may be."""


def _odd_cell(values: pa.ChunkedArray, column: Column) -> str | None:
    """The first cell that is of another kind than the training rows', and where; None where there is none."""
    is_time = column.get("values") == "time"
    if numbers.is_text(values.type):
        texts = numbers.known_texts(values, NUMBER_GAPS)
        marks = Marks(column.get("decimal", "."), column.get("thousands", ""))
        is_odd = pc.and_(pc.is_valid(texts), pc.is_null(numbers.parse(texts, marks)))
    elif not pa.types.is_null(values.type) and pa.types.is_temporal(values.type) != is_time:
        is_odd = pc.is_valid(values)
    else:
        return None
    at = np.flatnonzero(is_odd.to_numpy(zero_copy_only=False))
    if not len(at):
        return None
    more = f" (and {len(at) - 1:,} more)" if len(at) > 1 else ""
    return f"{str(values[int(at[0])].as_py()).strip()!r} in row {at[0] + 1:,} below the header{more}"


def _booleans(values: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """true and false in words -> 1 and 0 in words; other words stay."""
    texts = numbers.known_texts(values, NUMBER_GAPS)
    lower = pc.utf8_lower(texts)
    return pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", texts))


def _times(values: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Dates and times in words -> as Arrow has them, if all are; else the words that are none."""
    texts = numbers.known_texts(values, NUMBER_GAPS)
    found = _as_times(texts)
    if found is not None:
        return found
    cells = [None if text is None else _as_times(pa.array([text])) for text in texts.to_pylist()]
    is_time = pa.array([cell is not None for cell in cells])
    if pc.all(pc.or_(is_time, pc.is_null(texts))).as_py():  # of several kinds: 2024-12-31 10:15Z and 2024-12-31 10:15
        ticks = [None if cell is None else cell.cast(pa.int64())[0].as_py() for cell in cells]
        return pa.array(ticks, pa.int64()).cast(pa.timestamp("ns"))
    return pc.if_else(is_time, pa.scalar(None, pa.string()), texts)


def _as_times(texts: pa.Array) -> pa.Array | None:
    """Texts of one kind of time, in nanoseconds; None if some are not."""
    on_a_day = pc.binary_join_element_wise("1970-01-01", texts, " ")  # Arrow casts no words to times of the day
    for cells, kind in (
        (texts, pa.timestamp("ns")),
        (texts, pa.timestamp("ns", "UTC")),
        (on_a_day, pa.timestamp("ns")),
    ):
        try:
            return cells.cast(kind)
        except _NO_NUMBER:
            continue
    return None


def _put_levels(part: Floats, values: pa.ChunkedArray, column: Column) -> list[str]:
    """Fill the features of a category column, one for each level; lines about values that are none."""
    name, levels = column["name"], column["levels"]
    try:
        texts = numbers.trimmed(values)
    except _NO_NUMBER as error:
        raise DataError(f"the column {name!r} of type {values.type} cannot be read as text: {error}.") from error
    codes = pc.index_in(texts, value_set=pa.array(levels, pa.string())).fill_null(-1).to_numpy(zero_copy_only=False)
    at = np.flatnonzero(codes >= 0)
    part[at, codes[at]] = 1
    is_gap = pc.is_in(texts, value_set=pa.array([*GAPS, None], pa.string())).to_numpy(zero_copy_only=False)
    new = np.flatnonzero((codes < 0) & ~is_gap)
    if not len(new):
        return []
    known = ", ".join(levels[:5]) + (", ..." if len(levels) > 5 else "")
    return [
        f"column {name!r}: {len(new):,} values that no training row has, such as {texts[int(new[0])].as_py()!r} "
        f"(read as gaps; known are {known})"
    ]


def _no_numbers(kind: pa.DataType, error: Exception) -> str:
    return f"of type {kind} and cannot be read as numbers ({str(error).rstrip('.')})"
