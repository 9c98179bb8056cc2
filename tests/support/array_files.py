"""A folder of one .npy file per sample, as a reader of images."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from litscope.errors import DataError


@dataclass
class ArrayFiles:
    """A reader of one .npy file per sample; a missing file is an unreadable image."""

    folder: Path
    kind: str = "image"
    channels: int = 3
    array: None = None

    @property
    def dtype(self):
        return np.dtype(np.uint8)

    def size(self, sample_id):
        return self.read(sample_id).shape[:2]

    def foreseeing(self, ids):
        return nullcontext(self)

    def read(self, sample_id, min_side=0):
        try:
            return np.load(self.folder / f"{sample_id}.npy")
        except FileNotFoundError as error:
            raise DataError(f"{error.filename}: no such file") from error

    def fingerprint(self):
        return str(self.folder)
