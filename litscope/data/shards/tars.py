"""Members of a tar file, written with the same bytes every time: no time, no owner, plain POSIX headers (ustar)."""

from __future__ import annotations

import tarfile

END = bytes(2 * tarfile.BLOCKSIZE)
"""What the last member of an archive is followed by."""


def member(name: str, content: bytes) -> tuple[bytes, int]:
    """A file's part of an archive: header, content, and zeros up to the next block.

    Args:
        name: ASCII, at most 100 bytes.

    Returns:
        The part, and where in it the content begins.
    """
    info = tarfile.TarInfo(name)
    info.size = len(content)
    header = info.tobuf(tarfile.USTAR_FORMAT)
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE), len(header)
