"""A small network with weights of its own, and images for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

ARCH = "test_efficientnet"
"""timm's smallest network with batch norms: 100,000 parameters, 256 features."""


def save_weights(path: Path) -> Path:
    """Weights of the network for seven classes, with statistics of its own."""
    torch.manual_seed(1)
    net = timm.create_model(ARCH, num_classes=7)
    with torch.no_grad():
        net.train()(torch.rand(16, 3, 64, 64))
    torch.save(net.state_dict(), path)
    return path


def save_sides(root: Path, each: int = 12) -> Path:
    """PNG files of 32 pixels in two classes: bright on the left, or on the right. Each image is its own."""
    draw = np.random.default_rng(0)
    for name, side in (("left", slice(0, 16)), ("right", slice(16, 32))):
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = draw.integers(0, 120, (32, 32, 3))
            pixels[:, side] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i:02d}.png")
    return root
