"""Parts are joined while others write and read: every row is found once, at any moment and after any kill."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger_rows import (
    BATCH,
    die_while_joining,
    join,
    make_rows,
    put_all,
    steps,
    visits,
    write,
    write_and_join,
)
from places import GOLDEN

from litscope.attempts import begin_attempt
from litscope.data.manifest import build_manifest
from litscope.errors import LedgerError
from litscope.ledger import compaction, parts, reader
from litscope.ledger.compaction import compact
from litscope.ledger.parts import list_all, list_parts
from litscope.ledger.queries import worst
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import PART_SCHEMA
from litscope.ledger.views import ask, sql
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run")


def names(run: RunDir) -> list[str]:
    return sorted(path.name.removesuffix(".parquet") for path in run.signals.iterdir())


def count(run: RunDir) -> int:
    return int(sql(run, "SELECT count(*) FROM signals")[0][0].as_py())


# ---- what is joined --------------------------------------------------------------------------


def test_rows_and_their_order_stay_bit_for_bit(run: RunDir) -> None:
    rows = [make_rows(s, split="train" if s % 3 else "val", phase="train" if s % 3 else "eval") for s in range(40)]
    for each in rows:
        each.signals["loss"][:] = np.random.default_rng(0).normal(size=BATCH)
        each.signals["margin"][0] = np.nan
    write(run, *rows, attempt=1)
    before = pa.concat_tables([each.to_table() for each in rows]).unify_dictionaries().combine_chunks()
    join(run)
    assert names(run) == ["a0001-r000-000000000-000000039"]
    file = pq.ParquetFile(list_parts(run.signals)[0].path)
    after = file.read().cast(PART_SCHEMA).combine_chunks()
    for name in PART_SCHEMA.names:
        one, two = before[name].to_pylist(), after[name].to_pylist()
        assert str(one) == str(two), name  # NaN is NaN
    footer = {b"litscope.format_version": b"1", b"litscope.attempt": b"1", b"litscope.rank": b"0"}
    assert footer.items() <= file.metadata.metadata.items()
    assert steps(run) == list(range(40))


def test_while_a_run_goes_on_a_part_is_joined_once_for_each_growth(run: RunDir) -> None:
    with LedgerWriter(run, 1) as writer:
        for step in range(64):
            put_all(writer, [make_rows(step)])
            join(run, many=4, is_over=False)
        assert names(run) == ["a0001-r000-000000000-000000063"]
        put_all(writer, [make_rows(step) for step in range(64, 64 + 21)])
    join(run, many=4, is_over=False)
    assert [name[11:] for name in names(run)] == ["000000000-000000063", "000000064-000000084"]
    assert steps(run) == list(range(85))


def test_few_parts_are_left_alone(run: RunDir) -> None:
    write(run, *[make_rows(s) for s in range(7)], attempt=1)
    before = names(run)
    compact(run.signals, PART_SCHEMA, is_over=True, may_join=lambda _: True)
    assert names(run) == before
    write(run, make_rows(7), attempt=1)
    compact(run.signals, PART_SCHEMA, may_join=lambda _: True)
    assert len(names(run)) == 8
    compact(run.signals, PART_SCHEMA, is_over=True, may_join=lambda _: True)
    assert len(names(run)) == 1


def test_full_parts_are_left_alone(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FULL_ROWS", 8 * BATCH)
    monkeypatch.setattr(compaction, "ROWS_PER_GROUP", 2 * BATCH)
    write(run, *[make_rows(s) for s in range(20)], attempt=1)
    join(run, many=4, is_over=False)
    assert [name[11:] for name in names(run)] == [
        "000000000-000000007", "000000008-000000015", "000000016-000000019"
    ]  # fmt: skip
    assert pq.read_metadata(list_parts(run.signals)[0].path).num_row_groups == 4
    before = names(run)
    join(run, many=2)
    assert names(run) == before
    assert steps(run) == list(range(20))


def test_attempts_ranks_and_gaps_stay_apart(run: RunDir, tmp_path: Path) -> None:
    for rank in (0, 1):
        write(run, *[make_rows(s, ids=[10 * rank]) for s in range(9)], attempt=begin_attempt(run, 0, None), rank=rank)
    moved = run.signals / "a0001-r000-000000004.parquet"
    moved.rename(tmp_path / "aside")
    join(run)
    assert names(run) == [
        "a0001-r000-000000000-000000003", "a0001-r000-000000005-000000008", "a0002-r001-000000000-000000008"
    ]  # fmt: skip
    (tmp_path / "aside").rename(moved)  # mended
    assert LedgerReader(run).table().num_rows == 9  # attempt 2 began at step 0 again
    begin_attempt(run, 9, "last.ckpt")
    assert len(list_parts(run.signals)) == 4


def test_a_writer_goes_on_with_the_next_number(run: RunDir) -> None:
    write(run, *[make_rows(s) for s in range(4)], attempt=1)
    join(run)
    write(run, make_rows(4), attempt=1)
    assert names(run) == ["a0001-r000-000000000-000000003", "a0001-r000-000000004"]
    assert steps(run) == list(range(5))


def test_a_damaged_part_stays_as_it_is_and_loses_no_neighbour(run: RunDir) -> None:
    write(run, *[make_rows(s) for s in range(6)], attempt=1)
    path = run.signals / "a0001-r000-000000003.parquet"
    raw = bytearray(path.read_bytes())
    raw[4:200] = bytes(196)
    path.write_bytes(raw)
    before = names(run)
    with pytest.raises(LedgerError, match=r"a0001-r000-000000003\.parquet cannot be read"):
        join(run)
    assert names(run) == before
    path.unlink()
    assert steps(run) == [0, 1, 2, 4, 5]


def test_joined_parts_that_hold_the_same_rows_are_an_error(run: RunDir) -> None:
    write(run, *[make_rows(s) for s in range(4)], attempt=1)
    join(run)
    (path,) = run.signals.iterdir()
    shutil.copy(path, run.signals / "a0001-r000-000000002-000000005.parquet")
    with pytest.raises(LedgerError, match="hold some of the same rows"):
        steps(run)


# ---- what is superseded ----------------------------------------------------------------------


def test_what_came_after_the_checkpoint_is_left_out_of_joined_parts(run: RunDir) -> None:
    def evaluation(step: int, attempt: int) -> list[object]:
        return [make_rows(step, split="val", phase="eval", ids=[100, 101], value=attempt)]

    first = [*[make_rows(s, value=1) for s in range(10)], *evaluation(6, 1), *evaluation(10, 1)]
    write(run, *first, attempt=begin_attempt(run, 0, None))  # type: ignore[arg-type]
    join(run)
    attempt = begin_attempt(run, 6, "last.ckpt")
    expected = [(s, i, 1) for s in range(6) for i in sorted(make_rows(s).sample_id.tolist())]
    assert visits(run, split="train") == expected
    assert visits(run, split="val") == [(6, 100, 1), (6, 101, 1)]
    write(run, *evaluation(6, 2), *[make_rows(s, value=2) for s in range(6, 12)], attempt=attempt)  # type: ignore[arg-type]
    before, asked = visits(run), count(run)
    join(run)
    assert len(names(run)) == 2
    assert visits(run) == before
    assert count(run) == asked == len(before)
    assert visits(run, split="val") == [(6, 100, 2), (6, 101, 2)]
    assert {s: attempt for s, _, attempt in visits(run, split="train")} == {s: 1 if s < 6 else 2 for s in range(12)}


def test_old_runs_are_joined_too(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "ledger_v1", tmp_path / "run")
    run = RunDir.open(tmp_path / "run")
    before = sorted(map(str, LedgerReader(run).table().to_pylist()))
    join(run, many=2)
    assert any("-0000" in name[20:] for name in names(run))
    assert sorted(map(str, LedgerReader(run).table().to_pylist())) == before


# ---- readers in between ----------------------------------------------------------------------


def test_a_reader_that_listed_the_old_parts_reads_anew(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run, *[make_rows(s) for s in range(6)], attempt=1)
    original = reader.list_parts

    def listed_then_joined(folder: Path) -> list[parts.Part]:
        found = original(folder)
        monkeypatch.setattr(reader, "list_parts", original)
        join(run)
        return found

    known = LedgerReader(run)
    assert known.table().num_rows == 6 * BATCH  # it has read the footers
    monkeypatch.setattr(reader, "list_parts", listed_then_joined)
    assert known.table().num_rows == 6 * BATCH
    write(run, *[make_rows(s) for s in range(6, 12)], attempt=1)
    monkeypatch.setattr(reader, "list_parts", listed_then_joined)
    assert LedgerReader(run).last_epoch() == 2


def test_a_part_that_is_listed_neither_before_nor_after_is_not_missed(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is not listed at one moment: the joined part came too late for the list, the others went too early."""
    write(run, *[make_rows(s) for s in range(6)], attempt=1)
    before = [path.name for path in run.signals.iterdir()]
    join(run)
    original, lists = os.listdir, iter([before[:2], []])
    monkeypatch.setattr(os, "listdir", lambda folder: next(lists, None) or original(folder))
    assert steps(run) == list(range(6))


def test_a_query_whose_parts_are_joined_meanwhile_is_asked_anew(run: RunDir) -> None:
    write(run, *[make_rows(s) for s in range(40)], attempt=1)
    asked = []

    def question(connection: object) -> list[tuple[int]]:
        asked.append(len(list_parts(run.signals)))
        join(run)
        return connection.execute("SELECT count(*) FROM signals").fetchall()  # type: ignore[attr-defined, no-any-return]

    assert ask(run, ["signals"], question) == [(40 * BATCH,)]
    assert asked == [40, 1]


def test_a_damaged_part_that_nobody_joined_is_told(run: RunDir) -> None:
    write(run, make_rows(0), make_rows(1), attempt=1)
    path = run.signals / "a0001-r000-000000001.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LedgerError, match="cannot be read"):
        LedgerReader(run).table()
    with pytest.raises(LedgerError, match="cannot be read"):
        count(run)


def reads_in_a_loop(run: RunDir, num_steps: int) -> Iterator[int]:
    """Ask a run in turns by every way of reading; yields the steps that were seen."""
    known = LedgerReader(run)
    while True:
        for of in (known, LedgerReader(run)):
            table = of.table(["step", "sample_id"])
            seen = sorted(zip(table["step"].to_pylist(), table["sample_id"].to_pylist(), strict=True))
            last = seen[-1][0] if seen else -1
            assert seen == [(s, i) for s in range(last + 1) for i in sorted(make_rows(s).sample_id.tolist())]
            yield last
        query = "SELECT count(*), count(DISTINCT 1000 * step + sample_id), max(step) FROM signals"
        total, different, last = sql(run, query).to_pylist()[0].values()
        assert total == different == BATCH * ((-1 if last is None else last) + 1)
        yield -1 if last is None else last
        if last is not None:
            ranked = worst(run, 10_000, last_epochs=num_steps)
            num_visits = sum(row["num_visits"] for row in ranked)
            assert num_visits % BATCH == 0
            yield num_visits // BATCH - 1


def watch_while_it_is_joined(folder: Path, num_steps: int, many: int) -> int:
    """Read in a loop while another process writes and joins; the number of reads."""
    run = RunDir.create(folder)
    labels = np.zeros(100, np.int64) + 1
    build_manifest([f"{i}" for i in range(100)], labels, ["ant", "bee"], splits=["train"] * 100).write(run.manifest)
    process = forked.server().Process(target=write_and_join, args=(folder, num_steps, many))
    process.start()
    last, num_reads = -1, 0
    for seen in reads_in_a_loop(run, num_steps):
        assert seen >= last
        last, num_reads = seen, num_reads + 1
        if last == num_steps - 1 or process.exitcode not in (None, 0):
            break
    process.join(60)
    assert process.exitcode == 0
    assert count(run) == num_steps * BATCH
    return num_reads


@pytest.mark.slow
def test_readers_in_a_loop_see_every_row_once(tmp_path: Path) -> None:
    assert watch_while_it_is_joined(tmp_path / "run", num_steps=80, many=3) > 10


@pytest.mark.slow
def test_readers_in_a_long_loop_see_every_row_once(tmp_path: Path) -> None:
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 60:
        watch_while_it_is_joined(tmp_path / f"run{number}", num_steps=1000, many=2 + number % 3)
        number += 1


# ---- kills -----------------------------------------------------------------------------------


def killed_at(folder: Path, call: str, number: int) -> bool:
    """Join in a process that is killed at a call; False if it ended before."""
    process = forked.server().Process(target=die_while_joining, args=(folder, call, number))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.thorough
@pytest.mark.parametrize(("call", "least"), [("fsync", 6), ("replace", 3), ("unlink", 12)])
def test_killed_at_each_step_of_a_compaction(tmp_path: Path, call: str, least: int) -> None:
    template = RunDir.create(tmp_path / "template")
    first = begin_attempt(template, 0, None)
    for rank in (0, 1):
        write(template, *[make_rows(s, ids=[10 * rank + s], value=1) for s in range(4)], attempt=first, rank=rank)
    second = begin_attempt(template, 2, "last.ckpt")
    write(template, *[make_rows(s, ids=[s], value=2) for s in range(2, 6)], attempt=second)
    expected, number = visits(template), 1
    while True:
        run = RunDir(tmp_path / f"{call}{number}")
        shutil.copytree(template.path, run.path)
        is_killed = killed_at(run.path, call, number)
        assert visits(run) == expected
        assert count(run) == len(expected)
        join(run)
        assert visits(run) == expected
        assert list_all(run.signals).covered == []
        begin_attempt(run, 6, "last.ckpt")
        assert [part.num_joined for part in list_parts(run.signals)] == [4, 4, 4]
        assert len(list(run.signals.iterdir())) == 3
        assert visits(run) == expected
        if not is_killed:
            break
        number += 1
    assert number > least
