"""What every small run would pay for and hardly a test looks at: pictures drawn, waiting for the disk, garbage sought.

Together they were two thirds of a run of two epochs. `@pytest.mark.pictures` has a test's pictures drawn.
"""

from __future__ import annotations

import gc
import os
from typing import IO

from matplotlib.figure import Figure
from PIL import Image

_savefig = Figure.savefig


def spare() -> None:
    """For all of this process: conftest.py calls it, and so do processes that tests fork."""
    gc.set_threshold(50_000, 20, 20)  # else each 700 new objects start a search
    os.fsync = lambda descriptor: None  # a machine that loses its power may lose the files of its tests
    Figure.savefig = _one_pixel  # type: ignore[method-assign]


def draw() -> None:
    """matplotlib writes whole pictures again."""
    Figure.savefig = _savefig  # type: ignore[method-assign]


def _one_pixel(figure: Figure, file: IO[bytes], **_: object) -> None:
    """All that comes before is done."""
    Image.new("RGB", (1, 1), "white").save(file, format="png")
