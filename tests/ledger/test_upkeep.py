"""Upkeep: scores brought up to date and parts joined, by a thread beside the training."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from growing_runs import NAMES, SAMPLES, VAL, Training, assert_same, from_scratch, refreshed
from ledger_rows import few_are_many

from litscope.ledger import upkeep
from litscope.ledger.compaction import compact
from litscope.ledger.parts import list_parts
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import PART_SCHEMA
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.scoring.tally import RunNow, Tally
from litscope.ledger.upkeep import Upkeep
from litscope.rundir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path / "run")
    manifest = pa.table({"sample_id": pa.array(range(SAMPLES + VAL), pa.int64())})
    pq.write_table(manifest.replace_schema_metadata({b"litscope": json.dumps({"classes": NAMES})}), run.manifest)
    return run


def saved_epochs(run: RunDir) -> int:
    """Epochs in the saved table; 0 while there is none."""
    if not run.score_table.exists():
        return 0
    return int(json.loads(pq.read_schema(run.score_table).metadata[b"litscope.clock"])["num_epochs"])


def wait_for(run: RunDir, num_epochs: int) -> None:
    deadline = time.monotonic() + 30
    while saved_epochs(run) < num_epochs:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_in_the_background_after_every_epoch(run: RunDir) -> None:
    training, background = Training(run), Upkeep(run, first_after_s=0, share=math.inf)
    for epoch in range(3):
        training.finish_epoch()
        background.epoch_ended()
        wait_for(run, epoch + 1)
    training.finish_epoch()
    background.close()
    assert saved_epochs(run) == 4
    background.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "litscope-upkeep"]
    refreshed(run)


def test_in_the_background_only_when_it_is_time(run: RunDir) -> None:
    training, early = Training(run), Upkeep(run, first_after_s=1000)
    training.finish_epoch()
    early.epoch_ended()
    busy = Upkeep(run, first_after_s=0, share=1e-9)
    busy.epoch_ended()
    wait_for(run, 1)
    training.finish_epoch()
    for background in (early, busy):
        background.epoch_ended()
    time.sleep(0.3)
    assert saved_epochs(run) == 1
    early.close()
    assert saved_epochs(run) == 2
    busy.close()


def test_in_the_background_an_error_is_told_once_and_ends_nothing(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    training, background = Training(run), Upkeep(run, first_after_s=0, share=math.inf)
    training.finish_epoch()
    damaged = run.signals / "a0001-r000-000000999.parquet"
    damaged.write_bytes(b"nothing")
    told = ""
    deadline = time.monotonic() + 30
    background.epoch_ended()
    while not told:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        told = capsys.readouterr().err
    assert "could not be brought up to date" in told
    assert damaged.name in told
    background.close()
    assert capsys.readouterr().err == ""
    assert saved_epochs(run) == 0


# ---- parts -----------------------------------------------------------------------------------


def test_parts_are_joined_in_the_background_and_at_the_end(run: RunDir) -> None:
    with few_are_many(4):
        training, background = Training(run, num_ranks=2), Upkeep(run, first_after_s=0, share=math.inf)
        for epoch in range(5):
            training.finish_epoch()
            background.epoch_ended()
            wait_for(run, epoch + 1)
        deadline = time.monotonic() + 30
        while len(list_parts(run.signals)) > 5 * 7 - 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        background.close()
    for rank, num_written in ((0, 20), (1, 15)):
        joined = [part.num_joined for part in list_parts(run.signals) if part.rank == rank]
        assert sum(joined) == num_written
        assert len(joined) < 4
    refreshed(run)


def test_scores_go_on_from_joined_parts(run: RunDir) -> None:
    training = Training(run)
    with few_are_many(4):
        for _ in range(3):
            training.finish_epoch()
            Upkeep(run, first_after_s=1000).close()
            assert len(list_parts(run.signals)) == 1
            assert Tally.load(RunNow(LedgerReader(run))) is not None  # goes on, and counts nothing anew
            refreshed(run)


def test_only_what_the_scores_have_seen_is_joined(run: RunDir) -> None:
    training = Training(run)
    training.finish_epoch()
    seen = refresh(run)
    training.train(2)  # of an epoch that is not over
    with few_are_many(2):
        Upkeep(run, first_after_s=1000).close()
    assert [part.num_joined for part in list_parts(run.signals)] == [4, 1, 1]
    assert Tally.load(RunNow(LedgerReader(run))) is not None
    assert_same(refresh(run), seen)
    training.finish_epoch()
    refreshed(run)


def test_scores_are_right_whatever_was_joined_before_they_saw_it(run: RunDir) -> None:
    training = Training(run)
    training.finish_epoch()
    refresh(run)
    training.finish_epoch()
    with few_are_many(2):
        compact(run.signals, PART_SCHEMA, is_over=True, may_join=lambda _: True)
    assert len(list_parts(run.signals)) == 1
    assert_same(refresh(run), from_scratch(run))


def test_a_run_that_is_told_to_stop_joins_nothing(run: RunDir) -> None:
    Training(run).finish_epoch()
    with few_are_many(2):
        Upkeep(run, first_after_s=1000).close(is_over=False)
    assert len(list_parts(run.signals)) == 4
    assert saved_epochs(run) == 1


def test_parts_that_cannot_be_joined_are_told_once_and_end_nothing(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(upkeep, "compact", full)
    Training(run).finish_epoch()
    Upkeep(run, first_after_s=1000).close()
    assert "could not be joined: [Errno 28] No space left on device. Training goes on." in capsys.readouterr().err
    assert saved_epochs(run) == 1
