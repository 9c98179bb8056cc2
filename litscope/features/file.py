"""FeatureFile: what a frozen network makes of each sample, computed once and kept in the cache folder. No torch.

    <cache folder>/features/<key>.npy    (N, F) float16, row i belongs to sample_id i; its CRC-32 stands behind the rows

The key is a hash of everything that the features depend on: the content of each sample, the weights, the size at which
images are seen, and the view. So two runs share a file where they would compute the same, whatever their splits and
labels. A file is written beside its name, flushed and renamed, so a killed run leaves nothing that could be taken for
whole, and of two that compute the same both may write.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litscope.console import warn
from litscope.data.reading.cache import default_folder
from litscope.rundir import whole_file
from litscope.seals import DIFFERENT

FORMAT_VERSION = 2
"""Changes with the file, and with the way in which features are computed, which changes their last bit."""

_SUM_BYTES = 4

Features = NDArray[np.float16]


class FeatureFile:
    """The features of one view of a data set.

    Args:
        cache_dir: default $LITSCOPE_CACHE, else ~/.cache/litscope.
        contents: a digest of each sample, None for one that cannot be read; row i of sample_id i.
        facts: all else that the features depend on, as JSON values.
    """

    def __init__(self, cache_dir: Path | None, contents: Sequence[bytes | None], facts: Sequence[Any]) -> None:
        digest = hashlib.blake2b(json.dumps([FORMAT_VERSION, *facts]).encode(), digest_size=16)
        for content in contents:
            digest.update(content or bytes(16))
        self._num_samples = len(contents)
        self.path = (cache_dir or default_folder()) / "features" / f"{digest.hexdigest()}.npy"

    def load(self) -> Features | None:
        """A memory map (N, F), copy-on-write; None where there is no file, or it is damaged, which is said."""
        try:
            return self._read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            warn(f"the features in {self.path} are damaged and are computed again ({error}).")
            return None

    def _read(self) -> Features:
        rows: Features = np.load(self.path, mmap_mode="c")
        if rows.ndim != 2 or len(rows) != self._num_samples or rows.dtype != np.float16:
            raise ValueError(f"it holds {rows.dtype} {rows.shape}")
        with self.path.open("rb") as file:
            file.seek(-_SUM_BYTES, os.SEEK_END)
            if file.read() != _checksum(rows):
                raise ValueError(DIFFERENT)
        return rows

    def keep(self, rows: Features) -> None:
        """Write the file. Where there is no room, or nothing may be written, that is said and nothing is kept."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path) as file:
                np.save(file, rows)
                file.write(_checksum(rows))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            warn(f"the features are not kept for other runs: {error.strerror}: {self.path.parent}")


def _checksum(rows: Features) -> bytes:
    return zlib.crc32(np.ascontiguousarray(rows).data.cast("B")).to_bytes(_SUM_BYTES, "big")
