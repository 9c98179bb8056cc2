"""CSV and Parquet files as Arrow tables: a look at their columns, and their rows. No torch."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from litscope.data.reading.gaps import NUMBER_GAPS
from litscope.data.sources import delimited
from litscope.errors import DataError
from litscope.spreadsheets import escaped_text, unescaped, unescaped_text


@dataclass(frozen=True)
class TableFile:
    """A CSV or Parquet file, looked at and not yet read.

    Attributes:
        path: the file.
        names: of its columns, without white space around them.
        text: how it is read, of a CSV file; None for Parquet.
        index: names of the columns that pandas says are the index of its rows.
        categories: names of the columns of whole numbers that were written as categories without an order (of pandas,
            say). Parquet itself keeps the numbers only.
    """

    path: Path
    names: list[str]
    text: delimited.Delimited | None = None
    index: list[str] = field(default_factory=list)
    categories: frozenset[str] = frozenset()

    @property
    def notes(self) -> list[str]:
        """Lines to tell the person about how the file was read."""
        return [] if self.text is None else self.text.notes

    @property
    def separator(self) -> str | None:
        """The separator of a CSV file's cells; None for Parquet."""
        return None if self.text is None else self.text.separator

    def read(self, text_columns: Iterable[str] = ()) -> pa.Table:
        """Read all rows.

        Args:
            text_columns: columns that are read as text, so that 007 stays 007 and empty stays empty.

        Raises:
            DataError: if it cannot be read, has no rows, or has two columns of one name.
        """
        try:
            if self.text is None:
                table = pq.read_table(self.path, partitioning=None)
            else:
                text = list(text_columns)
                table = unescaped(self.text.read({*text, *map(escaped_text, text)}, NUMBER_GAPS))
        except (OSError, UnicodeError, csv.Error, pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise DataError(f"{self.path} cannot be read: {error}.") from error
        table = table.rename_columns([name.strip() for name in table.column_names])
        table = _without_nameless(table)
        names = table.column_names
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise DataError(f"{self.path} has more than one column named {', '.join(map(repr, doubled))}. Rename them.")
        if table.num_rows == 0:
            raise DataError(f"{self.path} has no rows below its header ({', '.join(names)}).")
        return table


def open_table(path: Path) -> TableFile:
    """Look at a file; its ending says whether it is CSV or Parquet.

    Raises:
        DataError: if it is neither, or empty.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            schema = pq.read_schema(path)
            if not schema.names:
                raise DataError(f"{path}: the file has no columns.")
            names = [name.strip() for name in schema.names]
            return TableFile(path, names, index=_index_of_pandas(schema), categories=_categories(path))
        found = delimited.look(path)
    except (OSError, UnicodeError, csv.Error, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return TableFile(path, [unescaped_text(name).strip() for name in found.names], found)


def read_table(path: Path, text_columns: Iterable[str] = ()) -> pa.Table:
    """Read a CSV or Parquet file; see `open_table` and `TableFile.read`. Raises DataError."""
    return open_table(path).read(text_columns)


def _without_nameless(table: pa.Table) -> pa.Table:
    """The table without its columns of no name, where there are several: what trailing separators leave behind."""
    kept = [i for i, name in enumerate(table.column_names) if name]
    return table if table.num_columns - len(kept) < 2 else table.select(kept)


def _categories(path: Path) -> frozenset[str]:
    """Names of the columns of whole numbers that were written as categories without an order.

    Arrow and pandas write their own schema beside Parquet's, which has no categories, and give integers back as such.
    """
    written = (pq.read_metadata(path).metadata or {}).get(b"ARROW:schema")
    if written is None:
        return frozenset()
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(written)))
    except (ValueError, OSError, pa.ArrowException):
        return frozenset()
    kinds = zip(schema.names, schema.types, strict=True)
    return frozenset(
        name.strip()
        for name, kind in kinds
        if pa.types.is_dictionary(kind) and pa.types.is_integer(kind.value_type) and not kind.ordered
    )


def _index_of_pandas(schema: pa.Schema) -> list[str]:
    """Names of the columns that pandas wrote as the index of its rows."""
    try:
        found = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in found if isinstance(name, str)]
