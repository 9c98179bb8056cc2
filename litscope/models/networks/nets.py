"""The networks that are our own: `mlp` for tables and tiny images, `convnet` for small gray images, `whitenet` for
small colour images on a GPU in seconds.

Everything else comes from timm and torchvision (`backbones.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

MLP_HIDDEN = (256, 256)
CONVNET_WIDTHS = (16, 32, 64)
CONVNET_GRID = 4
"""`convnet`: its head sees at most a grid of 4 x 4."""

WHITENET_WIDTHS = (64, 256, 256)
WHITENET_LEAST = 9
"""`whitenet`: side of the smallest image that three halvings leave a pixel of."""

WHITENET_SCALE = 1 / 9
"""`whitenet`: its logits are multiplied by this, so that a large learning rate leaves them small at first."""

WHITENET_SHIFT = 8.0
"""`whitenet`: factor before the shifts that follow its norms: with SGD their rate is 8 x 8 = 64 times that of weights
(Page 2018; Jordan 2024)."""

WHITENING_EPS = 5e-4
"""Added to the variances of patches, so that directions without any are not blown up."""


class Mlp(nn.Module):
    """Linear layers with ReLU between, dropout before the head. Images are flattened.

    Args:
        num_inputs: F of (B, F), or K * H * W of (B, K, H, W).
        num_classes: C.
        hidden: widths of the hidden layers.
    """

    def __init__(
        self, num_inputs: int, num_classes: int, hidden: Sequence[int] = MLP_HIDDEN, dropout_rate: float = 0.0
    ) -> None:
        super().__init__()
        widths = (num_inputs, *hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, nn.Dropout(dropout_rate))
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.head(self.body(x))
        return logits


class ConvNet(nn.Module):
    """Three 3x3 convolutions with batch norm and ReLU, the first two halving the image; a linear head on a small grid.

    The grid keeps where in the image something is, which tells a 6 from a 9: with the mean over the
    image instead, three epochs of MNIST end at 98.3 % instead of 99.2 %. For 28 pixels and ten classes
    it has 34,000 parameters.

    Args:
        in_channels: K.
        num_classes: C.
        image_size: side of the image in pixels, from 1 up.
        widths: channels of the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        widths: Sequence[int] = CONVNET_WIDTHS,
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        side = math.ceil(image_size / 4)  # after two halvings, rounded up
        kernel = math.ceil(side / CONVNET_GRID)
        blocks: list[nn.Module] = []
        for i, (before, width) in enumerate(pairwise((in_channels, *widths))):
            blocks.append(nn.Conv2d(before, width, 3, padding=1, bias=False))
            if i < 2:
                blocks.append(nn.MaxPool2d(2, ceil_mode=True))  # before the norm, on a quarter of the numbers
            blocks += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        # An adaptive pool would do the same, but has no deterministic gradient on a GPU.
        blocks += [nn.MaxPool2d(kernel, ceil_mode=True), nn.Flatten(), nn.Dropout(dropout_rate)]
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1] * math.ceil(side / kernel) ** 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of x (B, K, H, W)."""
        logits: Tensor = self.head(self.body(x))
        return logits


class WhiteNet(nn.Module):
    """A small network that learns fast: whitened patches of 2x2 pixels, then three blocks of two convolutions.

    The first layer is not trained: its filters are the principal directions of the training images' patches, and
    their negatives, each scaled to unit variance (Page 2018, "How to train your ResNet"; Jordan 2024,
    arXiv:2404.00498). `whiten` sets them; until then they are random. Norms have no scale of their own, and shifts
    that learn fast. For 32 pixels, three channels and ten classes it has 2.0 million parameters.

    Args:
        in_channels: K.
        num_classes: C.
        image_size: side of the image in pixels, at least 9.
        widths: channels of the blocks, each of which halves the image.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: int,
        widths: Sequence[int] = WHITENET_WIDTHS,
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        first = 2 * 4 * in_channels
        self.whitening = nn.Conv2d(in_channels, first, 2)
        self.whitening.weight.requires_grad_(False)
        blocks: list[nn.Module] = []
        side = image_size - 1
        for before, width in pairwise((first, *widths)):
            blocks += [*_conv(before, width, nn.MaxPool2d(2)), *_conv(width, width)]
            side //= 2
        self.body = nn.Sequential(nn.GELU(), *blocks, nn.MaxPool2d(side), nn.Flatten(), nn.Dropout(dropout_rate))
        self.head = nn.Linear(widths[-1], num_classes, bias=False)

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Take the first layer's filters from images (N, K, H, W), normalised as the network's input."""
        patches = x.cpu().double().unfold(2, 2, 1).unfold(3, 2, 1)  # (N, K, H-1, W-1, 2, 2)
        rows = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)
        variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
        filters = (directions / (variances + WHITENING_EPS).sqrt()).T.reshape(-1, *self.whitening.weight.shape[1:])
        self.whitening.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of x (B, K, H, W)."""
        logits: Tensor = self.head(self.body(self.whitening(x))) * WHITENET_SCALE
        return logits


class Shift(nn.Module):
    """Adds `WHITENET_SHIFT` times a trained number to each channel of (B, K, H, W)."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, K, H, W), shifted."""
        return x + (WHITENET_SHIFT * self.bias).to(x.dtype)[:, None, None]


def _conv(before: int, width: int, *pool: nn.Module) -> list[nn.Module]:
    """A 3x3 convolution that starts as the identity on as many channels as it can, batch norm, a shift and GELU."""
    conv = nn.Conv2d(before, width, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight[: min(before, width)].data)
    return [conv, *pool, nn.BatchNorm2d(width, momentum=0.4, affine=False), Shift(width), nn.GELU()]
