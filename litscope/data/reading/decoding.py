"""Image files -> uint8 batches, decoded by threads straight into memory that is allocated beforehand.

They are threads, not processes: simplejpeg, Pillow's decoders and torch's resizing release Python's
lock while they work, so threads run side by side, start at once, copy nothing between processes and
need no shared memory. A batch's memory is allocated (page-locked if asked) when its decoding
begins; each thread writes its images into their rows, and nothing is stacked or copied after that.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from litscope.data.reading.images import centre_square, resize_crop
from litscope.data.reading.readers import Reader
from litscope.data.sampler import Ids
from litscope.errors import DataError
from litscope.types import Batch, Interpolation

RESIZE_BOUND = 1
"""Largest difference of one uint8 value between `resize` here and `images.resize_crop`; a test checks it."""

AHEAD = 2
"""Number of batches that are decoded in advance; more if that many cannot keep all threads busy."""

_CHUNK = 8  # images that a thread takes at a time

Decoded = tuple[Batch, dict[int, str]]
"""A batch's images (B, K, S, S) in channels-last memory and their sample_id; and why others are missing."""


def resize(array: NDArray[Any], size: int, interpolation: Interpolation = "bilinear") -> NDArray[Any]:
    """Do as `images.resize_crop`, four times as fast for uint8 images of 1 or 3 channels (equal within one level).

    Args:
        array: (H, W, K).
        size: side of the result, in pixels.
    Returns:
        (size, size, K) of the same dtype; the array itself if it already fits.
    """
    height, width, channels = array.shape
    if (height, width) == (size, size) or array.dtype != np.uint8 or channels not in (1, 3):
        return resize_crop(array, size, interpolation)
    square = centre_square(array)
    pixels = torch.from_numpy(square if square.flags.writeable else square.copy())
    # Batched before it is permuted: only then does the batch of one have the strides by which torch recognises
    # channels-last memory; it then returns the same, at less than half the cost.
    image = pixels.unsqueeze(0).permute(0, 3, 1, 2)
    out = F.interpolate(image, size=(size, size), mode=interpolation, antialias=True)
    return out[0].permute(1, 2, 0).numpy()


def open_pool(num_threads: int) -> ThreadPoolExecutor:
    """Threads that decode, one core each: by default, torch would give every one of them helper threads.

    The number of torch's threads belongs to the calling thread (OpenMP), and new threads get the number
    that was set last. So each thread sets 1 for itself, and then the caller sets its own number again.
    """
    callers = torch.get_num_threads()
    started = threading.Barrier(num_threads + 1)
    pool = ThreadPoolExecutor(num_threads, "litscope-decode", _work_alone, (started,))
    for _ in range(num_threads):
        pool.submit(int)  # the pool starts a thread for each task that finds none idle
    started.wait()
    torch.set_num_threads(callers)
    return pool


def _work_alone(started: threading.Barrier) -> None:
    torch.get_num_threads()  # torch gives a thread its number when it first asks; later that would undo the next line
    torch.set_num_threads(1)
    started.wait()


class BatchDecoder:
    """Decodes batches of ids in order, before they are asked for.

    Args:
        reader: of images; read from many threads at once.
        size: S, side of the square.
        num_threads: 0 decodes in the calling thread, when a batch is asked for.
        pin_memory: page-locked batches.
        interpolation: how images come to that size.
    """

    def __init__(
        self,
        reader: Reader,
        size: int,
        num_threads: int = 0,
        pin_memory: bool = False,
        interpolation: Interpolation = "bilinear",
    ) -> None:
        self._reader = reader
        self._size = size
        self._num_threads = num_threads
        self._pin_memory = pin_memory
        self._interpolation = interpolation
        self._pool: ThreadPoolExecutor | None = None

    def batches(self, batches: list[Ids]) -> Iterator[Decoded]:
        """Each batch in turn. When the iterator is closed, what was decoded ahead is thrown away."""
        with self._reader.foreseeing(np.concatenate([*batches, np.empty(0, np.int64)])) as reader:
            if self._num_threads:
                yield from self._in_threads(batches, reader)
                return
            for ids in batches:
                work = _Work(ids, self._empty(len(ids)), self._interpolation)
                work.decode(reader, self._size, 0, len(ids))
                yield work.result(self._pin_memory)

    def _in_threads(self, batches: list[Ids], reader: Reader) -> Iterator[Decoded]:
        if self._pool is None:
            self._pool = open_pool(self._num_threads)
        under_way: deque[tuple[_Work, list[Future[None]]]] = deque()
        try:
            for ids in batches:
                under_way.append(self._start(ids, self._pool, reader))
                if len(under_way) > self._num_ahead(len(ids)):
                    yield self._finish(*under_way.popleft())
            while under_way:
                yield self._finish(*under_way.popleft())
        finally:
            for _, parts in under_way:
                for part in parts:
                    part.cancel()

    def close(self) -> None:
        """End the threads; the next pass starts others."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _start(self, ids: Ids, pool: ThreadPoolExecutor, reader: Reader) -> tuple[_Work, list[Future[None]]]:
        work = _Work(ids, self._empty(len(ids)), self._interpolation)
        chunk = max(1, min(_CHUNK, -(-len(ids) // self._num_threads)))
        starts = range(0, len(ids), chunk)
        return work, [pool.submit(work.decode, reader, self._size, at, at + chunk) for at in starts]

    def _finish(self, work: _Work, parts: list[Future[None]]) -> Decoded:
        for part in parts:
            part.result()
        return work.result(self._pin_memory)

    def _num_ahead(self, batch_size: int) -> int:
        return max(AHEAD, -(-2 * self._num_threads * _CHUNK // batch_size))

    def _empty(self, count: int) -> Tensor:
        shape = (count, self._size, self._size, self._reader.channels)
        return torch.empty(shape, dtype=getattr(torch, self._reader.dtype.name), pin_memory=self._pin_memory)


class _Work:
    """A batch that is being decoded: several threads each fill a part of `rows` (B, S, S, K)."""

    def __init__(self, ids: Ids, rows: Tensor, interpolation: Interpolation) -> None:
        self._ids = ids
        self._rows = rows
        self._interpolation = interpolation
        self._broken: dict[int, str] = {}
        self._lock = threading.Lock()

    def decode(self, reader: Reader, size: int, first: int, end: int) -> None:
        rows = self._rows.numpy()
        for at, id_ in enumerate(self._ids[first:end].tolist(), first):
            try:
                rows[at] = resize(reader.read(id_, min_side=size), size, self._interpolation)
            except DataError as error:
                with self._lock:
                    self._broken[id_] = str(error)

    def result(self, pin_memory: bool) -> Decoded:
        rows, ids = self._rows, torch.tensor(self._ids, dtype=torch.int64)
        broken = {id_: self._broken[id_] for id_ in self._ids.tolist() if id_ in self._broken}
        if broken:
            kept = torch.from_numpy(~np.isin(self._ids, list(broken)))
            rows, ids = rows[kept], ids[kept]
        if pin_memory:
            rows, ids = rows.pin_memory(), ids.pin_memory()
        return {"image": rows.permute(0, 3, 1, 2), "sample_id": ids}, broken
