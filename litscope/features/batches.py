"""The features of batch after batch, on a CPU by several threads, each with a few images at a time.

Threads that share one operation wait for each other at its end, of which a network has hundreds; on a machine that
others use as well, they waited most of the time. A thread with images of its own waits for nobody, and a few images at
a time fit into caches, and into memory that is used again instead of being asked for anew. What comes out does not
depend on the number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from litscope.models.forward import Forward
from litscope.types import Batch

PIXELS = 4 * 224**2
"""Of the images that a thread takes at a time. By two to four of 224 pixels EfficientNet-Lite0 took 22 ms of a core for
an image, by one 37, by sixteen 32."""

Rows = tuple[NDArray[np.int64], NDArray[np.float16]]


def features_of_batches(network: Forward, batches: Iterable[Batch], device: torch.device) -> Iterator[Rows]:
    """Sample ids (B,) and features (B, F) of each batch.

    Args:
        network: in evaluation mode, on `device`.
        batches: on `device`, images as the network sees them.

    Raises:
        ModelError: as `Forward.features`.
    """
    with network.taking_features() as take:
        if device.type == "cpu":
            yield from _by_threads(lambda images: _rounded(take(images)), batches)
        else:
            for batch in batches:
                yield batch["sample_id"].cpu().numpy(), _rounded(take(batch["image"]))


def _by_threads(features: Callable[[Tensor], NDArray[np.float16]], batches: Iterable[Batch]) -> Iterator[Rows]:
    """As many threads as torch has, with one each."""
    num_threads = torch.get_num_threads()
    waiting: deque[tuple[Tensor, list[Future[NDArray[np.float16]]]]] = deque()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(num_threads, "litscope-features") as pool:
            for batch in batches:
                height, width = batch["image"].shape[-2:]
                parts = torch.split(batch["image"], max(1, PIXELS // (height * width)))
                waiting.append((batch["sample_id"], [pool.submit(features, part) for part in parts]))
                while sum(len(parts) for _, parts in waiting) > 2 * num_threads:
                    yield _joined(*waiting.popleft())
            while waiting:
                yield _joined(*waiting.popleft())
    finally:
        torch.set_num_threads(num_threads)


def _joined(ids: Tensor, parts: list[Future[NDArray[np.float16]]]) -> Rows:
    return ids.numpy(), np.concatenate([part.result() for part in parts])


def _rounded(features: Tensor) -> NDArray[np.float16]:
    return features.float().cpu().numpy().astype(np.float16)
