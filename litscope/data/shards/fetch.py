"""Fetch: parts of shards that lie elsewhere, asked for again where there is no answer, and kept on this machine's disk.
No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from litscope.addresses import shown
from litscope.data.shards.index import Shard
from litscope.data.storage.cache import BlockCache
from litscope.data.storage.retries import Retries
from litscope.data.storage.store import Store

_SHORT_ANSWERS = 2  # that are not believed


@dataclass
class Fetch:
    """How shards elsewhere are read. It may be shared by threads, and pickled.

    Attributes:
        store: of their bytes.
        retries: where there is no answer.
        cache: of what was read; None keeps nothing.
    """

    store: Store = field(default_factory=Store)
    retries: Retries = field(default_factory=Retries)
    cache: BlockCache | None = None

    def read(
        self,
        address: str,
        shard: Shard,
        offset: int,
        size: int,
        *,
        anew: bool = False,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> bytes:
        """A part of a shard; fewer bytes where it ends before.

        Args:
            anew: from the server, whatever is kept.
            is_cancelled: whether nobody waits for it any more.

        Raises:
            DataError: if it cannot be read.
            StorageError: if the server gives no answer for as long as patience lasts.
        """

        def load(start: int, count: int) -> bytes:
            wanted = max(0, min(count, shard.num_bytes - start)) if shard.num_bytes else count
            content = b""
            for _ in range(1 + _SHORT_ANSWERS):
                content = self.retries.ask(lambda: self.store.read(address, start, wanted), is_cancelled)
                if len(content) >= wanted:
                    break
            return content

        if self.cache is None:
            return load(offset, size)
        identity = f"{shown(address)} {shard.num_bytes} {shard.digest}"
        return self.cache.read(identity, offset, size, load, anew=anew)
