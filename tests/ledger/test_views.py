"""SQL over a run: what the views show, and what no query may do."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import duckdb
import numpy as np
import pytest
from asked_runs import TRAIN, act, asked_run, epoch_rows
from ledger_rows import visits

from litscope.attempts import begin_attempt
from litscope.errors import ConfigError, LedgerError
from litscope.ledger import views
from litscope.ledger.views import VIEWS, connect, select_ids, sql
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, append_line

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return asked_run(tmp_path / "a run's [1]*, lr=0.1")  # a name with all that SQL, globs and partitions take amiss


def ask(run: RunDir, text: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in sql(run, text).to_pylist()]


def test_signals_are_the_valid_rows(run: RunDir) -> None:
    assert ask(run, "SELECT count(*), count(DISTINCT sample_id), max(epoch) FROM signals") == [(60, 15, 3)]
    second = begin_attempt(run, 30, "last.ckpt")
    with LedgerWriter(run, second) as writer:
        writer.put(epoch_rows(3, TRAIN, "train", "train"))
    found = ask(run, "SELECT step, sample_id, loss FROM signals ORDER BY ALL")
    assert found == visits(run)
    assert len(found) == 60 - 3  # the last evaluation came after the cut


def test_an_evaluation_that_was_repeated_at_the_cut_counts_once(run: RunDir) -> None:
    second = begin_attempt(run, 40, "last.ckpt")
    with LedgerWriter(run, second) as writer:
        writer.put(epoch_rows(3, range(12, 14), "val", "eval"))
    found = ask(run, "SELECT step, sample_id, loss FROM signals ORDER BY ALL")
    assert found == visits(run)
    assert [row for row in found if row[0] == 40 and row[1] == 14] == []


def test_metrics_and_steps_have_a_column_for_each_name(run: RunDir) -> None:
    assert ask(run, 'SELECT epoch, "val/accuracy" FROM metrics ORDER BY epoch') == [
        (0, 0.5), (1, 0.6), (2, 0.7), (3, 0.8)
    ]  # fmt: skip
    assert ask(run, 'SELECT max(step), avg("train/loss") FROM steps') == [(35, 1.0)]
    append_line(run.epoch_metrics, {"epoch": 4, "step": 50, "attempt": 1, "test/ap": None, "note": {"a": 1}})
    assert ask(run, "SELECT note FROM metrics WHERE epoch = 4") == [('{"a": 1}',)]


def test_superseded_metrics_are_left_out(run: RunDir) -> None:
    second = begin_attempt(run, 20, "last.ckpt")
    append_line(run.epoch_metrics, {"epoch": 2, "step": 30, "attempt": second, "val/accuracy": 0.9})
    assert ask(run, 'SELECT epoch, "val/accuracy" FROM metrics ORDER BY epoch') == [(0, 0.5), (1, 0.6), (2, 0.9)]


def test_a_run_that_recorded_nothing_has_empty_views(tmp_path: Path) -> None:
    run = asked_run(tmp_path / "new", num_epochs=0)
    for name in ("signals", "scores", "metrics", "steps", "actions"):
        assert ask(run, f"SELECT count(*) FROM {name}") == [(0,)]
    assert ask(run, "SELECT count(*), count(suspicion) FROM samples") == [(15, 0)]


def test_samples_join_the_manifest_with_scores_and_decisions(run: RunDir) -> None:
    act(run, "discard", [3])
    act(run, "relabel", [7], label="wasp")
    act(run, "reweight", [1], weight=0.5, is_applied=False)
    act(run, "tag", [1, 7], tag="odd")
    act(run, "tag", [7], tag="blurred")
    rows = sql(
        run,
        "SELECT sample_id, label_name, current_label, current_name, believed_name, is_discarded, weight, tags "
        "FROM samples WHERE sample_id IN (1, 3, 7) ORDER BY sample_id",
    ).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (1, "bee", 1, "bee", "bee", False, 0.5, ["odd"]),
        (3, "ant", 0, "ant", "ant", True, 1.0, []),
        (7, "bee", 2, "wasp", "wasp", False, 1.0, ["blurred", "odd"]),
    ]
    assert ask(run, "SELECT first(sample_id ORDER BY suspicion DESC) FROM samples WHERE split = 'train'") == [(7,)]


def test_columns_of_the_source_give_way_to_those_of_the_view(tmp_path: Path) -> None:
    run = asked_run(
        tmp_path / "run", weight=[float(i) for i in range(15)], label_name=["x"] * 15, grade=list("abc") * 5
    )
    assert ask(run, "SELECT grade, source_weight, weight, label_name FROM samples WHERE sample_id = 4") == [
        ("b", 4.0, 1.0, "bee")
    ]
    assert ask(run, "SELECT weight, source_label_name, label_name FROM manifest WHERE sample_id = 4") == [
        (4.0, "x", "bee")
    ]


def test_actions_show_what_became_of_each(run: RunDir) -> None:
    first = act(run, "relabel", [4, 5], label=["ant", "bee"], who="ada@lab", why="looked")
    act(run, "pause", is_applied=False)
    act(run, "undo", action=first)
    append_line(run.actions, {"id": "f" * 12, "what": "levitate", "sample_id": "all"})  # of a newer version
    found = ask(run, "SELECT what, who = 'ada@lab', status, step, sample_id, label FROM actions")
    assert found == [
        ("relabel", True, "undone", 10, [4, 5], ["ant", "bee"]),
        ("pause", False, "pending", None, [], None),
        ("undo", False, "applied", 10, [], None),
        ("levitate", False, "pending", None, None, None),
    ]


def test_ids_that_meet_a_condition(run: RunDir) -> None:
    found = select_ids(run, "suspicion > 0.85 AND split = 'train' -- the top")
    assert found.dtype == np.int64
    assert found.tolist() == [2, 7]
    assert select_ids(run, "false").tolist() == []
    act(run, "relabel", [2], label="ant", who="litscope", canary=True)
    assert select_ids(run, "label_name = 'wasp' AND split = 'train'").tolist() == [5, 8, 11]


@pytest.mark.parametrize(
    "where",
    ["", "true) UNION ALL (SELECT 1", "true; DROP VIEW samples", "nope > 1", "sum(suspicion) > 1", "suspicion >"],
)
def test_what_is_no_condition(run: RunDir, where: str) -> None:
    with pytest.raises(ConfigError):
        select_ids(run, where)


def test_unknown_columns_and_views_are_answered_with_those_there_are(run: RunDir) -> None:
    with pytest.raises(ConfigError, match=r"'suspicion'.*samples has sample_id, key") as caught:
        sql(run, "SELECT suspicoin FROM samples")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="The views are signals, scores, manifest"):
        sql(run, "SELECT * FROM sample")
    with pytest.raises(ConfigError, match="syntax error"):
        sql(run, "SELEC 1")


FORBIDDEN = [
    "COPY (SELECT 1) TO '{tmp}/out.csv'",
    "COPY (SELECT 1) TO '{manifest}' (FORMAT parquet, USE_TMP_FILE false)",
    "EXPORT DATABASE '{tmp}/out'",
    "ATTACH '{tmp}/out.db'",
    "CREATE TABLE t AS SELECT 1",
    "DROP VIEW signals",
    "INSERT INTO classes VALUES (3, 'fly')",
    "UPDATE classes SET label = 0",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET allowed_paths",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "SELECT 1; SELECT 2",
    "",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_parquet('{tmp}/other.parquet')",
    "SELECT * FROM glob('{tmp}/*')",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{tmp}/out.csv''')",
    "SELECT getenv('HOME')",
    "SELECT * FROM run",
]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_no_query_writes_or_reads_elsewhere(run: RunDir, tmp_path: Path, text: str) -> None:
    (tmp_path / "other.parquet").write_bytes(run.manifest.read_bytes())
    sql(run, "SELECT count(*) FROM samples")  # what this leaves behind is ours
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    manifest = str(run.manifest).replace("'", "''")
    with pytest.raises(ConfigError):
        sql(run, text.format(tmp=tmp_path, manifest=manifest))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_connection_itself_is_locked(run: RunDir, tmp_path: Path) -> None:
    """Also without the check for SELECT, the database may touch nothing but the run's own files."""
    import duckdb

    with connect(run) as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchall() == [(15,)]
        for text in (*FORBIDDEN[2:4], *FORBIDDEN[8:12], *FORBIDDEN[18:24], f"COPY (SELECT 1) TO '{tmp_path}/out.csv'"):
            with pytest.raises(duckdb.Error):
                connection.execute(text.format(tmp=tmp_path, manifest=run.manifest))


def test_what_counts_as_a_select(run: RunDir) -> None:
    assert ("key", "VARCHAR") in [row[:2] for row in ask(run, "DESCRIBE manifest")]
    assert {row[0] for row in ask(run, "SHOW TABLES")} >= set(VIEWS)
    assert len(ask(run, "SUMMARIZE metrics")) == 4
    assert ask(run, "WITH t AS (FROM classes) SELECT max(label) FROM t;") == [(2,)]


def test_only_what_is_asked_for_is_set_up(run: RunDir) -> None:
    """A count over the manifest needs neither the signals nor the scores."""
    part = next(run.signals.glob("*.parquet"))
    part.write_bytes(b"damaged")
    assert ask(run, "SELECT count(*) FROM manifest") == [(15,)]
    with pytest.raises(LedgerError, match="cannot be read"):
        sql(run, "SELECT count(*) FROM signals")
    assert not run.scores.exists()


def test_every_column_of_every_view_is_documented(run: RunDir) -> None:
    text = (DOCS / "sql.md").read_text().split("<!-- views -->")[1].split("<!-- end of views -->")[0]
    documented = {
        line.split("`")[1]: set(re.findall(r"`\"?([^`\"]+)", line)) for line in text.splitlines() if "| `" in line
    }
    assert list(documented) == list(VIEWS)
    documented["samples"] |= documented["manifest"] | documented["scores"]
    with connect(run) as connection:
        for name in VIEWS:
            columns = {row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()} - {"train/loss"}
            assert columns <= documented[name], name


QUESTIONS = re.findall(r"```sql\n(.+?)```", (DOCS / "sql.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_questions_of_the_docs_can_be_asked(tmp_path: Path, question: str) -> None:
    run = asked_run(tmp_path / "run", grade=[i / 5 for i in range(15)])
    act(run, "discard", [3])
    found = sql(run, question)
    assert found.num_columns > 1
    if "lens" not in question:
        assert found.num_rows or "forgetting" in question or "lag(pred)" in question


def test_the_questions_are_found() -> None:
    assert len(QUESTIONS) >= 8


def test_ctrl_c_ends_a_query_as_it_ends_everything_else(run: RunDir) -> None:
    """DuckDB notices it at the end of a step of the query, and raises an error of its own."""

    def question(connection: duckdb.DuckDBPyConnection) -> object:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        return connection.sql("SELECT sum(hash(i)::DOUBLE) FROM range(100000000) t(i)").to_arrow_table()

    with pytest.raises(KeyboardInterrupt):
        views.ask(run, [], question)
