"""Parts on the disk: whole or absent, durable when promised, one row per visit after any number of crashes."""

import errno
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ledger_rows import BATCH, SAMPLES, STEPS_PER_EPOCH, checkpoint_step, die_at_call, make_rows, train_until_killed

from litscope.errors import LedgerError
from litscope.ledger import store
from litscope.ledger.schema import FLOAT_SIGNALS, PART_SCHEMA, Rows
from litscope.ledger.store import LedgerReader, LedgerWriter, list_parts
from litscope.rundir import RunDir, append_line, begin_attempt

GOLDEN = Path(__file__).parent / "golden" / "ledger_v1"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run")


def write(run: RunDir, *blocks: Rows, attempt: int, rank: int = 0) -> None:
    """Each block as a part of its own."""
    with LedgerWriter(run, attempt, rank) as writer:
        put_all(writer, blocks)


def steps(run: RunDir, **wanted: object) -> list[int]:
    return sorted(set(LedgerReader(run).table(["step"], **wanted)["step"].to_pylist()))  # type: ignore[arg-type]


def visits(run: RunDir, **wanted: object) -> list[tuple[int, int, float]]:
    """(step, sample_id, attempt that wrote it), sorted."""
    table = LedgerReader(run).table(["step", "sample_id", "loss"], **wanted)  # type: ignore[arg-type]
    return sorted(zip(*(table[name].to_pylist() for name in ("step", "sample_id", "loss")), strict=True))


# ---- writing and reading back ----------------------------------------------------------------


def test_rows_come_back_as_they_were_put(run: RunDir) -> None:
    rng = np.random.default_rng(0)
    rows = make_rows(3, epoch=7, split="val", phase="eval", ids=[5, 2**60, 0], label=2, pred=1)
    for values in rows.signals.values():
        values[:] = rng.normal(size=3)
    rows.signals["margin"][1] = np.nan
    write(run, rows, attempt=begin_attempt(run, 0, None))
    table = LedgerReader(run).table()
    assert table.schema.equals(PART_SCHEMA)
    assert table["sample_id"].to_pylist() == [5, 2**60, 0]
    for name, expected in (("step", 3), ("epoch", 7), ("split", "val"), ("phase", "eval"), ("label", 2), ("pred", 1)):
        assert table[name].to_pylist() == [expected] * 3
    for name in FLOAT_SIGNALS:
        np.testing.assert_array_equal(table[name].to_numpy(), rows.signals[name])


def test_parts_are_named_by_attempt_rank_and_number_and_say_so_inside(run: RunDir) -> None:
    write(run, make_rows(0), make_rows(1), attempt=12, rank=3)
    assert sorted(path.name for path in run.signals.iterdir()) == [
        "a0012-r003-000000000.parquet",
        "a0012-r003-000000001.parquet",
    ]
    metadata = pq.read_metadata(run.signals / "a0012-r003-000000001.parquet").metadata
    keys = (b"litscope.format_version", b"litscope.attempt", b"litscope.rank")
    assert [metadata[key] for key in keys] == [b"1", b"12", b"3"]


def test_a_second_writer_of_the_same_attempt_adds_and_never_overwrites(run: RunDir) -> None:
    write(run, make_rows(0), attempt=1)
    write(run, make_rows(1), attempt=1)
    assert steps(run) == [0, 1]


def test_put_alone_reaches_the_disk(run: RunDir) -> None:
    with LedgerWriter(run, 1) as writer:
        writer.put(make_rows(0))
        deadline = time.monotonic() + 10
        while not list_parts(run.signals):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert steps(run) == [0]


class Gate:
    """A block whose copy from the device has not ended yet."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def rows(self) -> Rows:
        self.open.wait()
        return make_rows(0)


def test_what_queues_up_behind_a_slow_disk_becomes_one_part(run: RunDir) -> None:
    gate = Gate()
    with LedgerWriter(run, 1) as writer:
        writer.put(gate)
        for step in range(1, 30):
            writer.put(make_rows(step))  # returns although the writer waits
        gate.open.set()
        writer.flush(wait=True)
        assert len(list_parts(run.signals)) == 1
        assert steps(run) == list(range(30))


def test_a_part_does_not_grow_without_bound(run: RunDir) -> None:
    gate = Gate()
    with LedgerWriter(run, 1, rows_per_part=4 * BATCH) as writer:
        writer.put(gate)
        for step in range(1, 12):
            writer.put(make_rows(step))
        gate.open.set()
    assert [pq.read_metadata(part.path).num_rows for part in list_parts(run.signals)] == [4 * BATCH] * 3


def test_the_queue_is_bounded(run: RunDir) -> None:
    gate = Gate()
    writer = LedgerWriter(run, 1)
    writer.put(gate)
    filler = threading.Thread(target=lambda: [writer.put(make_rows(step)) for step in range(store.QUEUED_BLOCKS + 2)])
    filler.start()
    filler.join(0.3)
    assert filler.is_alive()  # it waits for room, rather than filling the memory
    gate.open.set()
    filler.join(10)
    assert not filler.is_alive()
    writer.close()
    assert LedgerReader(run).table().num_rows == (store.QUEUED_BLOCKS + 3) * BATCH


def test_closing_twice_is_fine_and_rows_after_it_are_refused(run: RunDir) -> None:
    writer = LedgerWriter(run, 1)
    writer.put(make_rows(0))
    writer.close()
    writer.close()
    writer.flush()
    assert steps(run) == [0]
    with pytest.raises(LedgerError, match="closed"):
        writer.put(make_rows(1))


def test_columns_and_filters(run: RunDir) -> None:
    write(
        run,
        make_rows(0, epoch=0),
        make_rows(1, epoch=1),
        make_rows(2, epoch=1, split="val", phase="eval"),
        make_rows(2, epoch=1, phase="eval"),
        attempt=1,
    )
    reader = LedgerReader(run)
    assert reader.table(["loss", "step"]).column_names == ["loss", "step"]
    assert steps(run, split="train") == [0, 1, 2]
    assert steps(run, split="train", phase="train") == [0, 1]
    assert steps(run, min_epoch=1, phase="train") == [1]
    assert steps(run, split="test") == []
    assert reader.table(sample_id=9)["step"].to_pylist() == [1]
    assert [reader.last_epoch(split) for split in ("train", "val", "test")] == [1, 1, None]


def test_any_folder_name_will_do(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "_lr=0.1" / ".tmp" / "it's [a-z]*? é")
    write(run, make_rows(0), make_rows(1), attempt=1)
    assert steps(run) == [0, 1]


def test_an_empty_run_has_no_rows(run: RunDir) -> None:
    assert LedgerReader(run).table().num_rows == 0
    assert LedgerReader(run).last_epoch("train") is None
    run.signals.rmdir()
    assert LedgerReader(run).table().schema.equals(PART_SCHEMA)


def test_parts_that_cannot_hold_an_answer_are_not_read(run: RunDir) -> None:
    write(run, make_rows(0, epoch=0), make_rows(1, epoch=1), make_rows(2, split="val", epoch=1), attempt=1)
    for number in (0, 2):  # destroy the data, leave the footer
        path = run.signals / f"a0001-r000-{number:09d}.parquet"
        raw = bytearray(path.read_bytes())
        raw[4:200] = bytes(196)
        path.write_bytes(raw)
    assert steps(run, split="train", min_epoch=1) == [1]
    with pytest.raises(LedgerError, match=r"a0001-r000-000000000\.parquet cannot be read"):
        steps(run, split="train")


def test_a_reader_follows_a_run_that_goes_on(run: RunDir) -> None:
    reader = LedgerReader(run)
    with LedgerWriter(run, begin_attempt(run, 0, None)) as writer:
        seen = []
        for step in range(40):
            writer.put(make_rows(step))
            found = reader.table(["step"])["step"].to_pylist()
            assert len(found) % BATCH == 0  # whole batches only
            seen.append(len(found))
        writer.flush(wait=True)
        assert seen == sorted(seen)
        assert reader.table().num_rows == 40 * BATCH


def test_opening_a_ledger_needs_no_torch() -> None:
    code = "import sys, litscope.ledger.queries, litscope.ledger.store; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- superseding -----------------------------------------------------------------------------


def test_each_sample_has_one_row_per_epoch_after_three_attempts(run: RunDir) -> None:
    write(run, *[make_rows(s, value=1) for s in range(100)], attempt=begin_attempt(run, 0, None))
    write(run, *[make_rows(s, value=2) for s in range(60, 90)], attempt=begin_attempt(run, 60, "last.ckpt"))
    write(run, *[make_rows(s, value=3) for s in range(75, 120)], attempt=begin_attempt(run, 75, "last.ckpt"))
    found = visits(run)
    assert [(step, sample) for step, sample, _ in found] == [
        (step, sample) for step in range(120) for sample in sorted(make_rows(step).sample_id.tolist())
    ]
    assert {step: attempt for step, _, attempt in found} == {s: 1 if s < 60 else 2 if s < 75 else 3 for s in range(120)}
    counts = (
        LedgerReader(run).table(["sample_id", "epoch"]).group_by(["sample_id", "epoch"]).aggregate([([], "count_all")])
    )
    assert counts.num_rows == SAMPLES * 120 // STEPS_PER_EPOCH
    assert set(counts["count_all"].to_pylist()) == {1}


def test_going_back_further_than_the_last_resume_drops_both_attempts(run: RunDir) -> None:
    write(run, *[make_rows(s, value=1) for s in range(10)], attempt=begin_attempt(run, 0, None))
    write(run, *[make_rows(s, value=2) for s in range(8, 12)], attempt=begin_attempt(run, 8, "last.ckpt"))
    write(run, make_rows(4, value=3), attempt=begin_attempt(run, 4, "best.ckpt"))
    assert {step: attempt for step, _, attempt in visits(run)} == {0: 1, 1: 1, 2: 1, 3: 1, 4: 3}


def test_a_resumed_attempt_that_has_written_nothing_yet_supersedes_too(run: RunDir) -> None:
    write(run, *[make_rows(s) for s in range(10)], attempt=begin_attempt(run, 0, None))
    begin_attempt(run, 6, "last.ckpt")
    assert steps(run) == [0, 1, 2, 3, 4, 5]


def test_an_old_attempt_that_lived_on_is_ignored(run: RunDir) -> None:
    old = LedgerWriter(run, begin_attempt(run, 0, None))
    old.put(make_rows(0, value=1))
    write(run, make_rows(1, value=2), make_rows(2, value=2), attempt=begin_attempt(run, 1, "last.ckpt"))
    for step in (1, 2, 3):  # a node that was thought dead
        old.put(make_rows(step, value=1))
    old.close()
    assert {step: attempt for step, _, attempt in visits(run)} == {0: 1, 1: 2, 2: 2}


def evaluation(step: int, attempt: int, split: str = "val") -> Rows:
    return make_rows(step, split=split, phase="eval", ids=[100, 101, 102], value=attempt)


def test_an_evaluation_at_the_checkpoint_s_step_stays_when_it_is_not_repeated(run: RunDir) -> None:
    write(run, make_rows(9, value=1), evaluation(10, 1), attempt=begin_attempt(run, 0, None))
    write(run, make_rows(10, value=2), attempt=begin_attempt(run, 10, "last.ckpt"))
    assert visits(run, split="val") == [(10, i, 1) for i in (100, 101, 102)]
    assert {step: attempt for step, _, attempt in visits(run, split="train")} == {9: 1, 10: 2}


def test_a_repeated_evaluation_replaces_the_first_for_its_split_only(run: RunDir) -> None:
    write(run, evaluation(10, 1), evaluation(10, 1, "test"), evaluation(12, 1), attempt=begin_attempt(run, 0, None))
    write(run, evaluation(10, 2), attempt=begin_attempt(run, 10, "last.ckpt"))
    assert visits(run, split="val") == [(10, i, 2) for i in (100, 101, 102)]
    assert visits(run, split="test") == [(10, i, 1) for i in (100, 101, 102)]
    write(run, evaluation(10, 3), evaluation(11, 3), attempt=begin_attempt(run, 10, "last.ckpt"))
    assert visits(run, split="val") == [(step, i, 3) for step in (10, 11) for i in (100, 101, 102)]


def test_ranks_are_merged_and_superseded_alike(run: RunDir) -> None:
    first = begin_attempt(run, 0, None)
    for rank in range(4):
        write(run, *[make_rows(s, ids=[10 * rank + s], value=1) for s in range(6)], attempt=first, rank=rank)
    second = begin_attempt(run, 3, "last.ckpt")
    for rank in range(2):  # resumed on fewer devices
        write(run, *[make_rows(s, ids=[10 * rank + s], value=2) for s in range(3, 5)], attempt=second, rank=rank)
    expected = [(s, 10 * r + s, 1) for s in range(3) for r in range(4)]
    expected += [(s, 10 * r + s, 2) for s in range(3, 5) for r in range(2)]
    assert visits(run) == sorted(expected)


def test_parts_of_an_attempt_that_is_not_on_record_are_an_error(run: RunDir) -> None:
    write(run, make_rows(0), attempt=1)
    assert steps(run) == [0]  # a single attempt needs no record
    write(run, make_rows(1), attempt=2)
    append_line(run.attempts, {"attempt": 1, "start_step": 0})
    with pytest.raises(LedgerError, match=r"parts of attempt 2, which .*attempts\.jsonl does not list"):
        steps(run)


# ---- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_cut_part_is_named(run: RunDir, keep: int) -> None:
    write(run, make_rows(0), make_rows(1), attempt=1)
    path = run.signals / "a0001-r000-000000001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LedgerError, match=r"a0001-r000-000000001\.parquet cannot be read: .*move it out"):
        steps(run)
    path.rename(run.path / "aside")
    assert steps(run) == [0]


def test_temporaries_of_killed_writers_are_not_read(run: RunDir) -> None:
    write(run, make_rows(0), attempt=1)
    (run.signals / ".a0001-r000-000000001.parquet.1234.00c0ffee.tmp").write_bytes(b"PAR1")
    (run.signals / ".hidden.parquet").write_bytes(b"PAR1")
    assert steps(run) == [0]


def test_a_part_of_a_newer_format_is_refused(run: RunDir) -> None:
    write(run, make_rows(0), attempt=1)
    path = run.signals / "a0001-r000-000000000.parquet"
    table = pq.read_table(path).replace_schema_metadata({b"litscope.format_version": b"2"})
    pq.write_table(table, path)
    with pytest.raises(LedgerError, match=r"has ledger format 2; this litscope reads up to format 1.*--upgrade"):
        steps(run)


def test_a_parquet_file_that_is_not_a_part_is_refused(run: RunDir) -> None:
    write(run, make_rows(0), attempt=1)
    pq.write_table(pq.read_table(run.signals / "a0001-r000-000000000.parquet"), run.signals / "e00003-train.parquet")
    with pytest.raises(LedgerError, match=r"e00003-train\.parquet is not named like a part"):
        steps(run)
    (run.signals / "e00003-train.parquet").rename(run.signals / "a0001-r000-000000001.parquet")
    table = pq.read_table(run.signals / "a0001-r000-000000001.parquet").replace_schema_metadata(None)
    pq.write_table(table, run.signals / "a0001-r000-000000001.parquet")
    with pytest.raises(LedgerError, match="is not a part of a ledger"):
        steps(run)


# ---- disks that fail -------------------------------------------------------------------------


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 16 KiB: a real EFBIG from the kernel."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def incompressible(step: int, n: int = 20_000) -> Rows:
    rows = make_rows(step, ids=np.random.default_rng(step).permutation(n).tolist())
    for values in rows.signals.values():
        values[:] = np.random.default_rng(step).normal(size=n)
    return rows


def assert_failed(writer: LedgerWriter, run: RunDir, reason: str) -> None:
    """Every later call says so, but closing does not say it twice; what was written before is there."""
    with pytest.raises(LedgerError, match=f"cannot be written: .*{reason}.*whole and stay.*--resume"):
        writer.flush(wait=True)
    for _ in range(2):
        with pytest.raises(LedgerError, match=reason):
            writer.put(make_rows(5))
    writer.close()
    assert steps(run) == [0, 1]
    assert [path.name for path in run.signals.iterdir() if path.name.startswith(".")] == []


def test_a_write_that_fails_reaches_the_training_thread(run: RunDir, small_files: None) -> None:
    writer = LedgerWriter(run, 1)
    put_all(writer, [make_rows(0), make_rows(1)])
    writer.put(incompressible(2))
    assert_failed(writer, run, "File too large")


def test_close_tells_an_error_that_nobody_has_heard(run: RunDir, small_files: None) -> None:
    writer = LedgerWriter(run, 1)
    writer.put(incompressible(0))
    with pytest.raises(LedgerError, match="File too large"):
        writer.close()
    writer.close()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_reaches_the_training_thread(run: RunDir, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LedgerWriter(run, 1)
    put_all(writer, [make_rows(0), make_rows(1)])

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(*(os, "fsync", fail) if call == "fsync" else (Path, "replace", fail))
    writer.put(make_rows(2))
    assert_failed(writer, run, "Input/output error")


def test_a_block_that_cannot_be_read_back_is_not_lost_in_silence(run: RunDir) -> None:
    class Broken:
        def rows(self) -> Rows:
            raise RuntimeError("CUDA error: device-side assert triggered")

    writer = LedgerWriter(run, 1)
    writer.put(Broken())
    with pytest.raises(LedgerError, match="device-side assert"):
        writer.flush(wait=True)
    writer.close()


def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the run should be")
    with pytest.raises(LedgerError, match="cannot be written"):
        LedgerWriter(RunDir(tmp_path / "run"), 1)


def put_all(writer: LedgerWriter, blocks: Iterable[Rows]) -> None:
    for block in blocks:
        writer.put(block)
        writer.flush(wait=True)


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        run = RunDir.create(disk / "run")
        writer = LedgerWriter(run, begin_attempt(run, 0, None))
        with pytest.raises(LedgerError, match="No space left on device"):
            put_all(writer, (incompressible(step, 3000) for step in range(100)))
        writer.close()
        found = steps(run)
        assert found == list(range(len(found)))
        assert len(found) > 3
        shutil.move(run.signals / "a0001-r000-000000000.parquet", tmp_path)  # someone makes room
        write(run, make_rows(len(found)), attempt=begin_attempt(run, len(found), "last.ckpt"))
        assert steps(run) == list(range(1, len(found) + 1))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- processes that die ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    """Starts a process in milliseconds: everything is imported in a server that forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ledger_rows"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        forkserver.ensure_running()
    return context


def kill_and_resume(
    folder: Path, server: ForkServerContext, num_kills: int, seed: int, num_steps: int = 100_000
) -> int:
    """Kill attempts at random moments and check after each; then train on for 50 steps, and return the last step."""
    run = RunDir.create(folder)
    moment = random.Random(seed)
    for _ in range(num_kills):
        started = server.Event()
        process = server.Process(target=train_until_killed, args=(folder, num_steps, started))
        process.start()
        assert started.wait(30)
        time.sleep(moment.uniform(0.0, 0.06))
        process.kill()
        process.join()
        assert_nothing_due_is_missing(run)
    last = checkpoint_step(run) + 50
    train_until_killed(folder, last, server.Event())
    assert [path for path in run.signals.iterdir() if path.name.startswith(".")] == []  # the next attempt swept
    return last


def assert_nothing_due_is_missing(run: RunDir) -> None:
    found = visits(run, split="train")
    assert len({visit[:2] for visit in found}) == len(found)
    due = {(step, sample) for step in range(checkpoint_step(run)) for sample in make_rows(step).sample_id.tolist()}
    assert due <= {visit[:2] for visit in found}


def assert_each_visit_once(run: RunDir, num_steps: int) -> None:
    train = [visit[:2] for visit in visits(run, split="train")]
    assert train == [(s, i) for s in range(num_steps) for i in sorted(make_rows(s).sample_id.tolist())]
    evaluated = [visit[:2] for visit in visits(run, split="val")]
    assert evaluated == [(s, 1000 + i) for s in range(10, num_steps + 1, 10) for i in range(6)]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_at_each_system_call_that_matters(tmp_path: Path, server: ForkServerContext, call: str) -> None:
    run, num_torn = RunDir.create(tmp_path / "run"), 0
    for number in range(1, 13):
        process = server.Process(target=die_at_call, args=(run.path, call, number))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        num_torn += any(path.name.startswith(".") for path in run.signals.iterdir())
        assert_nothing_due_is_missing(run)
    assert num_torn >= 3
    last = checkpoint_step(run) + 50
    train_until_killed(run.path, last, server.Event())
    assert_each_visit_once(run, last)


def test_twenty_kills(tmp_path: Path, server: ForkServerContext) -> None:
    last = kill_and_resume(tmp_path / "run", server, num_kills=20, seed=0)
    assert_each_visit_once(RunDir(tmp_path / "run"), last)


@pytest.mark.slow
def test_hundreds_of_kills(tmp_path: Path, server: ForkServerContext) -> None:
    for seed in range(1, 11):
        last = kill_and_resume(tmp_path / f"run{seed}", server, num_kills=30, seed=seed)
        assert_each_visit_once(RunDir(tmp_path / f"run{seed}"), last)


# ---- old formats -----------------------------------------------------------------------------


def test_format_1_opens_for_ever() -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    rows = LedgerReader(RunDir.open(GOLDEN)).table().to_pylist()
    for row in rows:
        row.update({name: None for name in FLOAT_SIGNALS if math.isnan(row[name])})
    assert sorted(rows, key=lambda row: (row["step"], row["split"], row["sample_id"])) == expected
