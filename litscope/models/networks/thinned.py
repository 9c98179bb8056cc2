"""A network thinned by dropout in the same way for every sample, whenever it is asked: pass number k leaves out what a
hash of k says.

Passes with dropout that are drawn anew for each batch give a sample another answer in another batch, and cannot be
written into a file that other programs run. Here the k-th pass is one network out of those that dropout stands for
(Gal and Ghahramani 2016, arXiv:1506.02142): over passes a sample's answers scatter as they would, and only how those of
two samples scatter together is another matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from litscope.models.networks.dropout import dropout_on, dropouts_of
from litscope.models.networks.heads import DropoutLinear
from litscope.models.networks.members import Members

_SEED = 0x7468696E
_LEAST = 1e-6  # a rate of 1 keeps nothing
_OF_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@contextmanager
def thinned(net: nn.Module, number: int) -> Iterator[None]:
    """In the block, a network's dropout leaves out what belongs to pass `number`, and all else is as in evaluation.

    Layers of other kinds, and dropout that a network of timm calls by itself, draw from torch's own generator, which
    is seeded by the number and put back afterwards.
    """
    known, fixed = dropouts_of(net), []
    of_members = {id(several.dropout) for several in net.modules() if isinstance(several, Members)}
    with ExitStack() as stack:
        stack.enter_context(dropout_on(net))
        for place, part in enumerate(known):
            if type(part) is nn.Dropout or isinstance(part, (*_OF_CHANNELS, DropoutLinear)):
                part.forward = partial(_forward, part, (_SEED, number, place), id(part) in of_members)  # type: ignore[method-assign]
                fixed.append(part)
        if len(fixed) < len(known) and not torch.compiler.is_exporting():
            devices = {p.device for p in net.parameters() if p.device.type == "cuda"}
            stack.enter_context(torch.random.fork_rng(list(devices)))
            torch.manual_seed(number)
        try:
            yield
        finally:
            for part in fixed:
                del part.forward


def _forward(part: nn.Module, key: tuple[int, ...], is_of_members: bool, x: Tensor) -> Tensor:
    """A part's own forward, with a mask that the samples of a batch share."""
    if isinstance(part, DropoutLinear):
        return nn.functional.linear(x * _mask(x, (1, *x.shape[1:]), part.dropout_rate, key), part.weight, part.bias)
    if isinstance(part, _OF_CHANNELS):
        shape = (1, x.shape[1], *(1 for _ in x.shape[2:]))
    elif is_of_members:
        shape = (x.shape[0], 1, *x.shape[2:])
    else:
        shape = (1, *x.shape[1:])
    return x * _mask(x, shape, float(part.p), key)  # type: ignore[arg-type]


def _mask(x: Tensor, shape: tuple[int, ...], rate: float, key: tuple[int, ...]) -> Tensor:
    """Factors: 0, or what keeps the mean."""
    kept = np.random.default_rng(key).random(shape) >= rate
    return torch.from_numpy((kept / max(1.0 - rate, _LEAST)).astype(np.float32)).to(x.device, x.dtype)
