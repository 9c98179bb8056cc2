"""A run folder made by hand, for the commands that act on one. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ledger_rows import make_rows, write

from litscope.attempts import begin_attempt
from litscope.data.manifest import build_manifest
from litscope.ledger.journal.actions import entries
from litscope.rundir import RunDir, read_lines, write_text

CLASSES = ("cat", "dog", "owl")
NUM_TRAIN, NUM = 30, 40
DEAD = 2**22 + 1
"""No process has this number: Linux counts to 2^22."""


def make_run(path: Path) -> RunDir:
    """A run of 30 training, 5 validation and 5 test samples, not training: its process is gone.

    The first eight samples were seen once in training, and predicted as class 2.
    """
    run = RunDir.create(path)
    splits = ["train"] * NUM_TRAIN + ["val"] * 5 + ["test"] * 5
    build_manifest([f"img/{i:03}.png" for i in range(NUM)], np.arange(NUM) % 3, CLASSES, splits=splits).write(
        run.manifest
    )
    write_text(run.recipe, "data: {dataset: somewhere}\n")
    write(run, make_rows(0, epoch=0, pred=2), attempt=begin_attempt(run, 0, None))
    set_process(run, pid=DEAD)
    return run


def set_process(run: RunDir, **facts: Any) -> None:
    """Have the last attempt say that it was started by another process, or elsewhere."""
    *earlier, last = read_lines(run.attempts)
    write_text(run.attempts, "".join(json.dumps(line) + "\n" for line in (*earlier, {**last, **facts})))


def last_action(run: RunDir) -> dict[str, Any]:
    """The newest request in the journal."""
    return entries(run)[-1].action
