"""Files that a script asks for: tables as Parquet, CSV or JSON, whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from litscope.console import say
from litscope.errors import ConfigError
from litscope.ledger.encode import csv_lines
from litscope.rundir import RunDir, whole_file
from litscope.watch.wrapped.outside import warn_once
from litscope.watch.wrapped.processes import is_first_process

FORMATS = ("parquet", "csv", "json")

ORIENTS = ("columns", "records")


def one_or_more(given: Any) -> list[Any]:
    """A value alone, or those of a list, as a list."""
    return [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)


def write_table(
    stem: str,
    run: RunDir,
    path: str | Path | None,
    form: str | None,
    sections: Mapping[str, pa.Table],
    schema: pa.Schema,
    orient: str,
    verbose: bool,
) -> str:
    """Write tables of one schema into a file. The first process writes it.

    Args:
        stem: the file's name in a folder, without its ending.
        run: whose folder is taken if no path is given.
        path: a file, or a folder; None: `exports/` of the run.
        form: one of `FORMATS`; None: what the path's ending says, else parquet.
        sections: name -> table. Parquet and CSV hold one after the other; JSON is an object with an entry for each,
            or, if there is one without a name, that alone.
        schema: of a file without tables.
        orient: of JSON, one of `ORIENTS`.
        verbose: say where it is.

    Returns:
        Its absolute path.

    Raises:
        ConfigError: if the form or `orient` is unknown.
    """
    target = Path(run.exports if path is None else path)
    chosen = (form or target.suffix[1:].lower() or "parquet").strip().lower()
    if form is None and chosen not in FORMATS:
        chosen = "parquet"
    if chosen not in FORMATS:
        raise ConfigError(f"format={form!r}: it is {', '.join(FORMATS)}.")
    if orient not in ORIENTS:
        raise ConfigError(f"orient={orient!r}: it is {', '.join(ORIENTS)}.")
    if not target.suffix or target.is_dir():
        target = target / f"{stem}.{chosen}"
    whole = pa.concat_tables([schema.empty_table(), *sections.values()])
    if not whole.num_rows:
        warn_once(f"{target} has no rows: nothing was recorded that fits what was asked for.")
    if is_first_process():
        with whole_file(target) as file:
            if chosen == "parquet":
                pq.write_table(whole, file)
            else:
                lines = csv_lines(whole) if chosen == "csv" else _json(sections, orient)
                file.writelines(line.encode() for line in lines)
        if verbose:
            say(f"litscope: {whole.num_rows:,} rows in {target}")
    return str(target.absolute())


def _json(sections: Mapping[str, pa.Table], orient: str) -> Iterator[str]:
    if list(sections) == [""]:
        yield json.dumps(_shaped(sections[""], orient), ensure_ascii=False) + "\n"
        return
    yield json.dumps({name: _shaped(table, orient) for name, table in sections.items()}, ensure_ascii=False) + "\n"


def _shaped(table: pa.Table, orient: str) -> Any:
    columns = {name: [_plain(value) for value in table[name].to_pylist()] for name in table.column_names}
    if orient == "records":
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {name: {str(i): value for i, value in enumerate(values)} for name, values in columns.items()}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
