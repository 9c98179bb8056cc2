"""Seals: checksums inside a file, over its own bytes, so that a flipped bit is found where the file is read. No torch.

    a checkpoint, .npz    as the comment of the zip archive, at the end, which readers of archives pass over
    Parquet               between the last column and the footer, where no reader looks

The seal is a part of the file, so one rename brings both: a process that is killed cannot part them. It has two
CRC-32: of what is before it, the data; and of itself and what follows it, which a reader of footers can check alone.
Every reader of the format reads a sealed file as any other. A file without a seal was written by an earlier version, or
by somebody else: it is taken as it is.

A CRC-32 misses no flipped bit and no burst, and one in four billion of other damages. A cryptographic digest would take
longer than torch.save itself.
"""

from __future__ import annotations

import functools
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

_MARK = b"litscope-crc32-"
_SUM_BYTES = 8
_SEAL_BYTES = len(_MARK) + 2 * _SUM_BYTES
_ZIP_END, _ZIP_MARK = 22, b"PK\x05\x06"
"""Bytes of a zip's last record, which ends in the length of the comment that follows it; and how it begins."""

_PARQUET = b"PAR1"
_CHUNK = 2**20

DIFFERENT = "its bytes are not those that were written"


class DamagedError(ValueError):
    """A file is not what was written; the message says why, and is the end of a sentence."""


def why_damaged(path: str | os.PathLike[str], *, may_remember: bool = False, footer_only: bool = False) -> str | None:
    """Why a file is not what was written, as the end of a sentence. None where it is, and where nothing can tell.

    Args:
        path: a regular file.
        may_remember: take the answer of before for a file of the same inode, size and time: for looks at a file whose
            contents are checked when they are used.
        footer_only: look at what follows the data, and at nothing else.

    Raises:
        OSError: if it cannot be read.
    """
    if not may_remember:
        return _why_damaged(os.fspath(path), footer_only)
    now = Path(path).stat()
    return _remembered(os.fspath(path), now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _remembered(path: str, *_: int) -> str | None:
    return _why_damaged(path)


def check(path: str | os.PathLike[str], *, may_remember: bool = False, footer_only: bool = False) -> None:
    """As `why_damaged`, but raises.

    Raises:
        DamagedError: saying why.
    """
    if (why := why_damaged(path, may_remember=may_remember, footer_only=footer_only)) is not None:
        raise DamagedError(why)


def seal_of(path: str | os.PathLike[str]) -> str | None:
    """The checksums that a file was sealed with, which are others for other contents; None for one without a seal.

    Only the end of the file is read.

    Raises:
        OSError: if it cannot be read.
    """
    with FileIO(os.fspath(path)) as file:
        file.seek(_place(file, file.seek(0, os.SEEK_END)))
        seal = file.read(_SEAL_BYTES)
    return seal[len(_MARK) :].decode("ascii", "replace") if seal.startswith(_MARK) else None


def _why_damaged(path: str, footer_only: bool = False) -> str | None:
    with FileIO(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return "it is empty"
        at = _place(file, size)
        file.seek(at)
        seal = file.read(_SEAL_BYTES)
        if not seal.startswith(_MARK):
            return _why_cut(file, size)
        data = seal[len(_MARK) : -_SUM_BYTES] if footer_only else _text(_sum(file, 0, at))
        footer = _text(_sum(file, at + _SEAL_BYTES, size, zlib.crc32(data)))
    return None if seal == _MARK + data + footer else DIFFERENT


def _place(file: FileIO, size: int) -> int:
    """Where the seal of a file begins, if it has one."""
    file.seek(max(0, size - 8))
    end = file.read(8)
    footer = 8 + int.from_bytes(end[:4], "little") if end[4:] == _PARQUET else 0
    return max(0, size - footer - _SEAL_BYTES)


def _why_cut(file: FileIO, size: int) -> str | None:
    """Why a zip archive without a seal has lost its end; None for a whole one, and for what is none."""
    file.seek(0)
    if file.read(2) != b"PK":
        return None
    file.seek(max(0, size - _ZIP_END - _SEAL_BYTES))
    tail = file.read()
    at = tail.rfind(_ZIP_MARK)
    if at < 0:  # it may have a long comment, if somebody else wrote it
        is_whole = zipfile.is_zipfile(file)
    else:
        is_whole = len(tail) - at - _ZIP_END == int.from_bytes(tail[at + _ZIP_END - 2 : at + _ZIP_END], "little")
    return None if is_whole else "it was cut off: it begins as torch.save's files do, and has no end"


def _sum(file: FileIO, start: int, end: int, running: int = 0) -> int:
    """The running checksum, with the bytes of a file from `start` to `end` added."""
    file.seek(start)
    chunk = memoryview(bytearray(min(_CHUNK, max(1, end - start))))
    while start < end and (count := file.readinto(chunk[: end - start])):
        running = zlib.crc32(chunk[:count], running)
        start += count
    return running


def _text(checksum: int) -> bytes:
    return b"%08x" % checksum


def _seal(data: int, footer: bytes | memoryview = b"") -> bytes:
    """The seal between data, of which this is the checksum, and a footer."""
    return _MARK + _text(data) + _text(zlib.crc32(footer, zlib.crc32(_text(data))))


# ---- writing -------------------------------------------------------------------------------------


class _Archive:
    """What a zip archive is written into: passes all on but the zip's last record, which must tell of the comment."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = 0
        self._end = b""

    def write(self, data: Any) -> int:
        """Take the next bytes."""
        new = memoryview(data).cast("B")
        if len(new) < _ZIP_END:
            joined = self._end + bytes(new)
            self._pass_on(joined[:-_ZIP_END])
            self._end = joined[-_ZIP_END:]
        else:
            self._pass_on(self._end)
            self._pass_on(new[:-_ZIP_END])
            self._end = bytes(new[-_ZIP_END:])
        return len(new)

    def flush(self) -> None:
        """Nothing: the file is flushed when it is whole."""

    def close(self) -> None:
        """Write the last record, and the seal as its comment."""
        assert self._end.startswith(_ZIP_MARK), "that is no zip archive"
        assert self._end.endswith(b"\0\0"), "the archive has a comment already"
        self._pass_on(self._end[:-2] + _SEAL_BYTES.to_bytes(2, "little"))
        self._file.write(_seal(self._sum))

    def _pass_on(self, data: bytes | memoryview) -> None:
        self._sum = zlib.crc32(data, self._sum)
        self._file.write(data)


@contextmanager
def sealed_archive(file: BinaryIO) -> Iterator[IO[bytes]]:
    """What torch.save is to write into, so that the zip archive that reaches `file` is sealed when the block ends.

    What is written in one go, such as NumPy's .npz out of memory, is sealed as well.
    """
    archive = _Archive(file)
    yield cast(IO[bytes], archive)
    archive.close()


def sealed_parquet(content: bytes | memoryview) -> list[bytes | memoryview]:
    """The pieces of a sealed Parquet file, in order.

    Args:
        content: a whole Parquet file. Its footer knows the columns by their places, which stay.
    """
    view = memoryview(content).cast("B")
    assert view[-4:] == _PARQUET, "that is no Parquet file"
    footer = len(view) - 8 - int.from_bytes(view[-8:-4], "little")
    return [view[:footer], _seal(zlib.crc32(view[:footer]), view[footer:]), view[footer:]]
