"""Dropout that stays on while a network predicts: MC dropout (Gal and Ghahramani 2016, arXiv:1506.02142)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from litscope.models.networks.heads import DropoutLinear
from litscope.models.networks.net_members import NetMembers


def dropouts_of(net: nn.Module) -> list[nn.Module]:
    """The parts of a network that leave something out in training mode, and nothing else; none where no rate is above
    zero.

    Some networks of timm have no such part: they call the function in their own `forward`, at their `drop_rate`. The
    network alone is then that part, without its children.
    """
    if isinstance(net, NetMembers):  # of each, as some may have such parts and others not
        return [part for own in net.nets for part in dropouts_of(own)]
    found: list[nn.Module] = [
        part
        for part in net.modules()
        if (isinstance(part, _DropoutNd) and part.p > 0) or (isinstance(part, DropoutLinear) and part.dropout_rate > 0)
    ]
    return found or [part for part in net.modules() if _is_rate(getattr(part, "drop_rate", None))]


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


@contextmanager
def dropout_on(net: nn.Module) -> Iterator[None]:
    """In the block, dropout draws as in training; batch norms and all else stay as they are."""
    modes = [(part, part.training) for part in dropouts_of(net)]
    for part, _ in modes:
        part.training = True  # not `train`, which would wake its children
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
