"""Contact sheets of a run's samples. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.console import number_of
from litscope.curation.run_data import RunData, run_data
from litscope.errors import DataError, UserError
from litscope.pictures.contact_sheet import contact_sheet
from litscope.rundir import RunDir
from litscope.runs import is_finished, is_watched
from litscope.seals import DamagedError, check

SHEET_LIMIT = 100
"""Most images on a contact sheet."""

Row = dict[str, Any]
"""A sample; `key` is its name."""

Shown = list[tuple[NDArray[Any], Row]]
"""Images, (H, W) or (H, W, K), with their samples."""


def draw_samples(
    run: RunDir,
    rows: Sequence[Row],
    caption: Callable[[Row], str],
    title: Callable[[int], str],
    path: Path,
    is_asked: bool,
) -> tuple[Path | None, list[str]]:
    """Draw the samples of a run, if its data are images that are still there; of a watched run, those that it kept.

    Args:
        run: an open run.
        rows: the samples in their order; the first `SHEET_LIMIT` are drawn.
        caption: the text below an image: a line with names of classes, and lines with facts.
        title: what the sheet shows, of so many images.
        path: the PNG file.
        is_asked: the person named the path, so it is an error if it cannot be written.

    Returns:
        The sheet, or None if there is none, and lines to tell the person.
    """
    if not rows:
        return None, []
    shown, notes = (_kept if is_watched(run) else _read)(run, rows[:SHEET_LIMIT])
    if not shown:
        return None, notes
    try:
        captions = [caption(row) for _, row in shown]
        contact_sheet([image for image, _ in shown], captions, path, title=title(len(shown)))
    except OSError as error:  # a run on a disk that may only be read
        if is_asked:
            raise
        return None, [f"No contact sheet: {path}: {error.strerror}. Say where to put it: --sheet PATH."]
    return path, notes


def _read(run: RunDir, rows: Sequence[Row]) -> tuple[Shown, list[str]]:
    """The images of samples, from the run's data, and what to tell the person."""
    try:
        data = run_data(run)
    except UserError as error:
        return [], [f"No contact sheet, because the data are not where they were: {error}"]
    if data.source.kind != "image":
        return [], []
    shown = list(_images(rows, data))
    if missing := len(rows) - len(shown):
        return shown, [
            f"{missing} images are not there as the run saw them, or cannot be read; the sheet leaves them out."
        ]
    return shown, []


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


def _kept(run: RunDir, rows: Sequence[Row]) -> tuple[Shown, list[str]]:
    """The same of a watched run, which kept pictures (H, W, 3) of what was ranked first."""
    from PIL import Image

    if not run.thumbnails.exists():
        waits = "No contact sheet: a watched run keeps pictures of its samples when it has finished"
        return [], [] if is_finished(run) else [f"{waits} (docs/watch.md#pictures)."]
    try:
        check(run.thumbnails)
        table = pq.read_table(run.thumbnails, partitioning=None)
    except (DamagedError, pa.ArrowException) as error:
        return [], [f"No contact sheet: {run.thumbnails} is damaged: {error}."]
    files = dict(zip(table["sample_id"].to_pylist(), table["png"].to_pylist(), strict=True))
    found = [(files[row["sample_id"]], row) for row in rows if row["sample_id"] in files]
    shown = [(np.asarray(Image.open(BytesIO(file))), row) for file, row in found]
    if missing := len(rows) - len(shown):
        why = "when it ended, the run kept those of what was ranked first then (docs/watch.md#pictures)"
        return shown, [f"{number_of(missing, 'sample')} without a picture: {why}."]
    return shown, []
