"""The folder of a run over many samples, written by the ledger's own writer, as a training leaves it. No torch.

How well a sample is learned is drawn: most are learned within a few epochs, some never, and one in a thousand is taken
for another class all along, as one with a wrong label is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from many_rows import CLASSES, write_many

from litscope.attempts import begin_attempt
from litscope.config.recipe import Recipe
from litscope.curation.recipe_source import make_source
from litscope.data.content import with_content
from litscope.ledger.schema import Rows, Segment
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, append_line, write_json, write_text

BATCH = 1024
NUM_REAL = 3000
"""Suspicious samples that have an image; the others would be looked at by nobody."""


def many_run(folder: Path, num_samples: int, num_epochs: int) -> RunDir:
    """A finished run, nine tenths of whose samples trained, with its scores.

    Args:
        folder: becomes the run; its data go beside it, into `NAME-data`.
        num_samples: in 1000 classes.
        num_epochs: each with all training samples, in another order, and an evaluation of the others.
    """
    rng = np.random.default_rng(0)
    drift = rng.normal(0.5, 0.4, num_samples).astype(np.float32)
    start = rng.normal(-1.0, 1.0, num_samples).astype(np.float32)
    is_wrong = rng.random(num_samples) < 0.001
    data = folder.with_name(f"{folder.name}-data")
    write_many(data, num_samples, np.flatnonzero(is_wrong)[:NUM_REAL].tolist())
    run = RunDir.create(folder)
    write_text(run.recipe, f"data:\n  dataset: {data}\ntraining:\n  epochs: {num_epochs}\n  monitor: val/accuracy\n")
    recipe = Recipe()
    recipe.data.dataset = str(data)
    with_content(make_source(recipe)).write(run.manifest)
    is_val = np.arange(num_samples) % 10 == 9
    attempt, step = begin_attempt(run, 0, None), 0
    with LedgerWriter(run, attempt) as writer:
        for epoch in range(num_epochs):
            accuracy = {}
            for split, phase, ids in (
                ("train", "train", rng.permutation(np.flatnonzero(~is_val))),
                ("val", "eval", np.flatnonzero(is_val)),
            ):
                for at in range(0, len(ids), 64 * BATCH):
                    part = ids[at : at + 64 * BATCH]
                    logit = start[part] + drift[part] * epoch + rng.normal(0, 0.7, len(part)).astype(np.float32)
                    logit = np.maximum(logit, -3.0)  # nobody is as suspicious as those whose images are there
                    logit[is_wrong[part]] = -4.0
                    rows = _rows(part, logit, rng, step, epoch, split, phase)
                    writer.put(rows)
                    accuracy[split] = float((rows.pred == rows.label).mean())
                    step += len(rows.segments) if phase == "train" else 0
            line = {"step": step, "epoch": epoch, "attempt": attempt}
            append_line(run.step_metrics, {**line, "train/loss": 3.0 / (1 + epoch)})
            figures = {"train/accuracy": accuracy["train"], "val/accuracy": accuracy["val"], "epoch_s": 60.0}
            append_line(run.epoch_metrics, {**line, **figures})
    best = {"val/accuracy": accuracy["val"], "train/accuracy": accuracy["train"]}
    facts = {"status": "finished", "message": "", "monitor": "val/accuracy", "mode": "max"}
    write_json(run.summary, {**facts, "metrics": {"best": best, "final": best}})
    refresh(run)
    return run


def _rows(
    ids: npt.NDArray[np.int64],
    logit: npt.NDArray[np.float32],
    rng: np.random.Generator,
    step: int,
    epoch: int,
    split: str,
    phase: str,
) -> Rows:
    """A visit of each sample whose label has the log odds `logit`."""
    p = (1 / (1 + np.exp(-logit))).astype(np.float32)
    label = (ids % CLASSES).astype(np.int32)
    other = (label + 1 + rng.integers(0, 8, len(ids))).astype(np.int32) % CLASSES
    p_max = np.maximum(p, 0.7 * (1 - p))
    counts = [BATCH] * (len(ids) // BATCH) + ([len(ids) % BATCH] if len(ids) % BATCH else [])
    is_train = phase == "train"
    segments = tuple(Segment(n, step + (i if is_train else 0), epoch, split, phase) for i, n in enumerate(counts))
    signals = {
        "loss": -np.log(np.maximum(p, 1e-30)),
        "p_label": p,
        "p_max": p_max,
        "margin": logit,
        "el2n": np.sqrt(2) * (1 - p),
        "entropy": -np.log(p_max),
    }
    pred = np.where(p >= p_max, label, other).astype(np.int32)
    return Rows(sample_id=ids, label=label, pred=pred, signals=signals, segments=segments)
