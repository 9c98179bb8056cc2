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

from litscope.curation.run_data import RunData, run_data
from litscope.errors import DataError, UserError
from litscope.pictures import contact_sheet
from litscope.rundir import RunDir
from litscope.runs import is_finished, is_watched
from litscope.seals import DamagedError, check

SHEET_LIMIT = 100
"""Most images on a contact sheet."""

_NOT_READ = "{} images are not there as the run saw them, or cannot be read; the sheet leaves them out."
_NOT_KEPT = (
    "{} samples have no picture: of a watched run, those are kept that were ranked first when it ended "
    "(docs/watch.md#pictures)."
)
_NOT_YET = (
    "No contact sheet: a watched run keeps pictures of its samples when it has finished (docs/watch.md#pictures)."
)

Row = dict[str, Any]
"""A sample; `key` is its name."""


def draw_samples(
    run: RunDir, rows: Sequence[Row], caption: Callable[[Row], str], path: Path, is_asked: bool
) -> tuple[Path | None, list[str]]:
    """Draw the samples of a run, if its data are images that are still there; of a watched run, those that it kept.

    Args:
        run: an open run.
        rows: the samples in their order; the first `SHEET_LIMIT` are drawn.
        caption: the text below an image.
        path: the PNG file.
        is_asked: the person named the path, so it is an error if it cannot be written.

    Returns:
        The sheet, or None if there is none, and lines to tell the person.
    """
    if not rows:
        return None, []
    rows = rows[:SHEET_LIMIT]
    if is_watched(run):
        if not run.thumbnails.exists():
            return None, [] if is_finished(run) else [_NOT_YET]
        shown, why = list(_thumbnails(rows, run)), _NOT_KEPT
    else:
        try:
            data = run_data(run)
        except UserError as error:
            return None, [f"No contact sheet, because the data are not where they were: {error}"]
        if data.source.kind != "image":
            return None, []
        shown, why = list(_images(rows, data)), _NOT_READ
    missing = len(rows) - len(shown)
    notes = [why.format(missing)] if missing else []
    if not shown:
        return None, notes
    try:
        contact_sheet([image for image, _ in shown], [caption(row) for _, row in shown], path)
    except OSError as error:  # a run on a disk that may only be read
        if is_asked:
            raise
        return None, [f"No contact sheet: {path}: {error.strerror}. Say where to put it: --sheet PATH."]
    return path, notes


def _thumbnails(rows: Sequence[Row], run: RunDir) -> Iterator[tuple[NDArray[Any], Row]]:
    """Image (H, W, 3) of each row of which a watched run kept one."""
    from PIL import Image

    try:
        check(run.thumbnails)
        kept = pq.read_table(run.thumbnails, partitioning=None)
    except (DamagedError, pa.ArrowException):
        return
    files = dict(zip(kept["sample_id"].to_pylist(), kept["png"].to_pylist(), strict=True))
    for row in rows:
        if row["sample_id"] in files:
            yield np.asarray(Image.open(BytesIO(files[row["sample_id"]]))), row


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
