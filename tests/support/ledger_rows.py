"""Rows for the ledger's tests, and runs that write them until they are killed. Imports no torch and no pytest."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from litscope.attempts import begin_attempt
from litscope.ledger import compaction
from litscope.ledger.compaction import compact
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import FLOAT_SIGNALS, PART_SCHEMA, Rows, Segment
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, read_lines, write_text

BATCH, SAMPLES = 8, 40
STEPS_PER_EPOCH = SAMPLES // BATCH


def make_rows(
    step: int,
    *,
    epoch: int | None = None,
    split: str = "train",
    phase: str = "train",
    ids: list[int] | None = None,
    label: int = 1,
    pred: int = 0,
    value: float = 0.0,
) -> Rows:
    """One batch in which every float signal is `value`; by default the one that is due at `step`."""
    if ids is None:
        first = step % STEPS_PER_EPOCH * BATCH
        ids = list(range(first, first + BATCH))
    n = len(ids)
    return Rows(
        sample_id=np.array(ids, np.int64),
        label=np.full(n, label, np.int32),
        pred=np.full(n, pred, np.int32),
        signals={name: np.full(n, value, np.float32) for name in FLOAT_SIGNALS},
        segments=(Segment(n, step, step // STEPS_PER_EPOCH if epoch is None else epoch, split, phase),),
    )


def checkpoint_step(run: RunDir) -> int:
    """The step of the last checkpoint that `train_until_killed` wrote."""
    path = run.path / "checkpoint.json"
    return read_lines(path)[0]["step"] if path.exists() else 0


def train_until_killed(folder: Path, num_steps: int, started: Event, save_every: int = 7) -> None:
    """One attempt of a run: resumes, records every step under its attempt's number, checkpoints as training does.

    It evaluates six samples of `val` in two batches after every tenth step.
    """
    started.set()
    run = RunDir(folder)
    start = checkpoint_step(run)
    attempt = begin_attempt(run, start, None)
    with LedgerWriter(run, attempt) as writer:
        for step in range(start, num_steps):
            writer.put(make_rows(step, value=attempt))
            if (step + 1) % 10 == 0:
                for batch in range(2):
                    ids = [1000 + 3 * batch + i for i in range(3)]
                    rows = make_rows(step + 1, epoch=0, split="val", phase="eval", ids=ids, value=attempt)
                    writer.put(rows)
            if (step + 1) % save_every == 0:
                writer.flush(wait=True)
                write_text(run.path / "checkpoint.json", f'{{"step": {step + 1}}}\n')


def die_at_call(folder: Path, owner: str, number: int) -> None:
    """Train, and be killed at the `number`-th call of `os.fsync` (owner "fsync") or `Path.replace` ("replace")."""
    _make_deadly(*(os, "fsync") if owner == "fsync" else (Path, "replace"), number)
    train_until_killed(folder, 1000, multiprocessing.Event())


def _make_deadly(target: object, name: str, number: int) -> None:
    """Have the `number`-th call of a function kill this process."""
    calls = itertools.count(1)
    original = getattr(target, name)

    def deadly(*arguments: object, **named: object) -> object:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(target, name, deadly)


def put_all(writer: LedgerWriter, blocks: Iterable[Rows]) -> None:
    for block in blocks:
        writer.put(block)
        writer.flush(wait=True)


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


def join(run: RunDir, many: int = 4, is_over: bool = True) -> None:
    """Join the run's parts where `many` follow each other."""
    with few_are_many(many):
        compact(run.signals, PART_SCHEMA, is_over=is_over, may_join=lambda _: True)


@contextmanager
def few_are_many(many: int) -> Iterator[None]:
    """Inside, so many parts are worth joining."""
    before = compaction.MANY, compaction.MANY_AT_THE_END
    compaction.MANY = compaction.MANY_AT_THE_END = many
    try:
        yield
    finally:
        compaction.MANY, compaction.MANY_AT_THE_END = before


def die_while_joining(folder: Path, call: str, number: int) -> None:
    """Join a run's parts, and be killed at the `number`-th call of fsync, replace or unlink."""
    _make_deadly(*(os, "fsync") if call == "fsync" else (Path, call), number)
    join(RunDir(folder))


def write_and_join(folder: Path, num_steps: int, many: int = 4) -> None:
    """Write a part for each step, and join parts all the time."""
    run = RunDir(folder)
    with LedgerWriter(run, begin_attempt(run, 0, None)) as writer:
        for step in range(num_steps):
            put_all(writer, [make_rows(step, value=step)])
            join(run, many, is_over=step % 50 == 49)
