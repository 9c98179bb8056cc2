"""LossWatch: ends a run whose loss is not a number, and gives the mean loss for the curve.

The losses stay on the device, and are read only where a number is written down anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from litscope.errors import NonFiniteLossError


class LossWatch:
    """The losses of recent batches, on the device, with the sample ids of each.

    Args:
        keys: sample_id -> key, to name samples in an error.
        lost_members: names the members of an ensemble whose weights are no numbers any more; asked for an error.
    """

    def __init__(
        self, keys: Sequence[str] | pa.ChunkedArray = (), lost_members: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self._keys = keys
        self._lost_members = lost_members
        self._losses: list[Tensor] = []
        self._batches: list[tuple[int, int, Tensor]] = []
        self._sum = 0.0
        self._count = 0

    def add(self, loss: Tensor, sample_id: Tensor, *, step: int, epoch: int) -> None:
        """Keep one batch's loss (), detached, and its ids (B,). Nothing is computed."""
        self._losses.append(loss)
        self._batches.append((step, epoch, sample_id))

    def add_stack(self, loss: Tensor, sample_id: Tensor, *, step: int, batches_per_step: int, epoch: int) -> None:
        """Keep N batches' losses (N,) and ids (N, B)."""
        for i, (one, ids) in enumerate(zip(loss.unbind(), sample_id.unbind(), strict=True)):
            self.add(one, ids, step=step + i // batches_per_step, epoch=epoch)

    def look(self) -> None:
        """Read the losses since the last look. Waits for the device.

        Raises:
            NonFiniteLossError: at the first loss that is NaN or infinite, with its step and samples.
        """
        if not self._losses:
            return
        losses = torch.stack(self._losses).double().tolist()
        batches, self._losses, self._batches = self._batches, [], []
        for loss, (step, epoch, sample_id) in zip(losses, batches, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLossError(self._describe(loss, step, epoch, sample_id.tolist()))
        self._sum += math.fsum(losses)
        self._count += len(losses)

    def take_mean(self) -> float | None:
        """The mean loss since the last call, None without a batch. It looks, and raises, as `look` does."""
        self.look()
        mean = self._sum / self._count if self._count else None
        self._sum, self._count = 0.0, 0
        return mean

    def _describe(self, loss: float, step: int, epoch: int, ids: list[int]) -> str:
        named = [f"{i} ({self._keys[i]})" for i in ids[:5] if 0 <= i < len(self._keys)]
        lost = self._lost_members()
        whose = f" Its members that went wrong: {', '.join(lost)}; the others are as they should be." if lost else ""
        return (
            f"The loss became {loss} at step {step} (epoch {epoch + 1}).{whose} Sample ids of that batch: "
            f"{', '.join(map(str, ids))}. The first of them: {', '.join(named)}. Checkpoints from before it stay. "
            f"Look at these samples, or try a lower {'--member-lr for these' if lost else '--lr'}, "
            "--gradient-clip-val 1 or --precision 32."
        )
