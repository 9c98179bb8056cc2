"""A small run with known scores, for the tests of what is asked of a run. Imports no torch.

Twelve training samples in three classes and three of `val`, four epochs. Samples 2 and 7 are never
predicted as labelled: 7 is the most suspicious, then 2; sample 5 is learned in the third epoch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from litscope.attempts import begin_attempt
from litscope.data.manifest import Manifest, build_manifest
from litscope.ledger.journal.actions import answer, request, submit
from litscope.ledger.schema import Rows, Segment
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, append_line, write_text

NAMES = ["ant", "bee", "wasp"]
NUM_EPOCHS = 4
TRAIN, VAL = range(12), range(12, 15)


def chance(sample_id: int, epoch: int) -> tuple[float, int]:
    """p_label and the prediction of a sample in an epoch."""
    label = sample_id % 3
    if sample_id == 7:
        return 0.02, (label + 1) % 3
    if sample_id == 2:
        return 0.1, (label + 1) % 3
    if sample_id == 5 and epoch < 2:
        return 0.3, (label + 2) % 3
    return 0.8 + 0.01 * sample_id, label


def epoch_rows(epoch: int, ids: range, split: str, phase: str, labels: dict[int, int] | None = None) -> Rows:
    """One visit of each sample. `labels`: other labels than the manifest's."""
    facts = [chance(i, epoch) for i in ids]
    p = np.array([value for value, _ in facts], np.float32)
    pred = np.array([value for _, value in facts], np.int32)
    return Rows(
        sample_id=np.array(ids, np.int64),
        label=np.array([(labels or {}).get(i, i % 3) for i in ids], np.int32),
        pred=pred,
        signals={
            "loss": -np.log(p),
            "p_label": p,
            "p_max": np.maximum(p, 1 - p),
            "margin": np.log(p / (1 - p)),
            "el2n": np.sqrt(2) * (1 - p),
            "entropy": 1 - p,
        },
        segments=(Segment(len(ids), 10 * epoch + (0 if phase == "train" else 10), epoch, split, phase),),
    )


def asked_manifest(stem: str = "", **extra: list[object]) -> Manifest:
    keys = [f"{'train' if i in TRAIN else 'val'}/{NAMES[i % 3]}/{stem}{i:02d}.png" for i in range(15)]
    splits = ["train"] * len(TRAIN) + ["val"] * len(VAL)
    columns = {name: pa.array(values) for name, values in extra.items()}
    encoding = {"kind": "image", "channels": 1, "dtype": "uint8"}
    return build_manifest(keys, np.arange(15) % 3, NAMES, splits=splits, extra=columns, encoding=encoding)


def asked_run(
    path: Path,
    labels: dict[int, int] | None = None,
    num_epochs: int = NUM_EPOCHS,
    dataset: Path | str = "nowhere",
    stem: str = "",
    **extra: list[object],
) -> RunDir:
    """The run. `labels`: planted ones, used in training; `stem`: how files' names begin; `extra`: further columns of
    the manifest."""
    run = RunDir.create(path)
    write_text(run.recipe, f"data:\n  dataset: {dataset}\ntraining:\n  lr: 0.1\n")
    asked_manifest(stem, **extra).write(run.manifest)
    attempt = begin_attempt(run, 0, None)
    with LedgerWriter(run, attempt) as writer:
        for epoch in range(num_epochs):
            writer.put(epoch_rows(epoch, TRAIN, "train", "train", labels))
            writer.put(epoch_rows(epoch, VAL, "val", "eval"))
    for epoch in range(num_epochs):
        line = {"epoch": epoch, "step": 10 * epoch + 10, "attempt": attempt, "val/accuracy": 0.5 + 0.1 * epoch}
        append_line(run.epoch_metrics, line)
        append_line(run.step_metrics, {"step": 10 * epoch + 5, "epoch": epoch, "attempt": attempt, "train/loss": 1.0})
    return run


def write_images(root: Path) -> Path:
    """The images that the manifest names, as a folder that `--dataset` may name."""
    for i, key in enumerate(asked_manifest().keys):
        path = root / str(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 * i, np.uint8)).save(path)
    return root


def act(run: RunDir, what: str, ids: list[int] | None = None, *, is_applied: bool = True, **arguments: object) -> str:
    """An action in the journal, applied unless told otherwise; its id."""
    samples = {} if ids is None else {"sample_id": ids}
    action = request(what, **samples, **arguments)  # type: ignore[arg-type]
    submit(run, action)
    if is_applied:
        answer(run, action["id"], "applied", step=10, epoch=1, attempt=1)
    return str(action["id"])
