"""What the processes that train one network must add up in a step, besides gradients. Nothing waits for the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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


def same_statistics(net: nn.Module) -> None:
    """Give the batch norms of every rank the running statistics of the first. Every rank must call it.

    A batch changes them on the rank that has seen it; what is measured and saved must not depend on who does it.
    """
    if num_ranks() == 1:
        return
    norms = [part for part in net.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    kept = [buffer for norm in norms for buffer in norm.buffers(recurse=False) if buffer.is_floating_point()]
    if not kept:
        return
    joined = torch.cat([buffer.view(-1) for buffer in kept])  # (n,): one message
    dist.broadcast(joined, src=0)
    for buffer, of_first in zip(kept, torch.split(joined, [buffer.numel() for buffer in kept]), strict=True):
        buffer.copy_(of_first.view_as(buffer))
