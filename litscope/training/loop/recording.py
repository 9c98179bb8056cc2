"""Losses, and passes over samples, while a run trains. Nothing here waits for the device in a step.

`LossWatch` keeps the losses on the device, and looks at them only where a number is written down anyway. `clean_pass`
shows samples to the model as an evaluation would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from litscope.errors import NonFiniteLossError
from litscope.types import Batch, StepOutput


class LossWatch:
    """The losses of recent batches, on the device, with the sample ids of each.

    Attributes:
        keys: sample_id -> key, to name samples in an error.
    """

    def __init__(self) -> None:
        self.keys: Sequence[str] = ()
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
        """The mean loss since it was last taken, None without a batch. Looks, and raises, as `look`."""
        self.look()
        mean = self._sum / self._count if self._count else None
        self._sum, self._count = 0.0, 0
        return mean

    def _describe(self, loss: float, step: int, epoch: int, ids: list[int]) -> str:
        named = [f"{i} ({self.keys[i]})" for i in ids[:5] if 0 <= i < len(self.keys)]
        return (
            f"The loss became {loss} at step {step} (epoch {epoch}). Sample ids of that batch: "
            f"{', '.join(map(str, ids))}. The first of them: {', '.join(named)}. Checkpoints from before it stay. "
            "Look at these samples, or try a lower --lr, --gradient-clip-val 1 or --precision 32."
        )


@torch.no_grad()
def clean_pass(
    trainer: L.Trainer,
    module: L.LightningModule,
    ids: NDArray[np.int64],
    record: Callable[[StepOutput], None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Show samples to the model as evaluation would, and record what it says; training goes on unchanged.

    No random number is drawn, and batch-norm statistics stay. For training samples whose own rows cannot be
    taken, because mixup or cutmix blended the images and left them no single label, and for evaluations that
    somebody asks for while a run trains.

    Args:
        trainer: of this fit, with our data module.
        module: maps a batch's input to logits (B, C).
        ids: (n,) int64 samples, of all ranks.
        record: takes each batch's output.
        is_stopped: asked before each batch.

    Returns:
        Whether the pass came to its end.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    loader = data.dataloader_of(ids)
    try:
        for batch in loader:
            if is_stopped():
                return False
            batch = data.transfer_batch_to_device(batch, module.device, 0)
            batch = trainer.precision_plugin.convert_input(data.evaluation_batch(batch))
            with trainer.precision_plugin.val_step_context():
                logits = module(batch["image"] if "image" in batch else batch["features"])
            record(_output(logits, batch))
    finally:
        for part, mode in modes:
            part.training = mode
        if loader:
            data.release(loader)
    return True


def _output(logits: Tensor, batch: Batch) -> StepOutput:
    sample_loss = F.cross_entropy(logits.float(), batch["label"], reduction="none", ignore_index=-1)
    return {
        "loss": sample_loss.mean(),
        "logits": logits,
        "sample_loss": sample_loss,
        "label": batch["label"],
        "sample_id": batch["sample_id"],
    }
