"""The head of a classifier, the linear layer that makes logits of features; everything before it is the body."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from litscope.errors import ModelError
from litscope.models.networks.members import MemberHeads
from litscope.models.networks.stems import replace_part


class DropoutLinear(nn.Linear):
    """A linear head with dropout before it, under the names of the head that it replaces."""

    def __init__(self, head: nn.Linear, dropout_rate: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = head.in_features, head.out_features
        self.weight, self.bias = head.weight, head.bias
        self.dropout_rate = dropout_rate

    def forward(self, input: Tensor) -> Tensor:
        """(..., F) -> (..., C)."""
        return super().forward(nn.functional.dropout(input, self.dropout_rate, self.training))


def of_features(head: nn.Linear | MemberHeads, features: Tensor, rate: float, is_training: bool) -> Tensor:
    """(B, C), or (M, B, C), from what a head is given, (B, F): the same as from the images themselves.

    Args:
        rate: of the dropout before it.
    """
    features = features.to(head.weight.dtype)
    if isinstance(head, MemberHeads):
        features = features.expand(head.num_members, -1, -1)  # each has a dropout of its own
    if not isinstance(head, DropoutLinear):  # that one has its own
        features = nn.functional.dropout(features, rate, is_training)
    logits: Tensor = head(features)
    return logits


def put_heads(net: nn.Module, head: nn.Linear, heads: MemberHeads) -> None:
    """Put several heads in the place of one."""
    name = next(name for name, module in net.named_modules() if module is head)
    replace_part(net, name, heads)


def find_head(net: nn.Module, num_classes: int) -> nn.Linear | MemberHeads | None:
    """The last layer of a network for C classes, or the several in its place; None if it is not linear."""
    return next((module for module in net.modules() if isinstance(module, MemberHeads)), None) or head_of(
        net, num_classes
    )


def head_of(net: nn.Module, num_classes: int) -> nn.Linear | None:
    """The last layer of a network with C outputs; None if that is not linear."""
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


def adopt(head: nn.Linear, of_weights: Sequence[str], classes: Sequence[str]) -> str:
    """Keep of a head, which came with weights, what it knows: all of it where it tells the same classes apart, in
    whatever order; else it starts at zero.

    Args:
        of_weights: the C names in the order of the head.
        classes: those of the data.

    Returns:
        A line that says which.
    """
    if head.out_features == 1:
        return _adopt_odds(head, of_weights, classes)
    if set(of_weights) == set(classes):
        place = {name: index for index, name in enumerate(of_weights)}
        order = torch.tensor([place[name] for name in classes], device=head.weight.device)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.copy_(parameter[order])
        return "the head is kept: it tells the same classes apart"
    return _forget(head, of_weights, classes)


def _adopt_odds(head: nn.Linear, of_weights: Sequence[str], classes: Sequence[str]) -> str:
    """As `adopt`, for a head of one logit: the log-odds of the second of two classes."""
    if set(of_weights) != set(classes):
        return _forget(head, of_weights, classes)
    if not head.weight.any():
        return "the head starts anew: that of the weights has a logit for each class, and this one has one"
    if list(of_weights) != list(classes):
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.neg_()
    return "the head is kept: it tells the same classes apart"


def _forget(head: nn.Linear, of_weights: Sequence[str], classes: Sequence[str]) -> str:
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    other = [repr(name) for name in of_weights if name not in set(classes)][:1]
    return f"the head starts anew: that of the weights tells other classes apart ({''.join(other)} is none of these)"


def freeze_body(net: nn.Module, head: nn.Module) -> None:
    """Let the head alone be trained."""
    net.requires_grad_(False)
    head.requires_grad_(True)


def keep_statistics(net: nn.Module) -> None:
    """Have batch norms use their running statistics, and leave them as they are."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@contextmanager
def in_evaluation(net: nn.Module) -> Iterator[None]:
    """Evaluation mode in the block. Afterwards each part has its own mode again: `net.train()` would also wake the
    norms that keep their statistics.
    """
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


@contextmanager
def features_taken(net: nn.Module, head: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """In the block, a function from normalised images (B, K, H, W) to their features (B, F): what the head is given.

    Several threads may call it at once. It raises ModelError if the head is given anything else than one row for each
    image.
    """
    own = threading.local()

    def take(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        own.taken.append(inputs[0].detach())

    def features(x: Tensor) -> Tensor:
        taken: list[Tensor] = []
        own.taken = taken
        with torch.no_grad():
            net(x)
        if len(taken) != 1 or taken[0].ndim != 2 or len(taken[0]) != len(x):
            raise ModelError(f"{type(net).__name__} does not give its last layer one row of features for each image.")
        return taken[0]

    handle = head.register_forward_pre_hook(take)
    try:
        yield features
    finally:
        handle.remove()
