"""History: what was recorded of a run under the script's own names, as tuples and as a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from litscope.errors import ConfigError
from litscope.ledger.tables import steps_table
from litscope.live.records import epoch_rows, metrics_in
from litscope.rundir import RunDir
from litscope.watch.wrapped.exports import one_or_more, write_table
from litscope.watch.wrapped.memory import recorded
from litscope.watch.wrapped.outside import warn_once
from litscope.watch.wrapped.watched import newest_run, written_run

HISTORY = pa.schema(
    {
        "type": pa.string(),
        "graph_name": pa.string(),
        "experiment_hash": pa.string(),
        "step": pa.int64(),
        "metric_value": pa.float64(),
        "sample_id": pa.int64(),
        "annotation_id": pa.int64(),
    }
)
"""The columns of a history: `type` is global (a number of a step) or sample (a number of a sample at a step)."""

TYPES = {"all": ("global", "sample"), "global": ("global",), "sample": ("sample",), "instance": (), "instances": ()}

SampleHistory = list[tuple[int, int, float, str]]


def get_current_experiment_hash() -> str | None:
    """The name of the run's folder, which tells runs apart here; None before the run begins."""
    run = newest_run()
    return None if run is None else run.path.name


def query_signal_history(
    signal_name: str, exp_hash: str | None = None, sample_ids: Iterable[int] | None = None
) -> SampleHistory:
    """What was recorded under a name: (sample_id, step, value, name of the run), in the order of the steps.

    Args:
        signal_name: of a watched loss, a signal, or what `save_signals` was given.
        exp_hash: only of the run of this name; there is one.
        sample_ids: only of these samples; None: of all.

    Raises:
        ConfigError: if nothing has been recorded at all yet.
    """
    run = written_run()
    if not _is_meant(run, exp_hash):
        return []
    rows = recorded(run, [signal_name], None if sample_ids is None else [int(i) for i in sample_ids])
    columns = [rows[name].to_pylist() for name in ("sample_id", "step", "value")]
    return [(*visit, run.path.name) for visit in zip(*columns, strict=True)]


def query_sample_history(
    sample_id: int | str, signal_name: str | None = None, exp_hash: str | None = None
) -> list[tuple[str, int, float, str]]:
    """What was recorded of a sample: (name, step, value, name of the run), in the order of the steps.

    Args:
        sample_id: as the batches of watched loaders carry it.
        signal_name: only under this name; None: under all.
        exp_hash: as of `query_signal_history`.

    Raises:
        ConfigError: if nothing has been recorded at all yet.
    """
    run = written_run()
    if not _is_meant(run, exp_hash):
        return []
    rows = recorded(run, None if signal_name is None else [signal_name], [int(sample_id)])
    columns = [rows[name].to_pylist() for name in ("name", "step", "value")]
    return [(*visit, run.path.name) for visit in zip(*columns, strict=True)]


def write_history(
    path: str | Path | None = None,
    format: str | None = None,
    type_of_history: str | None = None,
    graph_name: str | Iterable[str] | None = None,
    experiment_hash: str | None = None,
    sample_id: Any = None,
    orient: str = "columns",
    instance_id: Any = None,
    verbose: bool = False,
) -> str:
    """Write what was recorded under the script's own names into a file; see `HISTORY` for its columns.

    Global rows are the means of each step, numbers of steps (`save_model_signals`, losses without ids, computed
    metrics), the mean training loss and learning rate of the logged steps, and the metrics of each epoch at its last
    step.

    Args:
        path: a file, or a folder for `history.parquet` (or .csv, .json); default: `exports/` in the run's folder.
        format: parquet, csv or json; default: that of the file's name, else parquet.
        type_of_history: global, sample, or all.
        graph_name: only these names.
        experiment_hash: only of the run of this name; there is one.
        sample_id: sample rows of these samples only.
        orient: of JSON, an object of `global` and `sample`: columns, or records.
        instance_id: out of scope, and said so; no rows have one.
        verbose: also say where it is.

    Returns:
        The file's absolute path.

    Raises:
        ConfigError: if nothing has been recorded yet, or an argument is not one of those above.
    """
    kind = (type_of_history or "all").strip().lower()
    if kind not in TYPES:
        raise ConfigError(f"type_of_history={type_of_history!r}: it is {', '.join(TYPES)}.")
    if instance_id is not None or kind.startswith("instance"):
        warn_once("Histories of instances are out of scope: litscope records samples. No rows have an instance.")
    run = written_run()
    names = None if graph_name is None else set(one_or_more(graph_name))
    ids = None if sample_id is None else [int(i) for i in one_or_more(sample_id)]
    sections = {}
    if instance_id is None and _is_meant(run, experiment_hash):
        makers = {"global": lambda: _of_steps(run, names), "sample": lambda: _of_samples(run, names, ids)}
        sections = {section: makers[section]() for section in TYPES[kind]}
    return write_table("history", run, path, format, sections, HISTORY, orient, verbose)


def _is_meant(run: RunDir, name: str | None) -> bool:
    return name in (None, "all", "last", run.path.name)


def _of_samples(run: RunDir, names: set[str] | None, ids: list[int] | None) -> pa.Table:
    rows = recorded(run, None if names is None else sorted(names), ids)
    return _table("sample", run, rows["name"], rows["step"], rows["value"], rows["sample_id"])


def _of_steps(run: RunDir, names: set[str] | None) -> pa.Table:
    means = recorded(run, None if names is None else sorted(names)).group_by(["name", "step"], use_threads=False)
    rows = means.aggregate([("value", "mean")])
    points = [*zip(rows["name"].to_pylist(), rows["step"].to_pylist(), rows["value_mean"].to_pylist(), strict=True)]
    for line in (*steps_table(run).to_pylist(), *epoch_rows(run)):
        numbers = {name: value for name, value in metrics_in(line).items() if isinstance(value, int | float)}
        if line.get("lr") is not None and "num_samples" not in line:
            numbers["lr"] = line["lr"]
        points += [(name, line["step"], value) for name, value in numbers.items() if names is None or name in names]
    points.sort(key=lambda point: (point[1], point[0]))
    columns = zip(*points, strict=True) if points else ((), (), ())
    return _table("global", run, *(pa.array(column) for column in columns))


def _table(kind: str, run: RunDir, names: Any, steps: Any, values: Any, sample_ids: Any = None) -> pa.Table:
    count = len(names)
    nothing = pa.nulls(count, pa.int64())
    columns = [
        pa.array(np.full(count, kind, object), pa.string()),
        names.cast(pa.string()),
        pa.array(np.full(count, run.path.name, object), pa.string()),
        steps.cast(pa.int64()),
        values.cast(pa.float64()),
        nothing if sample_ids is None else sample_ids.cast(pa.int64()),
        nothing,
    ]
    return pa.table(columns, schema=HISTORY)
