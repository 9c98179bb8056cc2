"""Precision: the numbers in which a trained network computes, as Lightning's plugins of the same names have it.

    32-true                      everything in float32
    64-true, 16-true, bf16-true  weights and input in this type
    16-mixed, bf16-mixed         weights in float32, and what gains by it under autocast in the other type

The plugins themselves come with Lightning, whose import takes longer than a few images do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from litscope.types import Batch

_TRUE = {"16-true": torch.float16, "bf16-true": torch.bfloat16, "64-true": torch.float64}
_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class Precision:
    """One of them.

    Args:
        name: Lightning's full name, never "auto".
        device_type: where the network computes.
    """

    name: str
    device_type: str

    def convert(self, module: nn.Module) -> None:
        """Bring a network's weights into their type, in place."""
        if self.name in _TRUE:
            module.to(dtype=_TRUE[self.name])

    def converted(self, batch: Batch) -> Any:
        """A batch whose floating-point tensors have the type that the network takes."""
        if self.name not in _TRUE:
            return batch
        return {name: _in_type(value, _TRUE[self.name]) for name, value in batch.items()}

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Inside, the network computes in this precision."""
        if self.name in _MIXED:
            with torch.autocast(self.device_type, _MIXED[self.name], cache_enabled=False):
                yield
            return
        before = torch.get_default_dtype()
        torch.set_default_dtype(_TRUE.get(self.name, before))
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def _in_type(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
