"""Contact sheets of a run's samples. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from litscope.curation.run_data import RunData, run_data
from litscope.errors import DataError, UserError
from litscope.pictures import contact_sheet
from litscope.rundir import RunDir

SHEET_LIMIT = 100
"""Most images on a contact sheet."""

Row = dict[str, Any]
"""A sample; `key` is its name."""


def draw_samples(
    run: RunDir, rows: Sequence[Row], caption: Callable[[Row], str], path: Path, is_asked: bool
) -> tuple[Path | None, list[str]]:
    """Draw the samples of a run, if its data are images that are still there.

    Args:
        run: an open run.
        rows: the samples in their order; the first `SHEET_LIMIT` are drawn.
        caption: the text below an image.
        path: the PNG file.
        is_asked: the person named the path, so it is an error if it cannot be written.

    Returns:
        The sheet, or None if there is none, and lines to tell the person.
    """
    try:
        data = run_data(run)
    except UserError as error:
        return None, [f"No contact sheet, because the data are not where they were: {error}"]
    if data.source.kind != "image" or not rows:
        return None, []
    try:
        return _draw(rows[:SHEET_LIMIT], data, caption, path)
    except OSError as error:  # a run on a disk that may only be read
        if is_asked:
            raise
        return None, [f"No contact sheet: {path}: {error.strerror}. Say where to put it: --sheet PATH."]


def _draw(
    rows: Sequence[Row], data: RunData, caption: Callable[[Row], str], path: Path
) -> tuple[Path | None, list[str]]:
    """Write the contact sheet; samples whose file is gone are left out and counted."""
    shown = list(_images(rows, data))
    missing = len(rows) - len(shown)
    notes = (
        [f"{missing} images are not there as the run saw them, or cannot be read; the sheet leaves them out."]
        if missing
        else []
    )
    if not shown:
        return None, notes
    contact_sheet([image for image, _ in shown], [caption(row) for _, row in shown], path)
    return path, notes


def _images(rows: Sequence[Row], data: RunData) -> Iterator[tuple[NDArray[Any], Row]]:
    """Image (H, W, K) of each row, wherever it lies now; another one under its key is not taken for it."""
    at = data.match.rows
    for row in rows:
        if at[row["sample_id"]] < 0:
            continue
        try:
            yield data.source.reader.read(int(at[row["sample_id"]])), row
        except DataError:
            continue
