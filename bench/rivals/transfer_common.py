"""What the rivals of `transfer.py` share: their arguments, the network with the given weights, and the test.

Every arm starts from the same file of weights, trains on `FOLDER/train`, may look at `FOLDER/val`, and is tested on
another folder afterwards, whose cost is not counted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

ARCH = "tf_efficientnet_lite0"
MEAN = STD = (0.5, 0.5, 0.5)

Probabilities = Callable[[list[Path]], Tensor]
"""Files of images -> (n, C) on the CPU, the classes in alphabetical order."""


def arguments() -> argparse.Namespace:
    """The command line of every rival."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="timm's names -> tensors")
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    return options


def network(weights: Path, num_classes: int) -> nn.Module:
    """timm's network with these weights and a head as timm initialises it; 0 classes for features."""
    net: nn.Module = timm.create_model(ARCH, num_classes=1000)
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.reset_classifier(num_classes)  # type: ignore[operator]
    return net


def finish(probabilities: Probabilities, test: Path) -> None:
    """Test, and print the accuracy and what the test itself cost."""
    began = time.process_time()
    files = sorted(test.glob("*/*"))
    names = sorted(path.name for path in test.iterdir())
    label = torch.tensor([names.index(file.parent.name) for file in files])
    right = (probabilities(files).argmax(1) == label).float().mean().item()
    print(json.dumps({"accuracy": right, "test_cpu_s": time.process_time() - began}))
