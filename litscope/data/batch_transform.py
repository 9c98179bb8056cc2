"""BatchTransform: from the bytes of a batch on its device to the network's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from litscope.data.mixing import mix_batch
from litscope.data.transforms import Augmentation
from litscope.types import Batch

VISIT_BITS = 40
"""Where the number of a visit begins in what augmentation takes for a `sample_id`; ids are smaller."""


@dataclass(frozen=True)
class BatchTransform:
    """Augments, mixes, and evaluates batches.

    Attributes:
        augmentation: of images; features are not augmented. None for a table.
        num_classes: C.
        mixup, cutmix: alpha of each; 0 is off.
        seed: with the epoch and the batch's number in it, decides how it is mixed.
    """

    augmentation: Augmentation | None
    num_classes: int
    mixup: float
    cutmix: float
    seed: int

    def training(self, batch: Batch, epoch: int, number: int) -> Batch:
        """Augment, and mix where asked, a batch or a stack of batches. Images of a stack are augmented all at once.

        Args:
            batch: as the loader gives it, on the device.
            epoch, number: the loader's `last`: the batch's epoch and its number in it; of a stack, that of its first.
        """
        batch = self.augmented(batch, epoch)
        name: Literal["image", "features"] = "image" if "image" in batch else "features"
        is_stack = batch["sample_id"].ndim == 2
        if not (self.mixup or self.cutmix):
            return batch
        inputs, label = (batch[name], batch["label"]) if is_stack else (batch[name][None], batch["label"][None])
        mixing = {"mixup": self.mixup, "cutmix": self.cutmix}
        soft = batch.get("soft_label")
        softs = [None] * len(label) if soft is None else soft if is_stack else soft[None]
        pairs = [
            mix_batch(x, y, self.num_classes, **mixing, key=(self.seed, epoch, number + i), soft_label=t)
            for i, (x, y, t) in enumerate(zip(inputs, label, softs, strict=True))
        ]
        mixed = [torch.stack(parts) if is_stack else parts[0] for parts in zip(*pairs, strict=True)]
        batch[name], batch["soft_label"] = mixed
        return batch

    def augmented(self, batch: Batch, epoch: int) -> Batch:
        """As `training`, but nothing is mixed."""
        batch = batch.copy()
        if self.augmentation is not None and "image" in batch:
            image, sample_id = batch["image"], batch["sample_id"]
            is_stack = sample_id.ndim == 2
            if "visit" in batch:  # a sample that comes again in an epoch looks otherwise
                sample_id = sample_id + (batch["visit"] << VISIT_BITS)
            flat = self.augmentation(image.flatten(0, 1) if is_stack else image, sample_id.view(-1), epoch)
            batch["image"] = flat.view(*sample_id.shape, *flat.shape[1:]) if is_stack else flat
        return batch

    def evaluation(self, batch: Batch) -> Batch:
        """Centre crop, float; features as they are."""
        if self.augmentation is None or "image" not in batch:
            return batch
        batch = batch.copy()
        batch["image"] = self.augmentation.evaluated(batch["image"])
        return batch
