"""A person's query is stopped where it takes more time or memory than it may."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asked_runs import asked_run
from forked import run_cli

from litscope.cli import main
from litscope.errors import ConfigError
from litscope.ledger import query
from litscope.ledger.query import Limits
from litscope.ledger.views import select_ids, sql
from litscope.rundir import RunDir

FOR_EVER = "SELECT count(*) FROM range(1000000000000) a, range(10) b"
SLOW_ROWS = "SELECT * FROM range(1000000000000)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return asked_run(tmp_path_factory.mktemp("query") / "run")


@pytest.mark.parametrize("text", [FOR_EVER, SLOW_ROWS, "SELECT count(*) FROM range(1000000000000) a, signals"])
def test_a_query_that_takes_too_long_is_stopped(run: RunDir, text: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"^The query took longer than 0\.2 s and was stopped: .*--timeout 2\)\.$"):
        sql(run, text, Limits(seconds=0.2, memory_bytes=2**40))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("SELECT * FROM range(100000000)", "The answer has"),
        ("SELECT list(range) FROM range(100000000)", "The query needs"),
        ("SELECT * FROM range(100000000) ORDER BY random()", "The query needs"),
        ("SELECT range, count(*) FROM range(100000000) GROUP BY ALL", "The query needs"),
    ],
)
def test_a_query_that_takes_too_much_memory_is_stopped(run: RunDir, text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{what} more than 0\.05 GB: ask for less .*--memory 0\.2\)\.$"):
        sql(run, text, Limits(memory_bytes=50_000_000))


def test_what_a_query_may_take_follows_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "memory_bytes", lambda: 8_000_000_000)
    assert Limits() == (60.0, None, False)
    assert Limits().most_bytes == 2_000_000_000
    assert Limits(memory_bytes=5).most_bytes == 5


def test_a_condition_is_held_to_the_same(run: RunDir) -> None:
    with pytest.raises(ConfigError, match="took longer than"):
        select_ids(run, f"sample_id > ({FOR_EVER})", Limits(seconds=0.2))


def test_flags_of_the_command(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", str(run.path), FOR_EVER, "--timeout", "0.2"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: The query took longer than 0.2 s")
    assert said.out == ""
    assert main(["sql", str(run.path), "SELECT * FROM range(100000000)", "--memory", "0.05"]) == 2
    assert "error: The answer has more than 0.05 GB" in capsys.readouterr().err
    assert main(["sql", str(run.path), "SELECT count(*) AS n FROM signals", "--timeout", "600", "--memory", "1"]) == 0
    assert capsys.readouterr().out.split() == ["n", "60"]


@pytest.mark.parametrize("flags", [("--timeout", "0"), ("--timeout", "nan"), ("--timeout", "1e30"), ("--memory", "0"),
                                   ("--memory", "nan"), ("--memory", "-1"), ("--memory", "1e300")])  # fmt: skip
def test_what_is_no_limit(run: RunDir, flags: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", str(run.path), "SELECT 1", *flags]) == 2
    assert f"error: {flags[0]}" in capsys.readouterr().err


def test_more_rows_than_fit_as_a_table_are_refused(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    many = ["sql", str(run.path), "SELECT * FROM range(1000000)", "--memory", "0.1"]
    assert main(many) == 2
    assert "The answer has 1,000,000 rows, too many to be aligned as a table" in capsys.readouterr().err
    assert main([*many, "--csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1_000_001


def test_one_call_that_takes_all_memory_is_stopped_by_the_system(run: RunDir) -> None:
    """DuckDB counts neither the text of a function nor looks up while it makes it."""
    done = run_cli("sql", str(run.path), "SELECT length(repeat('x', 4000000000))", "--memory", "0.1", "--timeout", "9")
    assert done.returncode == 2
    assert done.stderr.startswith("error: The query needs more than 0.1 GB")


@pytest.mark.slow
def test_one_call_that_does_not_end_ends_with_the_process(run: RunDir) -> None:
    began = time.monotonic()
    done = run_cli("sql", str(run.path), "SELECT length(repeat('x', 2000000000))", "--memory", "3", "--timeout", "1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: The query took longer than 1 s and was stopped")
    assert time.monotonic() - began < 60


@pytest.mark.slow
@pytest.mark.parametrize("text", [FOR_EVER, "SELECT length(repeat('x', 2000000000))"])
def test_ctrl_c_ends_the_command_whatever_the_database_does(run: RunDir, text: str) -> None:
    words = [sys.executable, "-m", "litscope", "sql", str(run.path), text, "--memory", "3"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        time.sleep(4)
        began = time.monotonic()
        asked.send_signal(signal.SIGINT)
        out, err = asked.communicate(timeout=50)
    assert time.monotonic() - began < query.STOPPING_S + 10
    assert (asked.returncode, out, err.strip()) == (130, "", "interrupted")


def test_queries_still_change_nothing(run: RunDir, tmp_path: Path) -> None:
    for text in (
        "SET memory_limit = '1TB'",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT 1; SELECT 2",
    ):
        with pytest.raises(ConfigError):
            sql(run, text, Limits(is_alone=True))
    assert list(tmp_path.iterdir()) == []
