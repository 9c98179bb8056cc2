"""Whether a path is a file that can be read to its end: opening a FIFO, a socket or a device may wait for ever."""

from __future__ import annotations

import errno
import os
import stat

from litscope.errors import DataError

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def check_regular(path: str | os.PathLike[str]) -> os.stat_result:
    """Look at a path without opening it, at about two microseconds.

    Raises:
        DataError: with the reason (without the path), if it is no regular file or link to one.
        OSError: if it is not there, or may not be looked at.
    """
    found = os.stat(path)  # noqa: PTH116 half of the time that Path takes
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise DataError(f"not a regular file, but {kind}")
    return found
