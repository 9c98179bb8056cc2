"""Blocks whose inside is computed again in the backward pass, instead of being kept in memory until then.

What a block keeps is its input; a training step takes about a third longer, and its result is the same (Chen et al.
2016, arXiv:1604.06174). Names of weights stay as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(blocks: Iterable[nn.Module]) -> None:
    """From now on, compute the inside of each block twice in training. Dropout draws the same numbers both times, and
    batch norms count each batch once.
    """
    for block in blocks:
        block.forward = _computed_twice(block)


def _computed_twice(block: nn.Module) -> Any:
    forward = block.forward

    @functools.wraps(forward)
    def computed_twice(*inputs: Any, **named: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return forward(*inputs, **named)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=lambda: _contexts(block), **named)

    return computed_twice


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first pass, and around the second."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms compute as in training, and their running statistics stay."""
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, counter in before:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if counter is None else counter.clone()
    try:
        yield
    finally:
        for norm, momentum, counter in before:
            norm.momentum, norm.num_batches_tracked = momentum, counter
