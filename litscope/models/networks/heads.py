"""The head of a classifier, the linear layer that makes logits of features; everything before it is the body."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from litscope.errors import ModelError


def head_of(net: nn.Module, num_classes: int) -> nn.Linear | None:
    """The last layer of a network for C classes; None if that is not linear."""
    linears = [module for module in net.modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears and linears[-1].out_features == num_classes else None


def zero_head(net: nn.Module, num_classes: int) -> None:
    """Start the head at zero, where there is one: all classes are then equally likely, and the first loss is log C
    whatever the features are. Initialisers that are made for a thousand classes start two of them far apart.
    """
    head = head_of(net, num_classes)
    if head is not None:
        for parameter in head.parameters():
            nn.init.zeros_(parameter)


def freeze_body(net: nn.Module, head: nn.Linear) -> None:
    """Let the head alone be trained."""
    net.requires_grad_(False)
    head.requires_grad_(True)


def keep_statistics(net: nn.Module) -> None:
    """Have batch norms use their running statistics, and leave them as they are."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@contextmanager
def features_taken(head: nn.Linear) -> Iterator[list[Tensor]]:
    """Collect what the head is given, (B, F) of each forward pass of its network, in the block."""
    taken: list[Tensor] = []

    def take(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        taken.append(inputs[0].detach())

    handle = head.register_forward_pre_hook(take)
    try:
        yield taken
    finally:
        handle.remove()


def features_of(net: nn.Module, head: nn.Linear, x: Tensor) -> Tensor:
    """(B, F) the features of normalised images (B, K, H, W).

    Raises:
        ModelError: if the head is given anything else than one row for each image.
    """
    with features_taken(head) as taken, torch.no_grad():
        net(x)
    if len(taken) != 1 or taken[0].ndim != 2 or len(taken[0]) != len(x):
        raise ModelError(f"{type(net).__name__} does not give its last layer one row of features for each image.")
    return taken[0]
