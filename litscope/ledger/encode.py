"""Arrow tables as CSV and JSON text, block by block: a million rows as Python objects would take gigabytes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa

from litscope.console import json_printable
from litscope.spreadsheets import escaped_text

_BLOCK = 8192


def csv_lines(found: pa.Table) -> Iterator[str]:
    """A table as CSV with a header, a few thousand rows at a time; lists are joined by semicolons, text is escaped."""
    for values in itertools.chain([[[name] for name in found.column_names]], _blocks(found)):
        out = io.StringIO()
        joined = [[_cell(value) for value in column] for column in values]
        csv.writer(out, lineterminator="\n").writerows(zip(*joined, strict=True))
        yield out.getvalue()


def _cell(value: Any) -> Any:
    text = ";".join(map(str, value)) if isinstance(value, list) else value
    return escaped_text(text) if isinstance(text, str) else text


def json_lines(found: pa.Table) -> Iterator[str]:
    """A table as one JSON list with an object per line, a few thousand at a time; see `json_rows`."""
    yield from json_list(json_rows(found))
    yield "\n"


def json_rows(found: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table as plain values, for JSON; only a few thousand are Python objects at a time.

    NaN becomes null; what JSON does not know becomes a number (decimals) or text (times, bytes).
    """
    names = found.column_names
    for values in _blocks(found):
        for row in zip(*values, strict=True):
            yield dict(zip(names, map(_plain, row), strict=True))


def json_list(rows: Iterator[Mapping[str, Any]], indent: str = "") -> Iterator[str]:
    """Objects of plain values as the text of one JSON list, one on each line; a few thousand at a time.

    Args:
        rows: what `json_rows` gives.
        indent: before the closing bracket; the lines have two spaces more.
    """
    start = "["
    while block := list(itertools.islice(rows, _BLOCK)):
        lines = (json_printable(json.dumps(row, ensure_ascii=False, allow_nan=False)) for row in block)
        yield start + ",".join(f"\n{indent}  {line}" for line in lines)
        start = ","
    yield "[]" if start == "[" else f"\n{indent}]"


def _blocks(found: pa.Table) -> Iterator[list[list[Any]]]:
    """The values of each column, for one block of rows after another."""
    for start in range(0, found.num_rows, _BLOCK):
        part = found.slice(start, _BLOCK)
        yield [column.to_pylist() for column in part.columns]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)
