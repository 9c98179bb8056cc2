"""BlockCache: parts of remote files on this machine's disk, within a limit. No torch.

    <folder>/blocks/ab/abcd...-17    digest, then block 17 of a file: 4 MiB of it
    <folder>/locks/00 ... ff         held while a block is brought
    <folder>/sweep.lock              held while blocks are removed

All processes of a machine may use one folder at once: of those that want the same block one brings it. A block is
written aside and renamed, so that a killed process leaves nothing that could be taken for whole, and it is compared
with its digest whenever it is read: one that was damaged is brought again. When the limit is near, the blocks go that
were not read for longest, and with them what killed processes left. A disk that is full, or may not be written, makes
no error: what is wanted is then brought each time, and it is said once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from litscope.console import warn
from litscope.data.reading.digests import DIGEST_BYTES, bytes_digest

BLOCK_BYTES = 4 * 2**20

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_ROOM = 0.1  # share of the limit that a sweep leaves free, for what others write before the next
_EACH = 0.01  # share of the limit after which a process that writes sweeps
_LEFT_S = 600  # age of a file written aside, from which on nobody writes it any more

Load = Callable[[int, int], bytes]
"""(offset, size) -> bytes of a file; fewer where it ends before."""


class BlockCache:
    """The cache in a folder. It may be shared by threads and processes, and pickled.

    Args:
        folder: is made if it is not there.
        most_bytes: that it may take.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._unswept: int | None = None  # bytes written since the last sweep; None: there was none
        self._is_off = False

    def __reduce__(self) -> tuple[type[BlockCache], tuple[Path, int]]:
        return BlockCache, (self.folder, self.most_bytes)

    def read(self, file: str, offset: int, size: int, load: Load, *, anew: bool = False) -> bytes:
        """A part of a file.

        Args:
            file: whatever identifies its content.
            load: brings what is not there.
            anew: bring all of it, and put it in the place of what is there.
        """
        parts, end = [], offset + size
        for number in range(offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            start = number * BLOCK_BYTES
            block = self._block(file, number, load, anew)
            parts.append(block[max(0, offset - start) : end - start])
        return b"".join(parts)

    def _block(self, file: str, number: int, load: Load, anew: bool) -> bytes:
        name = f"{hashlib.blake2b(file.encode(), digest_size=16).hexdigest()}-{number}"
        path = self.folder / "blocks" / name[:2] / name
        if self._is_off:
            return load(number * BLOCK_BYTES, BLOCK_BYTES)
        if not anew and (found := _kept(path)) is not None:
            return found
        lock = self.folder / "locks" / hashlib.blake2b(name.encode(), digest_size=1).hexdigest()
        try:
            for folder in (path.parent, lock.parent):
                folder.mkdir(parents=True, exist_ok=True)
            opened = lock.open("w")
        except OSError as error:
            self._stop(error)
            return load(number * BLOCK_BYTES, BLOCK_BYTES)
        with opened, _held(opened.fileno()):
            if not anew and (found := _kept(path)) is not None:  # another process brought it
                return found
            content = load(number * BLOCK_BYTES, BLOCK_BYTES)
            self._keep(path, content)
        return content

    def _keep(self, path: Path, content: bytes) -> None:
        aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        try:
            if self._unswept is None or self._unswept >= self.most_bytes * _EACH:
                self._sweep()
            try:
                with aside.open("wb") as out:
                    out.write(bytes_digest(content))
                    out.write(content)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:
            self._stop(error)
        self._unswept = (self._unswept or 0) + len(content)

    def _stop(self, error: OSError) -> None:
        if not self._is_off:
            self._is_off = True
            warn(f"the cache of shards {self.folder} cannot be written ({error.strerror}); shards are read without it.")

    def _sweep(self) -> None:
        """Remove what was not read for longest, as far as the limit asks for it."""
        with (self.folder / "sweep.lock").open("w") as opened, _held(opened.fileno()):
            now, found, total = time.time(), list[tuple[float, int, str]](), 0
            for folder in os.scandir(self.folder / "blocks"):
                if not folder.is_dir():  # of a file manager, or of NFS
                    continue
                for entry in os.scandir(folder.path):
                    with suppress(FileNotFoundError):
                        stat = entry.stat()
                        if entry.name.endswith(".tmp") and now - stat.st_mtime > _LEFT_S:
                            Path(entry.path).unlink()
                            continue
                        total += stat.st_size
                        if not entry.name.endswith(".tmp"):
                            found.append((stat.st_mtime, stat.st_size, entry.path))
            for _, size, path in sorted(found):
                if total + BLOCK_BYTES <= self.most_bytes * (1 - _ROOM):
                    break
                Path(path).unlink(missing_ok=True)
                total -= size
        self._unswept = 0


def _kept(path: Path) -> bytes | None:
    """A block as it was written; None if it is not there, or is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    content = data[DIGEST_BYTES:]
    if len(data) < DIGEST_BYTES or bytes_digest(content) != data[:DIGEST_BYTES]:
        return None
    with suppress(OSError):  # removed meanwhile, or of another user
        os.utime(path)
    return content


@contextmanager
def _held(descriptor: int) -> Iterator[None]:
    """Hold a file's lock, which ends with the process; file systems without locks have none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    yield
