"""CSV that a spreadsheet shows and does not run, and that comes back unchanged. No torch.

Excel, LibreOffice and Google Sheets take a cell for a formula that begins with = + - @, a tab or a carriage return. A
text that does gets an apostrophe before it, as people write it there, and so does one that has the apostrophe already;
`unescaped` takes one away. Numbers, also those that are text, stay as they are.
"""

from __future__ import annotations

import re
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

_RUN = r"^('*[=+\-@\t\r])"
_ESCAPED = r"^'('*[=+\-@\t\r])"
_NUMBER = r"^[+-](\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"


def escaped_text(text: str) -> str:
    """One cell or column name as it is written.

    >>> [escaped_text(text) for text in ("=cmd|calc", "cat", "-1.5", "-x", "'=1")]
    ["'=cmd|calc", 'cat', '-1.5', "'-x", "''=1"]
    """
    return text if re.search(_NUMBER, text) else re.sub(_RUN, r"'\1", text)


def unescaped_text(text: str) -> str:
    """The text that `escaped_text` was given, from what it returned."""
    return re.sub(_ESCAPED, r"\1", text)


def write_csv(table: pa.Table, file: IO[Any]) -> None:
    """Write a table as CSV, with text and column names escaped."""
    names = [escaped_text(name) for name in table.column_names]
    pyarrow.csv.write_csv(pa.table([_escaped(column) for column in table.columns], names), file)


def _escaped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not _is_text(column):
        return column
    safe = pc.replace_substring_regex(column, _RUN, r"'\1")
    return pc.if_else(pc.match_substring_regex(column, _NUMBER), column, safe)


def unescaped(table: pa.Table) -> pa.Table:
    """A table as it was before `write_csv`."""
    columns = [
        pc.replace_substring_regex(column, _ESCAPED, r"\1") if _is_text(column) else column for column in table.columns
    ]
    return pa.table(columns, [unescaped_text(name) for name in table.column_names])


def _is_text(column: pa.ChunkedArray) -> bool:
    return column.type in (pa.string(), pa.large_string())
