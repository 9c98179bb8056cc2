"""Read-only SQL over a run: the views that `litscope sql` and `--where` see. No torch.

DuckDB runs in memory and scans the run's Parquet files where they lie, only the columns and row
groups that a question needs. A view is set up only if the question names it, so that a count over the
manifest computes no scores. Once it is set up, the connection is locked: no query can write, read
another file, load an extension or reach the network, and `sql` takes one SELECT only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb.func import FunctionNullHandling, PythonUDFType

from litscope.defaults import CONTENT_COLUMNS
from litscope.errors import ConfigError, LitscopeError, did_you_mean
from litscope.ledger.custom import CUSTOM_SCHEMA
from litscope.ledger.database import open_database
from litscope.ledger.neighbours import with_neighbours
from litscope.ledger.queries import classes
from litscope.ledger.query import Limits, answer
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import PART_SCHEMA
from litscope.ledger.scoring.recent import RECENT, RecentWhenAsked
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.tables import actions_table, decided_table, epochs_table, steps_table
from litscope.ledger.uncertainties import SetsWhenAsked, measured_table
from litscope.rundir import RunDir

VIEWS: dict[str, str] = {
    "signals": "One row per visit: what the ledger recorded, without superseded rows.",
    "scores": "One row per sample that was seen: what the visits add up to.",
    "manifest": "One row per sample: key, label, split and the source's own columns, as the run began.",
    "classes": "One row per class: its index (`label`) and name (`label_name`).",
    "samples": "One row per sample: manifest, scores, and what was decided so far.",
    "custom": "One row per value that a watched loop recorded under a name of its own.",
    "metrics": "One row per epoch.",
    "steps": "One row per logged step.",
    "actions": "One row per action of the journal, with its status.",
}
"""Every view by its name, and what a row of it is."""

_NEEDS: dict[str, tuple[str, ...]] = {
    "manifest": ("classes",),
    "samples": ("manifest", "scores", "classes", "decided"),
}

_DECIDED = ("is_discarded", "weight", "tags", "is_canary", "current_label", "current_name")
_NAMES = ("believed_name", "pred_name")

Answer = TypeVar("Answer")

NO_MORE = Limits()
"""What a query may take unless somebody allows more."""


def connect(run: RunDir, views: Iterable[str] = VIEWS) -> duckdb.DuckDBPyConnection:
    """A locked in-memory database with the given views of a run. The caller closes it.

    Questions to `signals` and `custom` are for `ask`: their parts may be joined while they are scanned.

    Args:
        run: an open run, which may still be going on: the views show it as it is now.
        views: names in `VIEWS`, or `decided` (what actions did to samples, for our own queries); the views that
            they build on are added.

    Raises:
        LedgerError: if the signals or scores cannot be read.
        RunError: if the manifest is missing.
    """
    return _Maker(run, None).connect(views)


def ask(
    run: RunDir,
    views: Iterable[str],
    question: Callable[[duckdb.DuckDBPyConnection], Answer],
    limits: Limits | None = None,
) -> Answer:
    """What a question to views of a run finds. It is asked anew if parts that it scans were joined meanwhile.

    Args:
        run, views: as `connect`.
        question: is given the connection; may be called more than once.
        limits: of memory, for the database.

    Raises:
        duckdb.Error: what the question raises.
        KeyboardInterrupt: when Ctrl-C ends a query.
        LedgerError, RunError: as `connect`.
    """
    views = list(views)
    while True:
        maker = _Maker(run, limits)
        try:
            with maker.connect(views) as connection:
                return question(connection)
        except RuntimeError as error:
            if str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
                raise KeyboardInterrupt from error
            raise
        except (duckdb.Error, LitscopeError) as error:
            if all(Path(path).exists() for path in maker.paths):
                if maker.recent.error is not None:
                    raise maker.recent.error from error
                raise


def sql(run: RunDir, text: str, limits: Limits = NO_MORE) -> pa.Table:
    """The answer to one SELECT over the views (DESCRIBE, SUMMARIZE and SHOW TABLES count as such).

    Raises:
        ConfigError: if `text` is not one SELECT, takes more than the limits, or DuckDB refuses it; the message lists
            the columns.
        LedgerError, RunError: as `connect`.
    """
    names = _named_views(text) or list(VIEWS)

    def question(connection: duckdb.DuckDBPyConnection) -> pa.Table:
        try:
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise ConfigError(
                    f"Only one SELECT can be asked, not {text.strip()!r}: the views are read-only. "
                    "To change what a run does, there are actions (`litscope discard --help`)."
                )
            return answer(connection, text, limits)
        except duckdb.Error as error:
            raise ConfigError(_explain(error, names, connection)) from error

    return ask(run, names, question, limits)


def select_ids(run: RunDir, where: str, limits: Limits = NO_MORE) -> npt.NDArray[np.int64]:
    """The ascending sample_ids of the samples that meet a condition over `samples`, int64, without canaries.

    Args:
        run: an open run.
        where: what would follow WHERE, such as `label_name = 'cat' AND split = 'train'`.
        limits: as of `sql`.

    Raises:
        ConfigError: as `sql`.
    """
    if not where.strip():
        raise ConfigError("The condition is empty. For instance: label_name = 'cat' AND split = 'train'.")
    try:  # in brackets, `1=1) or (1=1` would pass for a condition; on its own it does not
        duckdb.extract_statements(f"SELECT sample_id FROM samples WHERE {where}")
    except duckdb.Error as error:
        raise ConfigError(f"{where!r} is not a condition: {str(error).splitlines()[0]}") from error
    found = sql(run, f"SELECT sample_id FROM samples WHERE ({where}\n) AND NOT is_canary ORDER BY sample_id", limits)
    return np.asarray(found["sample_id"].to_numpy(), dtype=np.int64)


def source_columns(run: RunDir) -> list[str]:
    """Names of the manifest's columns, without those that say what a sample's content is: they are not to be shown."""
    schema = pq.read_schema(run.whole_manifest())
    has_content = pa.types.is_fixed_size_binary(schema.field("digest").type) if "digest" in schema.names else False
    return [name for name in schema.names if not (has_content and name in CONTENT_COLUMNS)]


def _named_views(text: str) -> list[str]:
    """The views that a query may mean: those whose names are among its words."""
    words = set(re.findall(r"\w+", text.lower()))
    return [name for name in VIEWS if name in words]


class _Maker:
    """Sets up views in a database of its own.

    Attributes:
        paths: the files that the views scan.
        recent: where their columns of the last epochs come from.
    """

    def __init__(self, run: RunDir, limits: Limits | None) -> None:
        self._run, self._connection = run, open_database(None if limits is None else limits.most_bytes)
        self._made: set[str] = set()
        self.paths: set[str] = set()
        self.recent = RecentWhenAsked(run)

    def connect(self, views: Iterable[str]) -> duckdb.DuckDBPyConnection:
        """The database, locked, with these views and those that they build on."""
        connection = self._connection
        try:
            for name in views:
                self.make(name)
            paths = ", ".join(_text(path) for path in sorted(self.paths))
            connection.execute(f"SET allowed_paths = [{paths}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
        except BaseException:
            connection.close()
            raise
        return connection

    def make(self, name: str) -> None:
        """Set up a view, after the views that it builds on."""
        if name in self._made:
            return
        self._made.add(name)
        for needed in _NEEDS.get(name, ()):
            self.make(needed)
        makers: dict[str, Callable[[], None]] = {
            "signals": lambda: self._parts("signals", LedgerReader(self._run), PART_SCHEMA),
            "custom": lambda: self._parts("custom", LedgerReader(self._run, self._run.custom), CUSTOM_SCHEMA),
            "scores": self._scores,
            "manifest": self._manifest,
            "classes": self._classes,
            "samples": self._samples,
            "metrics": lambda: self._register("metrics", epochs_table(self._run)),
            "steps": lambda: self._register("steps", steps_table(self._run)),
            "actions": lambda: self._register("actions", actions_table(self._run)),
            "measured": self._measured,
            "decided": lambda: self._register("decided", decided_table(self._run)),
        }
        makers[name]()

    def _view(self, name: str, query: str) -> None:
        self._connection.execute(f'CREATE VIEW "{name}" AS {query}')

    def _register(self, name: str, table: pa.Table) -> None:
        self._connection.register(name, table)

    def _scan(self, files: list[Path]) -> str:
        paths = [str(path.absolute()) for path in files]
        self.paths.update(paths)
        return f"read_parquet([{', '.join(map(_text, paths))}], hive_partitioning = false)"

    def _parts(self, name: str, reader: LedgerReader, schema: pa.Schema) -> None:
        parts = reader.valid_files()
        if not parts:
            self._register(name, schema.empty_table())
            return
        columns = ", ".join(schema.names)
        selects = [f"SELECT {columns} FROM {self._scan(files)} WHERE {rows.sql()}" for files, rows in parts]
        self._view(name, " UNION ALL ".join(selects))

    def _scores(self) -> None:
        scores = with_neighbours(self._run, refresh(self._run).table)
        if not self._run.uncertainties.exists():
            return self._register("scores", scores)
        self._register("scores_alone", scores)
        self.make("measured")
        return self._view("scores", "SELECT * FROM scores_alone LEFT JOIN measured USING (sample_id)")

    def _measured(self) -> None:
        """What was measured, also of samples that were never seen in training: those of an ensemble that was joined."""
        names = classes(self._run)
        self._register("measured_without_sets", measured_table(self._run, names))
        self._connection.create_function(  # so that sets are read only where somebody asks for them
            "conformal_set_of",
            SetsWhenAsked(self._run, names).named,
            [duckdb.sqltypes.BIGINT],
            self._connection.list_type(duckdb.sqltypes.VARCHAR),
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
        )
        columns = "*, conformal_set_of(sample_id) AS conformal_set"
        self._view("measured", f"SELECT {columns} FROM measured_without_sets")

    @cached_property
    def _manifest_columns(self) -> list[str]:
        return source_columns(self._run)

    def _classes(self) -> None:
        names = classes(self._run)
        labels = pa.array(range(len(names)), pa.int32())
        self._register("classes", pa.table({"label": labels, "label_name": pa.array(names, pa.string())}))

    def _manifest(self) -> None:
        own = _renamed(self._manifest_columns, ("label_name",), "m")
        rows = self._scan([self._run.whole_manifest()])
        self._view("manifest", f"SELECT {own}, c.label_name FROM {rows} m LEFT JOIN classes c USING (label)")

    def _samples(self) -> None:
        for name in RECENT:  # functions, not a join: a query that does not name a column does not call it
            self._connection.create_function(
                f"recent_{name}",
                partial(self.recent.column, name),
                [duckdb.sqltypes.BIGINT],
                duckdb.sqltypes.FLOAT,
                type=PythonUDFType.ARROW,
                null_handling=FunctionNullHandling.SPECIAL,  # a sample without any row has none of these
            )
        recent = ", ".join(f"recent_{name}(m.sample_id) AS {name}" for name in RECENT)
        scores = [row[0] for row in self._connection.execute("DESCRIBE scores").fetchall()]
        scores = [name for name in scores if name not in ("sample_id", "split", "label")]
        measured: list[str] = []
        if self._run.uncertainties.exists():
            measured = [row[0] for row in self._connection.execute("DESCRIBE measured").fetchall()][1:]
        own = _renamed(self._manifest_columns, ("label_name", *scores, *RECENT, *_DECIDED, *_NAMES), "m")
        self._view(
            "samples",
            f"""
            SELECT {own}, m.label_name, {", ".join(f'{"u" if name in measured else "s"}."{name}"' for name in scores)},
                   coalesce(d.is_discarded, false) AS is_discarded, coalesce(d.weight, 1.0) AS weight,
                   coalesce(d.tags, []) AS tags, coalesce(d.is_canary, false) AS is_canary,
                   coalesce(n.label, m.label) AS current_label,
                   coalesce(n.label_name, m.label_name) AS current_name,
                   b.label_name AS believed_name, p.label_name AS pred_name, {recent}
            FROM manifest m LEFT JOIN scores s USING (sample_id) LEFT JOIN decided d USING (sample_id)
            {"LEFT JOIN measured u USING (sample_id)" if measured else ""}
            LEFT JOIN classes n ON n.label_name = d.new_name LEFT JOIN classes b ON b.label = s.believed_label
            LEFT JOIN classes p ON p.label = s.last_pred
            """,
        )


def _renamed(columns: Iterable[str], taken: Iterable[str], table: str) -> str:
    """The source's columns for a SELECT; a name that a view itself uses gets the prefix `source_`."""
    taken = set(taken)
    quoted = [(name, name.replace('"', '""')) for name in columns]
    return ", ".join(f'{table}."{q}"' + (f' AS "source_{q}"' if name in taken else "") for name, q in quoted)


def _text(value: str) -> str:
    return "'{}'".format(value.replace("'", "''"))


def _explain(error: duckdb.Error, names: list[str], connection: duckdb.DuckDBPyConnection) -> str:
    """DuckDB's message in one line, with similar names, or all columns, if one is unknown."""
    message = " ".join(str(error).split("\n\nLINE")[0].split())
    column = re.search(r'column (?:named )?"(\w[^"]*)"', message)
    if isinstance(error, duckdb.BinderException) and column:
        columns = {name: [r[0] for r in connection.execute(f"DESCRIBE {name}").fetchall()] for name in names}
        hint = did_you_mean(column[1], {c for own in columns.values() for c in own})
        listed = "; ".join(f"{name} has {', '.join(own)}" for name, own in columns.items())
        return f"{message.split(' Candidate bindings')[0]}{hint} {listed}."
    if isinstance(error, duckdb.CatalogException) and "Table with name" in message:
        return f"{message.split(' Did you mean')[0]} The views are {', '.join(VIEWS)}."
    return message
