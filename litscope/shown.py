"""How a stored image becomes what a network is shown where nothing is augmented: the same in training's validation, in
prediction, in an exported file, and for each member of an ensemble.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from litscope.types import Interpolation


def to_float(image: Tensor) -> Tensor:
    """uint8 (B, K, H, W) to float32 in [0, 1]; other types become float32 in their own unit."""
    if image.dtype == torch.uint8:
        return image.to(torch.float32).mul_(1 / 255)
    return image.to(torch.float32)


def evaluation(
    image: Tensor, size: int, crop_pct: float | None = None, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """The evaluation transform: centre crop, and enlargement where less is stored.

    Args:
        image: (B, K, S, S).
        size: T.
        crop_pct: the share of the image's side that is seen, also where less than T / crop_pct pixels are stored; None:
            the T pixels in the middle, or all where there are fewer.
        interpolation: of the enlargement.
    Returns:
        (B, K, T, T) float32.
    """
    if crop_pct is not None and image.shape[-1] < math.floor(size / crop_pct):
        is_byte = image.dtype == torch.uint8
        image = enlarge(to_float(image), math.floor(size / crop_pct), interpolation)
        image = image.clamp(0, 1) if is_byte else image
    stored = image.shape[-1]
    if stored > size:
        # With a share, where torchvision's CenterCrop would begin.
        start = (stored - size) // 2 if crop_pct is None else round((stored - size) / 2)
        image = image[..., start : start + size, start : start + size]
    return enlarge(to_float(image), size, interpolation)


def enlarge(image: Tensor, size: int, interpolation: Interpolation = "bilinear") -> Tensor:
    """Enlarge float images smaller than `size`. Bicubic is Pillow's, and goes a little beyond the pixels' range."""
    stored = image.shape[-1]
    if stored >= size:
        return image
    if interpolation == "bicubic":
        weights = torch.from_numpy(_bicubic(stored, size)).to(image.device, non_blocking=True)
        return weights @ image @ weights.T
    return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False)


@functools.cache
def _bicubic(stored: int, size: int) -> NDArray[np.float32]:
    """(size, stored): the share of each stored pixel of a line in each of a longer line, as Pillow has it.

    torch's own bicubic has another coefficient (-0.75), unless it antialiases, which no exporter knows.
    """
    centre = (np.arange(size) + 0.5) * stored / size
    away = np.abs(np.arange(stored) + 0.5 - centre[:, None])
    near = 1.5 * away**3 - 2.5 * away**2 + 1
    far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    shares = np.where(away < 1, near, np.where(away < 2, far, 0.0))
    weights: NDArray[np.float32] = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return weights
