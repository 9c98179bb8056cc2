"""clean_pass: shows samples to the model as an evaluation does, in the middle of a training that goes on unchanged."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from litscope.models.over_ranks import same_statistics
from litscope.training.loop.trainer_parts import data_of
from litscope.types import Batch, StepOutput


@torch.no_grad()
def clean_pass(
    trainer: L.Trainer,
    module: L.LightningModule,
    ids: NDArray[np.int64],
    record: Callable[[StepOutput], None],
    is_stopped: Callable[[], bool] = lambda: False,
    says: Callable[[Tensor], Tensor] | None = None,
) -> bool:
    """Show samples to the model as an evaluation does, and record what it says; training goes on unchanged.

    No random number is drawn, and batch-norm statistics stay. It serves training samples whose own rows mean
    nothing, because mixup or cutmix blended the images and left them no single label, and evaluations that
    somebody asks for while a run trains.

    Args:
        trainer: the fit's, with our data module.
        module: the network.
        ids: (n,) int64 the samples of all ranks.
        record: takes each batch's output.
        is_stopped: asked before each batch.
        says: maps a batch's input to logits (B, C); None: the module itself.

    Returns:
        Whether the pass was completed.
    """
    data = data_of(trainer)
    loader = data.dataloader_of(ids)
    if isinstance(loader, list):
        return True  # no samples
    same_statistics(module)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        for batch in loader:
            if is_stopped():
                return False
            batch = data.transfer_batch_to_device(batch, module.device, 0)
            batch = trainer.precision_plugin.convert_input(data.evaluation_batch(batch))
            with trainer.precision_plugin.val_step_context():
                logits = (says or module)(batch["image"] if "image" in batch else batch["features"])
            record(_output(logits, batch))
    finally:
        for part, mode in modes:
            part.training = mode
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
