"""Mixing: each sample of a batch blended with its neighbour, and their labels with it: mixup and CutMix."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_MIX = 0x6D6978  # keeps these draws apart from those of augmentation


def mix_batch(
    inputs: Tensor,
    label: Tensor,
    num_classes: int,
    *,
    mixup: float,
    cutmix: float,
    key: tuple[int, int, int],
    soft_label: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend each sample with its neighbour in the (shuffled) batch: mixup or CutMix.

    Which of the two, the share and the box are drawn once for the batch, from `key` alone.

    Args:
        inputs: (B, K, T, T) images or (B, F) features, float.
        label: (B,) int64, all in [0, num_classes).
        mixup: alpha of mixup (Zhang et al. 2018), 0 for off.
        cutmix: alpha of CutMix (Yun et al. 2019), 0 for off; with both, each has half of the batches.
        key: (seed, epoch, number of the batch in the epoch).
        soft_label: (B, C) float32, what is blended in place of the labels.
    Returns:
        The blended inputs, and soft labels (B, C) float32.
    """
    random = np.random.default_rng([_MIX, *(part & (2**64 - 1) for part in key)])
    use_cutmix = cutmix > 0 and (mixup <= 0 or random.random() < 0.5)
    alpha = cutmix if use_cutmix else mixup
    share = float(random.beta(alpha, alpha))
    other = inputs.roll(1, 0)
    if use_cutmix:
        side = inputs.shape[-1]
        length = round(side * math.sqrt(1 - share))
        centre_y, centre_x = random.integers(0, side, 2).tolist()
        top, left = max(0, centre_y - length // 2), max(0, centre_x - length // 2)
        bottom, right = min(side, centre_y + (length + 1) // 2), min(side, centre_x + (length + 1) // 2)
        inputs = inputs.clone()
        inputs[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / side**2
    else:
        inputs = torch.lerp(other, inputs, share)
    if soft_label is None:
        soft_label = (label[:, None] == torch.arange(num_classes, device=label.device)).to(torch.float32)  # (B, C)
    return inputs, torch.lerp(soft_label.roll(1, 0), soft_label, share)
