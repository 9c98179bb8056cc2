"""Files of torch.save, looked at before they are read: one from a stranger may promise more than it holds."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from litscope import seals


def check_archive(path: str | os.PathLike[str], *, may_remember: bool = False) -> None:
    """Look at a file's size and seal, and at the table of a zip, which is what torch.save writes, uncompressed.

    Args:
        may_remember: see `seals.why_damaged`.

    Raises:
        OSError: if it is not there.
        DamagedError: with the reason, if it is empty, was cut off, or is not what was written.
        ValueError: with the reason, if it is no regular file, or inflates to more than it holds.
    """
    file = Path(path)
    size = file.stat().st_size
    if not file.is_file():
        raise ValueError("it is not a file")
    seals.check(file, may_remember=may_remember)
    if not zipfile.is_zipfile(file):
        with file.open("rb") as opened:
            start = opened.read(2)
        if start != b"\x80\x02":  # a pickle of the protocol in which torch.save wrote before 2020
            raise ValueError("torch.save did not write it")
        return
    with zipfile.ZipFile(file) as archive:
        promised = sum(member.file_size for member in archive.infolist())
    if promised > size:
        raise ValueError(f"it promises {promised:,} bytes and holds {size:,}")
