"""What the views show besides Parquet files: metrics, decisions and the journal, as Arrow tables. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from litscope.attempts import valid_lines
from litscope.errors import ConfigError
from litscope.jsonlines import UNUSABLE
from litscope.ledger.journal.actions import canaries, check, decisions, entries, planted
from litscope.rundir import RunDir, read_lines

_DECISIONS = pa.schema(
    {
        "sample_id": pa.int64(),
        "is_discarded": pa.bool_(),
        "weight": pa.float64(),
        "new_name": pa.string(),
        "tags": pa.list_(pa.string()),
        "is_canary": pa.bool_(),
    }
)

_NOT_ARGUMENTS = ("id", "who", "when", "what", "why", "sample_id", "key", "canary")

_ACTIONS = pa.schema(
    {
        "id": pa.string(),
        "asked_at": pa.timestamp("ms"),
        "who": pa.string(),
        "what": pa.string(),
        "why": pa.string(),
        "status": pa.string(),
        "step": pa.int64(),
        "epoch": pa.int64(),
        "reason": pa.string(),
        "num_samples": pa.int64(),
        "sample_id": pa.list_(pa.int64()),
        "label": pa.list_(pa.string()),
        "tag": pa.string(),
        "weight": pa.float64(),
        "arguments": pa.string(),
        "is_canary": pa.bool_(),
    }
)


_LATEST_S = 253_402_300_800
"""The year 10000, in seconds since 1970: what Python can show of times ends before it."""


def _valid(run: RunDir, path: Path) -> list[dict[str, Any]]:
    return valid_lines(read_lines(path), read_lines(run.attempts))


def epochs_table(run: RunDir) -> pa.Table:
    """The last valid line of each epoch."""
    return _lines_table(list({line["epoch"]: line for line in _valid(run, run.epoch_metrics)}.values()))


def steps_table(run: RunDir) -> pa.Table:
    """The valid lines of the logged steps."""
    return _lines_table(_valid(run, run.step_metrics))


def _lines_table(lines: list[dict[str, Any]]) -> pa.Table:
    """JSON lines as columns, null where a line lacks one. What is no number, list of numbers or text stays JSON."""
    names = dict.fromkeys(["epoch", "step", "attempt", *(name for line in lines for name in line)])
    columns = {name: [line.get(name) for line in lines] for name in names}
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int}:
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array(values, pa.float64())
    if kinds == {list} and all(type(one) in (int, float, type(None)) for value in values for one in value or ()):
        return pa.array(values, pa.list_(pa.float64()))
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], pa.string())


def decided_table(run: RunDir) -> pa.Table:
    """One row for each sample that an action touched."""
    state, planted_ids = decisions(run), canaries(run)
    tags: dict[int, list[str]] = {}
    for tag in sorted(state.tags):
        for sample_id in state.tags[tag]:
            tags.setdefault(sample_id, []).append(tag)
    ids = sorted({*state.discarded, *state.labels, *state.weights, *tags, *planted_ids})
    columns = [
        ids,
        [i in state.discarded for i in ids],
        [state.weights.get(i, 1.0) for i in ids],
        [state.labels.get(i) for i in ids],
        [tags.get(i, []) for i in ids],
        [i in planted_ids for i in ids],
    ]
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, _DECISIONS, strict=True)], _DECISIONS
    )


def actions_table(run: RunDir) -> pa.Table:
    """One row per request, in the journal's order."""
    rows = []
    for entry in entries(run):
        answer = entry.answer or {}
        told = {name: answer.get(name) for name in ("step", "epoch", "reason")}
        told["reason"] = told["reason"] or entry.action.get(UNUSABLE)
        rows.append({"status": entry.status, **told, **_request_facts(entry.action)})
    return pa.Table.from_pylist(rows, schema=_ACTIONS)


def _request_facts(action: dict[str, Any]) -> dict[str, Any]:
    """The columns of `actions` that come from a request; its arguments only if this version understands them."""
    rest = {name: value for name, value in action.items() if name not in _NOT_ARGUMENTS}
    when = action.get("when")
    facts = {
        **{name: str(action.get(name, "")) for name in ("id", "who", "what", "why")},
        "asked_at": int(when * 1000) if isinstance(when, int | float) and 0 <= when < _LATEST_S else None,
        "is_canary": action.get("canary") is True,
        "arguments": json.dumps(rest, ensure_ascii=False),
    }
    try:
        check(action)
    except ConfigError:
        return facts
    ids = action.get("sample_id", [])
    label = list(planted(action).values()) if "label" in action else None
    return facts | {
        "num_samples": len(ids),
        "sample_id": ids,
        "label": label,
        "tag": action.get("tag"),
        "weight": action.get("weight"),
    }
