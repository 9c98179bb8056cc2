"""`litscope worst`: the hardest samples of a run, as rows and as a contact sheet. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from litscope.data.sources import Source, open_source
from litscope.errors import DataError, LedgerError, RunError, UserError
from litscope.ledger.queries import By, worst
from litscope.pictures import contact_sheet
from litscope.rundir import RunDir
from litscope.training.flags import build
from litscope.training.resume import run_settings

SHEET_LIMIT = 100
"""Images on a contact sheet at most."""


@dataclass
class WorstSamples:
    """The hardest samples of one split.

    Attributes:
        rows: as `ledger.queries.worst` returns them, worst first.
        sheet: the contact sheet that was written, if any.
        notes: lines to tell the person.
    """

    run: Path
    split: str
    by: str
    rows: list[dict[str, Any]]
    sheet: Path | None = None
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """A table for people: key, label, prediction, mean."""
        width = max([len(str(row["key"])) for row in self.rows] + [3])
        names = max([len(str(row[name])) for row in self.rows for name in ("label_name", "pred_name")] + [10])
        head = f"{'key':<{width}}  {'label':<{names}}  {'prediction':<{names}}  mean {self.by}"
        return [
            head,
            *(
                f"{row['key']!s:<{width}}  {row['label_name']:<{names}}  {row['pred_name']:<{names}}  {row['mean']:.4g}"
                for row in self.rows
            ),
        ]

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "run": str(self.run),
            "split": self.split,
            "by": self.by,
            "samples": self.rows,
            "sheet": None if self.sheet is None else str(self.sheet),
            "notes": self.notes,
        }


def worst_samples(
    run_dir: str | os.PathLike[str],
    n: int = 20,
    *,
    split: Literal["train", "val", "test"] = "train",
    by: By = "loss",
    last_epochs: int = 5,
    sheet: str | os.PathLike[str] | bool = True,
) -> WorstSamples:
    """The `n` hardest samples of a run, with a contact sheet when its data are images that are still there.

    Args:
        run_dir: the run's folder.
        n, split, by, last_epochs: as `ledger.queries.worst`.
        sheet: where the sheet goes; True: `figures/worst-<split>-<by>.png` of the run; False: none.

    Raises:
        RunError: if `run_dir` is not a run, or the split was never recorded.
    """
    run = RunDir.open(run_dir)
    try:
        rows = worst(run, n, split=split, by=by, last_epochs=last_epochs)
    except LedgerError as error:  # nothing recorded, or a damaged part: another run or split is what can be asked for
        raise RunError(str(error)) from error
    found = WorstSamples(run.path, split, by, rows)
    if sheet is False or not found.rows:
        return found
    path = run.figures / f"worst-{split}-{by}.png" if sheet is True else Path(sheet)
    try:
        source = _source(run)
    except UserError as error:
        found.notes.append(f"No contact sheet, because the data are not where they were: {error}")
        return found
    if source.kind == "image":
        try:
            _draw(found, source, path)
        except OSError as error:  # a run on a disk that may only be read
            if sheet is not True:
                raise
            found.notes.append(f"No contact sheet: {path}: {error.strerror}. Say where it may go: --sheet PATH.")
    return found


def _source(run: RunDir) -> Source:
    """The run's data, opened again where its recipe says."""
    wanted = {key: value for key, value in run_settings(run.path).sections.items() if key.startswith("data.")}
    data = build(wanted).data
    assert data.dataset is not None
    return open_source(data.dataset, data_dir=data.data_dir, target=data.target, download=False)


def _draw(found: WorstSamples, source: Source, path: Path) -> None:
    """Write the contact sheet; samples whose file is gone are left out and counted."""
    shown = list(_images(found.rows[:SHEET_LIMIT], source))
    missing = min(len(found.rows), SHEET_LIMIT) - len(shown)
    if missing:
        found.notes.append(f"{missing} images are no longer there or cannot be read; the sheet leaves them out.")
    if not shown:
        return
    contact_sheet([image for image, _ in shown], [caption for _, caption in shown], path)
    found.sheet = path


def _images(rows: list[dict[str, Any]], source: Source) -> Iterator[tuple[NDArray[Any], str]]:
    """Image (H, W, K) and caption of each row; found by key, because a data set may have grown since."""
    keys = np.asarray(source.manifest.keys)
    for row in rows:
        at = np.flatnonzero(keys == row["key"])
        if len(at) == 0:
            continue
        try:
            image = source.reader.read(int(source.manifest.sample_ids[at[0]]))
        except DataError:
            continue
        yield image, f"{row['label_name']} → {row['pred_name']}\nmean {row['mean']:.3g}\n{row['key']}"
