"""Scores brought up to date by a thread beside the training."""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from growing_runs import NAMES, SAMPLES, VAL, Training, refreshed

from litscope.ledger.scoring.scorekeeper import BackgroundScores
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
    training, background = Training(run), BackgroundScores(run, first_after_s=0, share=math.inf)
    for epoch in range(3):
        training.finish_epoch()
        background.epoch_ended()
        wait_for(run, epoch + 1)
    training.finish_epoch()
    background.close()
    assert saved_epochs(run) == 4
    background.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "litscope-scores"]
    refreshed(run)


def test_in_the_background_only_when_it_is_time(run: RunDir) -> None:
    training, early = Training(run), BackgroundScores(run, first_after_s=1000)
    training.finish_epoch()
    early.epoch_ended()
    busy = BackgroundScores(run, first_after_s=0, share=1e-9)
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
    training, background = Training(run), BackgroundScores(run, first_after_s=0, share=math.inf)
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
