"""A run that grows step by step without a trainer, and its scores from scratch."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow.parquet as pq

from litscope.attempts import begin_attempt
from litscope.ledger.schema import FLOAT_SIGNALS, Rows, Segment
from litscope.ledger.scoring.score_schema import SCORE_SCHEMA
from litscope.ledger.scoring.scorekeeper import Scores, refresh
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, append_line

NAMES = ["ant", "bee", "wasp"]
SAMPLES, BATCH, STEPS = 24, 8, 3
VAL, TEST = 6, 3


class Training:
    """A run that grows step by step: each epoch three training batches, in an order of its own, then a validation."""

    def __init__(self, run: RunDir, num_ranks: int = 1) -> None:
        self.run = run
        self.num_ranks = num_ranks
        self.label = np.arange(SAMPLES + VAL + TEST, dtype=np.int32) % 3
        self.resume(0)

    def resume(self, step: int) -> None:
        """A new attempt that starts at `step`."""
        self.attempt = begin_attempt(self.run, step, None)
        self.step = step

    def train(self, num_steps: int) -> None:
        for _ in range(num_steps):
            epoch, batch = divmod(self.step, STEPS)
            ids = np.random.default_rng(epoch).permutation(SAMPLES)[batch * BATCH : (batch + 1) * BATCH]
            for rank in range(self.num_ranks):
                self.write(ids[rank :: self.num_ranks], epoch, "train", "train", rank)
            self.step += 1

    def evaluate(self, epoch: int, split: str = "val") -> None:
        self.write(np.arange(SAMPLES, SAMPLES + VAL), epoch, split, "eval")

    def write(self, ids: np.ndarray, epoch: int, split: str, phase: str, rank: int = 0) -> None:
        rng = np.random.default_rng([self.attempt, self.step, *ids.tolist()])
        signals = {name: rng.normal(size=len(ids)).astype(np.float32) for name in FLOAT_SIGNALS}
        pred = rng.integers(0, 3, len(ids)).astype(np.int32)
        segment = Segment(len(ids), self.step, epoch, split, phase)
        with LedgerWriter(self.run, self.attempt, rank) as writer:
            writer.put(Rows(ids.astype(np.int64), self.label[ids], pred, signals, (segment,)))

    def finish_epoch(self) -> None:
        """What is left of the epoch, and its line in epochs.jsonl."""
        epoch = self.step // STEPS
        self.train(STEPS - self.step % STEPS)
        self.evaluate(epoch)
        append_line(self.run.epoch_metrics, {"epoch": epoch, "step": self.step, "attempt": self.attempt})


def assert_same(one: Scores, two: Scores) -> None:
    """Bit for bit; NaN is equal to NaN."""
    for name in SCORE_SCHEMA.names:
        assert one.table[name].to_pylist() == two.table[name].to_pylist(), name
    assert repr(one.clock) == repr(two.clock)


def from_scratch(run: RunDir) -> Scores:
    """On a copy without any scores."""
    copy = RunDir(run.path.parent / "copy")
    shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns("scores"))
    try:
        return refresh(copy, save=False)
    finally:
        shutil.rmtree(copy.path)


def refreshed(run: RunDir) -> Scores:
    """Refresh; what comes out is what a new start says, and what a reader of the file sees."""
    scores = refresh(run)
    assert_same(scores, from_scratch(run))
    assert_same(scores, refresh(run))
    assert pq.read_table(run.score_table).equals(scores.table)
    return scores
