"""One sample of a run, found by key or id: its scores, visits and neighbours, and what was done to it. No torch."""

from __future__ import annotations

from typing import Any
from unicodedata import normalize

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from litscope.console import shell_word
from litscope.errors import RunError
from litscope.ledger.history import history
from litscope.ledger.journal.actions import Entry, entries
from litscope.ledger.neighbours import NEIGHBOUR_SCORES, read_neighbours
from litscope.ledger.queries import classes
from litscope.ledger.views import ask
from litscope.rundir import RunDir

_NUM_CLOSE = 3


def find_sample(run: RunDir, name: str) -> int:
    """The sample_id of a key, of the only key that ends in `/name`, or the number itself.

    Raises:
        RunError: if there is none, with keys that contain the name.
    """
    keys = pq.read_table(run.whole_manifest(), columns=["sample_id", "key"], partitioning=None)
    found = keys.filter(pc.field("key") == name)
    if not found.num_rows and not name.isascii():  # an accent may be written in two ways
        name, keys = normalize("NFC", name), keys.set_column(1, "key", pc.utf8_normalize(keys["key"], form="NFC"))
        found = keys.filter(pc.field("key") == name)
    if not found.num_rows:
        found = keys.filter(pc.ends_with(keys["key"], f"/{name}"))
    if found.num_rows == 1:
        return int(found["sample_id"][0].as_py())
    if not found.num_rows and name.isascii() and name.isdigit() and int(name) < keys.num_rows:
        return int(name)
    close = found if found.num_rows else keys.filter(pc.match_substring(keys["key"], name, ignore_case=True))
    listed = ", ".join(close["key"][:_NUM_CLOSE].to_pylist())
    hint = f" Keys with it: {listed}{', ...' if close.num_rows > _NUM_CLOSE else ''}." if listed else ""
    what = "is the end of several keys" if found.num_rows else "is no key of a sample"
    raise RunError(f"{name!r} {what} of {run.path}, and no id from 0 to {keys.num_rows - 1:,}.{hint}")


def describe_sample(run: RunDir, sample_id: int) -> dict[str, Any]:
    """What a run knows about one sample: the row of the view `samples`, its `visits` and its `actions`.

    Raises:
        RunError: if there is no such sample.
    """
    query = "SELECT * FROM samples WHERE sample_id = $sample_id"

    def question(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            connection.sql(query, params={"sample_id": sample_id}).to_arrow_table().to_pylist()
        )
        return found

    rows = ask(run, ["samples"], question)
    if not rows:
        raise RunError(f"{run.path} has no sample {sample_id}.")
    return {**rows[0], "visits": _visits(run, sample_id), "actions": _actions(run, sample_id)}


def neighbours_of(run: RunDir, sample_id: int, n: int) -> dict[str, Any]:
    """One sample and the samples nearest to it.

    Returns:
        sample_id, key, split, label_name (as people decided), `NEIGHBOUR_SCORES`, network, and neighbours, the nearest
        first: rank (from 1), sample_id, key, split, label_name, distance.

    Raises:
        RunError: if the run has no neighbours of it.
    """
    found = read_neighbours(run)
    rows = [] if found is None else found.table.filter(pc.field("sample_id") == sample_id).to_pylist()
    if found is None or not rows:
        raise RunError(
            f"{run.path} has no neighbours of sample {sample_id}: it could not be read, or was discarded. To look for "
            f"them anew: litscope neighbours {shell_word(run.path)} {sample_id} --again"
        )
    row = rows[0]
    nearest = list(zip(row["nearest"], row["distances"], strict=True))[:n]
    ids = [sample_id, *(other for other, _ in nearest)]
    query = """
        SELECT sample_id, key, split, current_name AS label_name FROM samples
        WHERE sample_id IN (SELECT unnest($ids::BIGINT[]))
    """

    def question(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
        named: list[dict[str, Any]] = connection.sql(query, params={"ids": ids}).to_arrow_table().to_pylist()
        return named

    known = {one["sample_id"]: one for one in ask(run, ["samples"], question)}
    return {
        **known[sample_id],
        **{name: row[name] for name in NEIGHBOUR_SCORES},
        "network": found.network,
        "neighbours": [
            {"rank": rank, **known[other], "distance": distance} for rank, (other, distance) in enumerate(nearest, 1)
        ],
    }


def _visits(run: RunDir, sample_id: int) -> list[dict[str, Any]]:
    names = classes(run)
    table: pa.Table = history(run, sample_id)
    return [{**row, "pred_name": names[row["pred"]]} for row in table.drop_columns(["sample_id"]).to_pylist()]


def _actions(run: RunDir, sample_id: int) -> list[dict[str, Any]]:
    """The requests that name the sample, without the other samples in them."""
    return [_told(entry, sample_id) for entry in entries(run) if _names(entry.action, sample_id)]


def _names(action: dict[str, Any], sample_id: int) -> bool:
    ids = action.get("sample_id")
    return isinstance(ids, list) and sample_id in ids


def _told(entry: Entry, sample_id: int) -> dict[str, Any]:
    action = {name: value for name, value in entry.action.items() if name not in ("sample_id", "key")}
    if isinstance(action.get("label"), list):
        action["label"] = action["label"][entry.action["sample_id"].index(sample_id)]
    answer = entry.answer or {}
    return {**action, "status": entry.status, "step": answer.get("step"), "epoch": answer.get("epoch")}
