"""The answer to a query, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from litscope.jsonlines import is_unicode
from litscope.ledger.query import Limits
from litscope.ledger.views import sql
from litscope.rundir import RunDir
from litscope.studio.refusals import AskedWrong

SQL_LIMITS = Limits(seconds=20.0, memory_bytes=200_000_000)
MOST_SQL_ROWS = 1000


@dataclass(frozen=True)
class SqlAnswer:
    """The answer to a query: columns with name and type, and at most `MOST_SQL_ROWS` rows."""

    columns: list[dict[str, str]]
    rows: list[list[Any]]
    num_rows: int
    is_cut: bool


def sql_answer(run: RunDir, query: str) -> SqlAnswer:
    """The answer to one SELECT over a run's views, within `SQL_LIMITS`.

    Raises:
        AskedWrong: if the query is no Unicode.
        ConfigError: if it is no SELECT, or takes too much.
    """
    if not is_unicode(query):
        raise AskedWrong("The query holds half of a surrogate pair, which is no Unicode.", "query")
    found = sql(run, query, SQL_LIMITS)
    columns = [{"name": field.name, "type": str(field.type)} for field in found.schema]
    listed = [[_plain(value) for value in row.values()] for row in _unique(found[:MOST_SQL_ROWS]).to_pylist()]
    return SqlAnswer(columns, listed, found.num_rows, found.num_rows > MOST_SQL_ROWS)


def _unique(table: pa.Table) -> pa.Table:
    """With a name of its own for each column, as rows of objects need it."""
    return table.rename_columns([f"{i}" for i in range(table.num_columns)])


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, bool | int | str | None):
        return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return str(value)
