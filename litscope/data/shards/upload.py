"""Shards of this machine -> a bucket: what is missing there, and the index last. No torch.

What arrives is compared with what was sent: its size, and its sum. Where the storage tells no MD5 of an object, as of
one that came in parts, it is read back. So an index that is there lists shards that are.
"""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.console import number_of, track
from litscope.data.reading.digests import file_digest, new_digest
from litscope.data.shards.index import FILE, Index
from litscope.data.storage.retries import looking
from litscope.data.storage.store import Store, Unanswered
from litscope.data.storage.urls import join
from litscope.errors import ConfigError, DataError

_PIECE = 1 << 23
_AT_ONCE = 8


@dataclass(frozen=True)
class Uploaded:
    """What lies in the bucket now.

    Attributes:
        url: of the folder there.
        num_shards, num_bytes: of all.
        num_sent, bytes_sent: of what this upload sent.
    """

    url: str
    num_shards: int
    num_bytes: int
    num_sent: int
    bytes_sent: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return dict(vars(self))

    def lines(self) -> list[str]:
        """For a terminal."""
        sent = f"{number_of(self.num_sent, 'shard')}, {self.bytes_sent / 1e6:,.1f} MB" if self.num_sent else "nothing"
        return [f"{self.url}: {number_of(self.num_shards, 'shard')} and their index; sent now: {sent}"]


def upload(folder: Path, url: str, *, overwrite: bool = False, progress: bool = True) -> Uploaded:
    """Bring shards and their index to a bucket.

    Args:
        folder: of shards, as `write_shards` leaves it.
        url: of a folder there; it is made.
        overwrite: replace shards of something else.
        progress: draw a bar on a terminal.

    Raises:
        ConfigError: if other shards are there.
        DataError: if a shard is not here, or did not arrive.
    """
    index, store = Index.read(folder / FILE), Store()
    there = {address.rpartition("/")[2]: size for address, size in looking.ask(lambda: _listed(store, url)).items()}
    is_known = _is_same_index(store, folder, url, there)
    if FILE in there and not is_known and not overwrite:
        raise ConfigError(
            f"{url} holds another index of shards. Give another --cloud-url, or --overwrite to replace it."
        )

    def send(number: int) -> int:
        shard = index.shards[number]
        file, address = folder / shard.name, join(url, shard.name)
        if not file.is_file() or file.stat().st_size != shard.num_bytes:
            raise DataError(f"{file} is not what was written; `litscope verify {folder}` looks at all of them.")
        if there.get(shard.name) == shard.num_bytes and (is_known or _is_same(store, file, address)):
            return 0
        looking.ask(lambda: store.put(file, address))
        _require_arrived(store, file, address)
        return shard.num_bytes

    with ThreadPoolExecutor(_AT_ONCE, "litscope-upload") as pool:
        sizes = pool.map(send, range(len(index.shards)))
        sent = list(track(sizes, "uploading shards", len(index.shards), progress))
    if not is_known:
        looking.ask(lambda: store.put(folder / FILE, join(url, FILE)))
        _require_arrived(store, folder / FILE, join(url, FILE))
    num_bytes = sum(shard.num_bytes for shard in index.shards)
    return Uploaded(url, len(index.shards), num_bytes, sum(size > 0 for size in sent), sum(sent))


def _listed(store: Store, url: str) -> dict[str, int]:
    """Files of a folder; none where it is not there yet. A bucket that is not there is told by the first upload."""
    try:
        return store.list(url.rstrip("/") + "/")
    except Unanswered:
        raise
    except DataError:
        return {}


def _is_same_index(store: Store, folder: Path, url: str, there: dict[str, int]) -> bool:
    size = (folder / FILE).stat().st_size
    return there.get(FILE) == size and _is_same(store, folder / FILE, join(url, FILE))


def _require_arrived(store: Store, file: Path, address: str) -> None:
    if not _is_same(store, file, address):
        raise DataError(f"{address} is not what was sent, {file}. Upload it again.")


def _is_same(store: Store, file: Path, address: str) -> bool:
    """Whether an object has the bytes of a file."""
    if looking.ask(lambda: store.size(address)) != file.stat().st_size:
        return False
    tags = looking.ask(lambda: store.version(address)).split(" ")
    with file.open("rb") as content:
        md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
    if md5.hexdigest() in [tag.strip('"') for tag in tags] or base64.b64encode(md5.digest()).decode() in tags:
        return True
    digest, size, at = new_digest(), file.stat().st_size, 0
    while at < size:
        piece = looking.ask(lambda: store.read(address, at, _PIECE))  # noqa: B023 - called at once
        if not piece:
            return False
        digest.update(piece)
        at += len(piece)
    return digest.digest() == file_digest(file)
