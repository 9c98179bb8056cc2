"""The two networks that are our own: `mlp` for tables and tiny images, `convnet` for small gray images.

Everything else comes from timm and torchvision (`backbones.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

MLP_HIDDEN = (256, 256)
CONVNET_WIDTHS = (16, 32, 64)
CONVNET_GRID = 2


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
    """Three 3x3 convolutions with batch norm, each halving the image; means over a 2x2 grid; linear head.

    About 26,000 parameters: small enough for a CPU, and 99 % on MNIST in two epochs. Takes any size from one pixel up.

    Args:
        in_channels: K.
        num_classes: C.
        widths: channels of the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = CONVNET_WIDTHS,
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = in_channels
        for width in widths:
            blocks += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            blocks.append(nn.MaxPool2d(2, ceil_mode=True))
            before = width
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(CONVNET_GRID), nn.Flatten(), nn.Dropout(dropout_rate))
        self.head = nn.Linear(before * CONVNET_GRID**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of x (B, K, H, W)."""
        logits: Tensor = self.head(self.body(x))
        return logits
