"""Findings: what a look at every file of a data set found, kept beside its pixel cache. No torch.

The cache's key changes with the path, size or modification time of any file. So findings are valid for as long as the
pixels are, and 60,000 files need not be read again before the first step.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from litscope.data.reading.digests import DIGEST_BYTES
from litscope.rundir import whole_file
from litscope.seals import check, sealed_archive

FILE = "findings-3.npz"
"""The file's name in the cache's folder; the number changes when other things are looked for."""


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        reasons: sample_id -> why the file cannot be read.
        digests: sample_id -> digest, 16 bytes, of every file that can be read.
        traits: trait of `images.TRAITS` -> how many files have it.
    """

    reasons: dict[int, str]
    digests: dict[int, bytes]
    traits: dict[str, int] = field(default_factory=dict)

    def save(self, file: Path) -> None:
        """Write the findings, whole or not at all.

        Raises:
            OSError: if the disk is full, or the folder may not be written.
        """
        ids = np.fromiter(self.digests, np.int64, len(self.digests))
        digests = np.frombuffer(b"".join(self.digests.values()), np.uint8).reshape(len(ids), DIGEST_BYTES)
        with whole_file(file) as opened, sealed_archive(opened) as out:
            reasons, traits = np.array(json.dumps(self.reasons)), np.array(json.dumps(self.traits))
            content = io.BytesIO()  # NumPy goes back and forth in what it writes
            np.savez(content, ids=ids, digests=digests, reasons=reasons, traits=traits)
            out.write(content.getbuffer())

    @classmethod
    def load(cls, file: Path) -> Findings | None:
        """Read findings; None if there are none, or they are damaged."""
        try:
            check(file)
            with np.load(file) as kept:
                reasons = json.loads(str(kept["reasons"]))
                digests = [row.tobytes() for row in kept["digests"]]
                return cls(
                    {int(id_): reason for id_, reason in reasons.items()},
                    dict(zip(kept["ids"].tolist(), digests, strict=True)),
                    json.loads(str(kept["traits"])),
                )
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None


def kept(file: Path | None, look: Callable[[], Findings]) -> Findings:
    """The findings in a file; if there are none, what `look` finds, which is kept there for the next time."""
    found = None if file is None else Findings.load(file)
    if found is None:
        found = look()
        if file is not None:
            with suppress(OSError):  # a cache that others own, a full disk: the next run looks again
                found.save(file)
    return found
