"""Thumbnails: pictures of the samples that people will look at first, kept when a watched run ends.

The data set is somebody else's, so commands cannot open it; but while the script runs it gives its items. So when a run
has finished, the samples that `litscope suspects` and `litscope worst` rank first are read once more and kept small.
Nothing is read before that, not many are, not for long, and random numbers that reading draws are given back.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image
from torch import Tensor

from litscope.console import warn
from litscope.ledger.queries import worst
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.live.records import SPLITS
from litscope.pictures.contact_sheet import Pixels, small_picture
from litscope.rundir import RunDir, whole_file
from litscope.seals import sealed_parquet
from litscope.watch.samples.roster import Roster

NUM_SUSPECTS, NUM_WORST = 60, 20
"""How many samples of each split are kept: the most suspicious ones, and those of the greatest mean loss."""

READ_S = 2.0
"""Seconds after which no further sample is read."""

_LEAST_SIDE, _MOST_BANDS = 8, 16
"""What is smaller, or has more bands, is taken for something other than an image."""

_IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x", "input")


def keep_thumbnails(run: RunDir, roster: Roster) -> None:
    """Write the run's thumbnails, if its data sets give images. Whatever their reading raises is told, and no more."""
    pictures: dict[int, bytes] = {}
    ends_at = time.monotonic() + READ_S
    try:
        with isolate_rng(), torch.no_grad():
            if not _gives_images(roster):
                return
            for sample_id in _ranked_first(run):
                if (pixels := _pixels(roster, sample_id)) is not None:
                    pictures[sample_id] = small_picture(pixels)
                if time.monotonic() > ends_at:
                    break
    except Exception as error:  # noqa: BLE001 - somebody else's data set, and the run itself is whole
        warn(f"contact sheets of this run have {len(pictures)} pictures, because reading one more failed: {error!r}")
    if pictures:
        _write(run, pictures)


def _gives_images(roster: Roster) -> bool:
    firsts = (part.first_id for part in roster.parts if part.data is not None and part.num_samples)
    return any(_pixels(roster, sample_id) is not None for sample_id in firsts)


def _pixels(roster: Roster, sample_id: int) -> Pixels | None:
    part = roster.part_of(sample_id)
    return None if part is None or part.data is None else pixels_of(part.data.item_of(sample_id))


def _ranked_first(run: RunDir) -> list[int]:
    """The samples in the order in which people will ask for them, each once."""
    scores = refresh(run).table
    splits = np.asarray(scores["split"].cast(pa.string()).to_numpy(zero_copy_only=False))
    ids, suspicion = scores["sample_id"].to_numpy(), np.asarray(scores["suspicion"].to_numpy(), np.float64)
    first, then = [], []
    for split in sorted(set(splits), key=SPLITS.index):
        at = np.flatnonzero((splits == split) & ~np.isnan(suspicion))
        suspects = ids[at[np.argsort(-suspicion[at], kind="stable")[:NUM_SUSPECTS]]].tolist()
        first += suspects[:NUM_WORST] + [int(row["sample_id"]) for row in worst(run, NUM_WORST, split=split)]
        then += suspects[NUM_WORST:]
    return list(dict.fromkeys(first + then))


def pixels_of(item: Any) -> Pixels | None:
    """The image of a data set's item, (H, W) or (H, W, K), of any type; None if it has none.

    An image is the first part of a tuple, a dict's `image`, `img`, `pixel_values` and the like, or the item itself: of
    PIL, or an array or tensor with at most 16 bands, first or last.
    """
    if isinstance(item, Mapping):
        item = next((item[key] for key in _IMAGE_KEYS if key in item), None)
    elif isinstance(item, tuple | list):
        item = item[0] if item else None
    if isinstance(item, Image.Image):
        return np.asarray(item if item.mode in ("L", "RGB") else item.convert("RGB"))
    if isinstance(item, Tensor):
        item = item.detach().cpu()
        item = (item.float() if item.is_floating_point() else item).numpy()
    if not isinstance(item, np.ndarray) or item.ndim not in (2, 3):
        return None
    if item.ndim == 3 and item.shape[0] < min(item.shape[1:]):
        item = np.moveaxis(item, 0, -1)
    is_image = min(item.shape[:2]) >= _LEAST_SIDE and (item.ndim == 2 or item.shape[2] <= _MOST_BANDS)
    return item if is_image and item.dtype.kind in "uif" else None


def _write(run: RunDir, pictures: Mapping[int, bytes]) -> None:
    table = pa.table(
        {"sample_id": pa.array(pictures.keys(), pa.int64()), "png": pa.array(pictures.values(), pa.binary())}
    )
    content = io.BytesIO()
    pq.write_table(table, content, compression="none")
    try:
        with whole_file(run.thumbnails) as file:
            file.writelines(sealed_parquet(content.getvalue()))
    except OSError as error:
        warn(f"the pictures for contact sheets could not be kept: {error}")
