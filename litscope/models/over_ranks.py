"""What the processes that train one network must add up in a step, besides gradients. Nothing waits for the device."""

from __future__ import annotations

from collections.abc import Callable

import torch.distributed as dist
from torch import Tensor

OverRanks = Callable[[Tensor], Tensor]
"""Sums over the rows of one rank, (N,) -> the mean of these sums over all ranks, (N,).

A rank's own sum divided by it counts each row alike, however many rows a rank has, for DDP takes the mean of the ranks'
gradients.
"""


def num_ranks() -> int:
    """How many processes have met to train one network; 1 where this one trains alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(sums: Tensor) -> Tensor:
    """The mean of `sums` (N,), detached, over all ranks. Every rank must call it, at the same step."""
    sums = sums.detach().clone()
    dist.all_reduce(sums)
    return sums / num_ranks()
