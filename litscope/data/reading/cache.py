"""PixelCache: every image of a data set decoded and resized once, in one memory-mapped file.

No torch, but where a cache is built.

    <cache folder>/<key>/pixels.npy    (N, S, S, K), the reader's dtype; row i belongs to sample_id i
    <cache folder>/<key>/facts.json    which images could not be read, and why; checksums of all
    <cache folder>/<key>/findings-3.npz  what a look at the files found (`findings.py`)
    <cache folder>/<key>.lock          held while a process builds

The key is a hash of everything that the pixels depend on: what the reader says about its content
(`fingerprint()`: for files their keys, sizes and modification times to the nanosecond), the ids,
the stored side, the channels, the type, and the versions of the decoding and resizing rules. So
a changed file, another size or a newer rule makes another cache; splits and labels do not.

A build writes into a hidden folder beside the target, which is flushed to the disk and then
renamed: a killed build leaves nothing that could be taken for whole, and the next build of the
same key removes what it left. Two runs that want the same cache: one builds, the other says that
it waits. Where the file system has no locks both build, and the first rename wins.

A cache that is opened is read once from end to end, by threads, and compared with the checksums of its
build, so that a flipped bit is found; it is then built again. (The first epoch wants it in memory anyway.)
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litscope.console import say, track, warn
from litscope.data.reading.images import DECODE_VERSION
from litscope.data.reading.readers import Reader
from litscope.errors import DataError
from litscope.limits import memory_bytes, num_cores
from litscope.rundir import sync_folder, write_json
from litscope.seals import DIFFERENT, DamagedError
from litscope.types import Interpolation

FORMAT_VERSION = 1
_CHUNK = 32  # images per task of the thread pool
_PART = 8 * 2**20  # bytes under one checksum


@dataclass
class PixelCache:
    """A whole cache, open.

    Attributes:
        folder: where it lies.
        pixels: (N, S, S, K) memory map, copy-on-write: writing to it never reaches the file. Rows
            of images that could not be read are zero.
        broken: sample_id -> reason, of the images that could not be read.
    """

    folder: Path
    pixels: NDArray[Any] = field(repr=False)
    broken: dict[int, str]

    @classmethod
    def load(cls, folder: Path, num_threads: int = 0) -> PixelCache | None:
        """Open the cache in `folder`; None where there is none.

        Args:
            num_threads: that read all of it, and compare it with its checksums; 0 looks at no pixel.

        Raises:
            DamagedError: if it is not what was built; one of an earlier version has no checksums to tell.
        """
        try:
            facts = json.loads((folder / "facts.json").read_text())
            _check(facts, folder / "pixels.npy", num_threads)
            broken = {int(id_): reason for id_, reason in facts["broken"].items()}
            return cls(folder, np.load(folder / "pixels.npy", mmap_mode="c"), broken)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(str(error)) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by name (for spawned processes): a plain memory map would pickle all its bytes."""
        return _reload, (self.folder,)


def _check(facts: dict[str, Any], pixels: Path, num_threads: int) -> None:
    """Raises DamagedError, if a checksum of the build says so; `num_threads` as `PixelCache.load`."""
    if facts.pop("checksum", None) not in (None, _checksum_of(facts)):
        raise DamagedError(f"facts.json: {DIFFERENT}")
    if num_threads and "parts" in facts and facts["parts"] != _checksums(pixels, num_threads):
        raise DamagedError(f"{pixels.name}: {DIFFERENT}")


def _checksum_of(facts: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def _checksums(path: Path, num_threads: int) -> list[int]:
    """The checksums of a file's parts, of `_PART` bytes each."""

    def read(start: int) -> int:
        return zlib.crc32(os.pread(descriptor, _PART, start))

    descriptor = os.open(path, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(num_threads) as pool:
            return list(pool.map(read, range(0, os.fstat(descriptor).st_size, _PART)))
    finally:
        os.close(descriptor)


def _reload(folder: Path) -> PixelCache:
    try:
        cache = PixelCache.load(folder)
    except DamagedError as error:
        raise DataError(f"The image cache {folder} is damaged: {error}. Remove it.") from error
    if cache is None:
        raise DataError(f"The image cache {folder} is gone.")
    return cache


def open_cache(
    reader: Reader,
    sample_ids: NDArray[np.int64],
    size: int,
    *,
    cache_dir: Path | None = None,
    num_threads: int | None = None,
    progress: bool = True,
    interpolation: Interpolation = "bilinear",
) -> PixelCache:
    """Open the cache of these images at this side, building it first where it is missing.

    Args:
        reader: of images; read from `num_threads` threads at once.
        sample_ids: (n,) ids to decode; rows of other ids up to the largest stay zero.
        size: S, side of the stored square in pixels.
        cache_dir: default $LITSCOPE_CACHE, else ~/.cache/litscope.
        num_threads: default: one per core.
        progress: show a bar on a terminal.
        interpolation: how images come to that side.

    Raises:
        DataError: if the disk has no room for it.
    """
    folder = cache_dir or default_folder()
    key = cache_key(reader, sample_ids, size, interpolation)
    num_threads = num_threads or num_cores()
    with suppress(DamagedError):  # said below, if it still is
        found = PixelCache.load(folder / key, num_threads)
        if found is not None:
            return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"The cache folder {folder} cannot be made ({error.strerror}). Give another --cache-dir, or --no-cache."
        ) from error
    with _lock(folder / f"{key}.lock"):
        try:
            found = PixelCache.load(folder / key, num_threads)  # another run may have built it meanwhile
        except DamagedError as error:
            found = None
            warn(f"the image cache {folder / key} is damaged and is built again ({error}).")
        if found is None:
            _sweep(folder, key)
            _check_room(folder, num_bytes(reader, sample_ids, size))
            _build(reader, sample_ids, size, folder / key, num_threads, progress, interpolation)
            found = _reload(folder / key)
    return found


def default_folder() -> Path:
    """$LITSCOPE_CACHE, else ~/.cache/litscope."""
    given = os.environ.get("LITSCOPE_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "litscope"


def cache_key(
    reader: Reader, sample_ids: NDArray[np.int64], size: int, interpolation: Interpolation = "bilinear"
) -> str:
    """32 hexadecimal digits that change with anything that the pixels depend on."""
    facts = [FORMAT_VERSION, DECODE_VERSION, size, reader.channels, str(reader.dtype), reader.fingerprint()]
    facts += [interpolation] if interpolation != "bilinear" else []  # caches of before keep their names
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(sample_ids, dtype=np.int64).tobytes())
    return digest.hexdigest()


def num_bytes(reader: Reader, sample_ids: NDArray[np.int64], size: int) -> int:
    """Bytes of the cache's pixels."""
    return _num_rows(sample_ids) * size * size * reader.channels * np.dtype(reader.dtype).itemsize


def pays(
    reader: Reader,
    sample_ids: NDArray[np.int64],
    size: int,
    cache_dir: Path | None = None,
    interpolation: Interpolation = "bilinear",
) -> tuple[bool, str]:
    """Whether a cache is worth building unasked, and a sentence that says why not.

    It is when it takes at most half of the memory (more is read from the disk in every epoch)
    and leaves room on the disk; or when it is already there.
    """
    folder = cache_dir or default_folder()
    needed, memory, room = num_bytes(reader, sample_ids, size), memory_bytes(), room_bytes(folder)
    if needed <= memory // 2 and needed <= room:
        return True, ""
    if is_built(reader, sample_ids, size, cache_dir, interpolation):
        return True, ""
    if needed > memory // 2:
        return False, f"decoded ({_gb(needed)}) they would take more than half of the memory ({_gb(memory)})"
    return False, f"{folder} has {_gb(room)} that may be written, for {_gb(needed)}"


def is_built(
    reader: Reader,
    sample_ids: NDArray[np.int64],
    size: int,
    cache_dir: Path | None = None,
    interpolation: Interpolation = "bilinear",
) -> bool:
    """Whether the cache is there."""
    folder = cache_dir or default_folder()
    return (folder / cache_key(reader, sample_ids, size, interpolation) / "facts.json").is_file()


def room_bytes(folder: Path) -> int:
    """Bytes that may be written under `folder` (which need not exist), less a reserve of 5 % and 64 MB."""
    while not folder.exists():
        folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return 0
    return max(0, int(shutil.disk_usage(folder).free * 0.95) - 64 * 2**20)


def disk_bytes(folder: Path) -> int:
    """Bytes of the disk on which `folder` is, or would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).total


def _num_rows(sample_ids: NDArray[np.int64]) -> int:
    return int(sample_ids.max()) + 1 if len(sample_ids) else 0


def _gb(number: int) -> str:
    return f"{number / 1e9:.1f} GB"


def _check_room(folder: Path, needed: int) -> None:
    room = room_bytes(folder)
    if needed > room:
        raise DataError(
            f"The image cache needs {_gb(needed)} and {folder} has {_gb(room)} left. Give another --cache-dir, "
            "a smaller --image-size, or --no-cache (decode in every epoch)."
        )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the file's lock, waiting for another process that holds it. It ends with the process."""
    with path.open("w") as file:
        said = False
        while not _try_lock(file.fileno()):
            if not said:
                say("waiting for another run that builds the same image cache")
                said = True
            time.sleep(0.2)
        yield


def _try_lock(descriptor: int) -> bool:
    """False while another process holds the lock. File systems without locks count as locked by us."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


def _sweep(folder: Path, key: str) -> None:
    """Remove what killed builds of this key left, and a damaged cache. Called with the lock held."""
    for left in (*folder.glob(f".{key}.*.tmp"), folder / key):
        if left.exists():
            shutil.rmtree(left)


def _build(
    reader: Reader,
    sample_ids: NDArray[np.int64],
    size: int,
    target: Path,
    num_threads: int,
    progress: bool,
    interpolation: Interpolation = "bilinear",
) -> None:
    aside = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    aside.mkdir()
    try:
        broken = _decode_all(reader, sample_ids, size, aside / "pixels.npy", num_threads, progress, interpolation)
        parts = _checksums(aside / "pixels.npy", num_threads)
        facts = {"format_version": FORMAT_VERSION, "decode_version": DECODE_VERSION, "parts": parts}
        facts["broken"] = {str(id_): reason for id_, reason in broken.items()}
        write_json(aside / "facts.json", facts | {"checksum": _checksum_of(facts)})
        _rename(aside, target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DataError(
            f"The disk was full before the image cache {target} was whole ({error.strerror}). "
            "Give another --cache-dir, or --no-cache (decode in every epoch)."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rename(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise  # else another run without locks was first, with the same content
    sync_folder(target.parent)


def _decode_all(
    reader: Reader,
    sample_ids: NDArray[np.int64],
    size: int,
    path: Path,
    num_threads: int,
    progress: bool,
    interpolation: Interpolation,
) -> dict[int, str]:
    """Write all rows with positioned writes (a full disk is then an error, not a SIGBUS); return the broken."""
    from litscope.data.reading.decoding import open_pool, resize  # needs torch; whoever builds a cache has it

    shape = (_num_rows(sample_ids), size, size, reader.channels)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=reader.dtype, shape=shape)
    first, stride = rows.offset, rows[0].nbytes if len(rows) else 0
    del rows
    descriptor = os.open(path, os.O_WRONLY)
    pool = open_pool(num_threads)

    def decode(ids: NDArray[np.int64], near: Reader) -> dict[int, str]:
        broken = {}
        for id_ in ids.tolist():
            try:
                pixels = resize(near.read(id_, min_side=size), size, interpolation)
            except DataError as error:
                broken[id_] = str(error)
                continue
            row = np.ascontiguousarray(pixels, dtype=reader.dtype)
            assert row.nbytes == stride, f"sample {id_}: {row.shape} does not fill a row of {shape}"
            if os.pwrite(descriptor, row.data, first + id_ * stride) != stride:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return broken

    try:
        chunks = [sample_ids[start : start + _CHUNK] for start in range(0, len(sample_ids), _CHUNK)]
        with reader.foreseeing(sample_ids) as near:
            parts = pool.map(partial(decode, near=near), chunks)
            found = track(parts, "decoding images once", total=len(chunks), show=progress)
            broken = {id_: reason for part in found for id_, reason in part.items()}
        os.fsync(descriptor)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        os.close(descriptor)
    return broken
