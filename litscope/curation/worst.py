"""`litscope worst`: the hardest samples of a run, as rows and as a contact sheet. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from litscope.console import number_of, table_lines
from litscope.curation.sheet import draw_samples
from litscope.errors import LedgerError, RunError
from litscope.ledger.journal.actions import decisions
from litscope.ledger.neighbours import NEIGHBOUR_SCORES
from litscope.ledger.queries import By, classes, worst
from litscope.ledger.uncertainties import UNCERTAINTIES, how_to_record, outdated_lines, read_uncertainties
from litscope.rundir import RunDir

ONE_NUMBER = (*NEIGHBOUR_SCORES, *UNCERTAINTIES)
"""What is no mean over visits."""


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
        rows = [[row[name] for name in ("key", "label_name", "pred_name", "mean")] for row in self.rows]
        return table_lines(["key", "label", "prediction", by_in_words(self.by)], rows)

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {
            "run": str(self.run),
            "split": self.split,
            "by": self.by,
            "samples": self.rows,
            "sheet": None if self.sheet is None else str(self.sheet),
            "notes": self.notes,
        }


def by_in_words(by: str) -> str:
    """What samples are ranked by: signals by their mean over epochs, what stands beside them as it is."""
    return by if by in ONE_NUMBER else f"mean {by}"


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
    except LedgerError as error:  # nothing recorded, or a damaged part: the person can ask for another run or split
        raise RunError(str(error)) from error
    found = WorstSamples(run.path, split, by, rows, notes=_of_then(run, by, rows))
    if sheet is False or not found.rows:
        return found
    path = run.figures / f"worst-{split}-{by}.png" if sheet is True else Path(sheet)

    def caption(row: dict[str, Any]) -> str:
        return f"{row['label_name']} → {row['pred_name']}\n{split}, {by_in_words(by)} {row['mean']:.3g}\n{row['key']}"

    def title(num_shown: int) -> str:
        over = "" if by in ONE_NUMBER else f" over the last {number_of(last_epochs, 'epoch')}"
        return f"{run.path.name}: the {num_shown:,} hardest samples of {split}, by their {by_in_words(by)}{over}"

    found.sheet, notes = draw_samples(run, found.rows, caption, title, path, is_asked=sheet is not True)
    found.notes += notes
    return found


def _of_then(run: RunDir, by: str, rows: list[dict[str, Any]]) -> list[str]:
    """What is no longer so of what was measured: weights, readout, labels."""
    measured = read_uncertainties(run, has_sets=False) if by in UNCERTAINTIES else None
    if measured is None:
        return []
    notes = outdated_lines(run, measured)
    if by == "measured_p_label":
        names, now = classes(run), decisions(run).labels
        kept = dict(zip(measured.table["sample_id"].to_pylist(), measured.table["label"].to_pylist(), strict=True))
        shown = [row["sample_id"] for row in rows if row["sample_id"] in now]
        if count := sum(names[kept[i]] != now[i] for i in shown):
            verb = "was" if count == 1 else "were"
            notes.append(
                f"{number_of(count, 'sample')} here {verb} relabelled since: measured_p_label is of the label before. "
                f"To keep it anew: {how_to_record(run)}"
            )
    return notes
