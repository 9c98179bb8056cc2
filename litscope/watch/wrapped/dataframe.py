"""The table of all samples of a run, for a script that asks: labels, predictions, tags, last values of its signals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from litscope.errors import ConfigError, did_you_mean
from litscope.ledger.journal.actions import decisions
from litscope.ledger.views import ask
from litscope.rundir import RunDir
from litscope.watch.wrapped.exports import one_or_more, write_table
from litscope.watch.wrapped.outside import warn_once
from litscope.watch.wrapped.shapes import shape_tag, shapes_of
from litscope.watch.wrapped.watched import latest, written_run

SAMPLES = """
    SELECT m.sample_id, 0 AS annotation_id, m.key, m.split AS origin,
           coalesce(s.target, nullif(m.label, -1))::BIGINT AS target, s.prediction::BIGINT AS prediction
    FROM manifest m LEFT JOIN (
        SELECT sample_id, arg_max(label, (epoch, step)) AS target, arg_max(pred, (epoch, step)) AS prediction
        FROM signals GROUP BY sample_id
    ) s USING (sample_id)
    ORDER BY m.sample_id
"""

LAST_VALUES = """
    SELECT name::VARCHAR AS name, sample_id, arg_max(value, (epoch, step))::DOUBLE AS value
    FROM custom GROUP BY ALL ORDER BY ALL
"""

GROUPS = {"tags": "tag:", "signals": "signals//"}
"""What a group of columns begins with."""

ALWAYS = ("sample_id", "annotation_id")


def write_dataframe(
    path: str | Path | None = None,
    format: str | None = None,
    columns: str | Iterable[str] | None = None,
    sample_id: Any = None,
    instance_id: Any = None,
    orient: str = "columns",
    verbose: bool = False,
    loss_shape_signal: str | None = None,
) -> str:
    """Write the table of all samples into a file, a row for each.

    Its columns are `sample_id`, `annotation_id` (0), `key`, `origin` (name of the loader, else the split), `target` and
    `prediction` (class indices, as last shown), `discarded`, `tag:NAME` (true or null; of tags with several values the
    value), and `signals//NAME` (the last value).

    Args:
        path: a file, or a folder for `dataframe.parquet` (or .csv, .json); default: `exports/` in the run's folder.
        format: parquet, csv or json; default: that of the file's name, else parquet.
        columns: names, or `tags`, `signals`, `discarded`, `all`; ids are always there. None: all.
        sample_id: only these samples.
        instance_id: out of scope, and said so; only 0, the sample itself, has rows.
        orient: of JSON: columns, or records.
        verbose: also say where it is.
        loss_shape_signal: also tell the shape of this signal's trajectories, as the tag that `write_signal_shapes`
            would give; nobody is tagged.

    Returns:
        The file's absolute path.

    Raises:
        ConfigError: if nothing has been recorded yet, or an argument is not one of those above.
    """
    run = written_run()
    table = samples_table(run)
    if loss_shape_signal is not None:
        shapes = shapes_of(loss_shape_signal)
        values = [shapes.get(i) for i in table["sample_id"].to_pylist()]
        table = _with_column(table, f"tag:{shape_tag(loss_shape_signal)}", pa.array(values, pa.string()))
    if columns is not None:
        table = table.select(_chosen(one_or_more(columns), table.column_names))
    if sample_id is not None:
        ids = {int(i) for i in one_or_more(sample_id)}
        table = table.filter(pa.array([i in ids for i in table["sample_id"].to_pylist()], pa.bool_()))
    if instance_id is not None and {int(i) for i in one_or_more(instance_id)} != {0}:
        warn_once("Instances are out of scope: litscope records samples, which are the rows of instance 0.")
        table = table if 0 in map(int, one_or_more(instance_id)) else table.slice(0, 0)
    return write_table("dataframe", run, path, format, {"": table}, table.schema, orient, verbose)


def samples_table(run: RunDir) -> pa.Table:
    """All samples with all columns of `write_dataframe`."""
    table = ask(run, ["manifest", "signals"], lambda connection: connection.sql(SAMPLES).to_arrow_table())
    last = ask(run, ["custom"], lambda connection: connection.sql(LAST_VALUES).to_arrow_table())
    ids, decided = table["sample_id"].to_pylist(), decisions(run)
    columns = {
        "origin": _origins(ids, table["origin"].to_pylist()),
        "discarded": pa.array([i in decided.discarded for i in ids], pa.bool_()),
        **_tag_columns(ids, decided.tags),
        **_signal_columns(ids, last),
    }
    table = table.drop_columns(["origin"])
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _origins(ids: list[int], splits: list[str]) -> pa.Array:
    """The name of each sample's loader; its split where there is none."""
    watched = latest()
    loaders = {} if watched is None else watched.loaders
    names = {i: name for name, loader in loaders.items() for i in loader.wrapped_dataset.ids().tolist()}
    return pa.array([names.get(i, split) for i, split in zip(ids, splits, strict=True)], pa.string())


def _tag_columns(ids: list[int], tags: Mapping[str, set[int]]) -> dict[str, pa.Array]:
    """A column for each tag: true or null. Tags `name=value` are one column of values."""
    given: dict[str, dict[int, str]] = {}
    for tag, tagged in sorted(tags.items()):
        name, _, value = tag.partition("=")
        given.setdefault(f"tag:{name}", {}).update(dict.fromkeys(tagged, value))
    columns = {}
    for name, values in given.items():
        has_values = any(values.values())
        found = [(values[i] if has_values else True) if i in values else None for i in ids]
        columns[name] = pa.array(found, pa.string() if has_values else pa.bool_())
    return columns


def _signal_columns(ids: list[int], last: pa.Table) -> dict[str, pa.Array]:
    """A column for each signal: the last value, null for a sample without any."""
    given: dict[str, dict[int, float]] = {}
    for name, sample_id, value in zip(*(last[c].to_pylist() for c in last.column_names), strict=True):
        given.setdefault(f"signals//{name}", {})[sample_id] = value
    return {name: pa.array([values.get(i) for i in ids], pa.float64()) for name, values in given.items()}


def _with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with a column, in place of one of the same name."""
    rest = table.drop_columns([name]) if name in table.column_names else table
    return rest.append_column(name, values)


def _chosen(asked: list[str], names: list[str]) -> list[str]:
    """The columns that are meant, in the table's order; tags that nobody has given yet are left out.

    Raises:
        ConfigError: if a name is no column.
    """
    wanted: set[str] = set(ALWAYS)
    for one in asked:
        if one.lower() == "all":
            wanted.update(names)
        elif one.lower() in GROUPS:
            wanted.update(name for name in names if name.startswith(GROUPS[one.lower()]))
        elif one in names:
            wanted.add(one)
        elif one.startswith("tag:"):
            warn_once(f"Nobody has the tag {one.removeprefix('tag:')!r}, so the file has no column of it.")
        else:
            raise ConfigError(f"{one!r} is no column.{did_you_mean(one, names)} There are {', '.join(names)}.")
    return [name for name in names if name in wanted]
