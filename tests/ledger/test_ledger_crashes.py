"""The ledger when things go wrong: damaged parts, disks that fail, processes that die. Old formats open for ever."""

import errno
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import forked
import numpy as np
import pyarrow.parquet as pq
import pytest
from ledger_rows import (
    checkpoint_step,
    die_at_call,
    make_rows,
    put_all,
    steps,
    train_until_killed,
    visits,
    write,
)
from places import GOLDEN

from litscope.attempts import begin_attempt
from litscope.errors import LedgerError
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import FLOAT_SIGNALS, Rows
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir

LEDGER_V1 = GOLDEN / "ledger_v1"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run")


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
    """Starts a process in milliseconds."""
    return forked.server()


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


@pytest.mark.thorough
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


@pytest.mark.slow
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
    expected = json.loads((LEDGER_V1 / "expected.json").read_text())
    rows = LedgerReader(RunDir.open(LEDGER_V1)).table().to_pylist()
    for row in rows:
        row.update({name: None for name in FLOAT_SIGNALS if math.isnan(row[name])})
    assert sorted(rows, key=lambda row: (row["step"], row["split"], row["sample_id"])) == expected
