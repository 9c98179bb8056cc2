"""A folder of small images in two classes, which tests then make strange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from litscope.data.sources.source import Source, open_source


def write_images(folder: Path, count: int = 4, start: int = 0) -> None:
    """0.png, 1.png, ... of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        photo(hash(str(folder)) % 1000 + i).save(folder / f"{i}.png")


def photo(seed: int) -> Image.Image:
    """8 x 8 pixels of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def write_pets(root: Path) -> Path:
    """Four images each of cat and dog."""
    for name in ("cat", "dog"):
        write_images(root / name)
    return root


def opened(root: Path, **options: Any) -> Source:
    """The folder as a data set without a validation split."""
    return open_source(root, **({"val_split": 0.0} | options))
