"""Tables for people."""

from __future__ import annotations

from litscope.commands.text import as_read, table
from litscope.console import cell, sparkline
from litscope.ledger.schema import PART_SCHEMA
from litscope.ledger.scoring.score_schema import SCORE_SCHEMA


def test_epochs_count_from_one_where_a_person_reads() -> None:
    assert as_read({"epoch": 0, "first_learned_epoch": -1, "step": 0, "key": "a"}) == {
        "epoch": 1,
        "first_learned_epoch": None,
        "step": 0,
        "key": "a",
    }
    assert as_read({"first_learned_epoch": 4, "epoch": None}) == {"first_learned_epoch": 5, "epoch": None}
    stored = [name for name in (*PART_SCHEMA.names, *SCORE_SCHEMA.names) if name.endswith("epoch")]
    assert all(as_read({name: 0}) == {name: 1} for name in stored)


def test_a_table_is_aligned() -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 20, "b": None}]
    assert table(rows, {"a": "n", "b": "name"}) == [" n  name", " 1  x", "20"]
    assert (cell(0.123456), cell([True, None, "b"]), sparkline([0, 1, None])) == ("0.1235", "true, , b", "▁█·")
