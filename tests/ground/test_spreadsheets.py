"""CSV that no spreadsheet runs, and that comes back as it was."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest

from litscope.data.sources.columns import NOTHING
from litscope.data.sources.lists import list_rows
from litscope.data.sources.table_files import open_table, read_table
from litscope.evaluation.tables import write_table
from litscope.ledger.encode import csv_lines
from litscope.spreadsheets import escaped_text, unescaped_text

RUN = ("=cmd|calc", "+a", "-a", "@SUM(A1)", "\tx", "\rx", "=1+1", "'=1", "''@x", "-1-1", "=")
AS_IT_IS = ("cat", "", "'cat'", "a=b", "-1", "+3", "-1.5e-3", "1e5", "-.5")


@pytest.mark.parametrize("text", RUN)
def test_what_a_spreadsheet_would_run_has_an_apostrophe(text: str) -> None:
    assert escaped_text(text) == f"'{text}"
    assert unescaped_text(f"'{text}") == text


@pytest.mark.parametrize("text", AS_IT_IS)
def test_other_text_is_as_it_is(text: str) -> None:
    assert escaped_text(text) == text
    assert unescaped_text(text) == text


def test_a_file_shows_it_and_is_read_back_unchanged(tmp_path: Path) -> None:
    texts = [text for text in (*RUN, *AS_IT_IS) if text and "\r" not in text]
    kinds = pa.array(texts).dictionary_encode()
    wanted = pa.table({"=name": texts, "kind": kinds, "loss": [-0.5 * i for i in range(len(texts))]})
    file = tmp_path / "x.csv"
    write_table(wanted, file)
    rows = list(csv.reader(io.StringIO(file.read_bytes().decode(), newline="")))
    assert rows[0] == ["'=name", "kind", "loss"]
    assert [row[0] for row in rows[1:]] == [row[1] for row in rows[1:]] == list(map(escaped_text, texts))
    assert [row[2] for row in rows[2:4]] == ["-0.5", "-1"]
    assert open_table(file).names == ["=name", "kind", "loss"]
    found = read_table(file, text_columns=["=name", "kind"])
    assert found["=name"].to_pylist() == found["kind"].to_pylist() == texts
    write_table(wanted, tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet")["=name"].to_pylist() == texts


def test_what_sql_and_the_rankings_print(tmp_path: Path) -> None:
    text = "".join(csv_lines(pa.table({"@": ["=a", None], "tags": [["=b", "c"], []], "loss": [-1.5, 2.0]})))
    assert list(csv.reader(io.StringIO(text))) == [["'@", "tags", "loss"], ["'=a", "'=b;c", "-1.5"], ["", "", "2.0"]]


def test_labels_come_back(tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "label": ["=a", "-b", "=a", "-b"]})
    write_table(table, tmp_path / "x.csv")
    assert list(list_rows(tmp_path / "x.csv", NOTHING).classes) == ["-b", "=a"]
