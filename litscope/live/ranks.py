"""What the ranks of a run tell each other besides gradients: decisions, at a step's end.

They talk over a gloo group of their own, which neither waits for the device nor disturbs the
strategy's collectives. With one process every function returns at once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


class Ranks:
    """The processes of this run.

    Attributes:
        rank: number of this process, from 0.
        world_size: how many there are.
    """

    def __init__(self) -> None:
        """Join the others. Every rank must come here at the same point, after Lightning's setup."""
        is_alone = not (dist.is_available() and dist.is_initialized())
        self.rank = 0 if is_alone else dist.get_rank()
        self.world_size = 1 if is_alone else dist.get_world_size()
        self._group = dist.new_group(backend="gloo") if self.world_size > 1 else None

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any rank has it set. Waits for the slowest rank."""
        return [bool(value) for value in self.most(*flags)]

    def most(self, *numbers: int) -> list[int]:
        """For each number, the greatest of all ranks. Waits for the slowest rank."""
        if self._group is None:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self._group)
        return [int(value) for value in values.tolist()]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """`values` (a CPU tensor) added up over the ranks."""
        if self._group is not None:
            dist.all_reduce(values, group=self._group)
        return values

    def least(self, values: torch.Tensor) -> torch.Tensor:
        """The smallest of each of `values` (a CPU tensor) over the ranks."""
        if self._group is not None:
            dist.all_reduce(values, op=dist.ReduceOp.MIN, group=self._group)
        return values

    def gather(self, value: Any) -> list[Any]:
        """One plain value from every rank, in their order."""
        if self._group is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def first(self, value: Any) -> Any:
        """Rank 0's plain value, on every rank."""
        if self._group is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]
