"""Test-time augmentation: a test image is judged by the mean of its logits over several views of it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from litscope.models.settings import Tta

SHIFT = 32
"""`shift` moves an image by its side divided by this: one pixel at 32."""


def views(x: Tensor, kind: Tta) -> list[tuple[float, Tensor]]:
    """The views of each image with their weights, whose sum is 1.

    `flip` takes the image and its mirror image; `shift` takes both again, moved to the upper left and to the lower
    right over reflected edges, with half the weight each (Jordan 2024, arXiv:2404.00498).

    Args:
        x: (B, K, H, W) float.
    """
    if kind == "none":
        return [(1.0, x)]
    both = [(0.5, x), (0.5, x.flip(3))]
    if kind == "flip":
        return both
    by = max(1, x.shape[3] // SHIFT)
    wide, (height, width) = F.pad(x, (by,) * 4, mode="reflect"), x.shape[2:]
    moved = [wide[:, :, at : at + height, at : at + width] for at in (0, 2 * by)]
    return [(0.25, view) for _, view in both] + [(0.125, view) for m in moved for view in (m, m.flip(3))]
