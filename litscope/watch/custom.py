"""CustomBuffer: named values of samples on the device, until they are written."""

from __future__ import annotations

import torch
from torch import Tensor

from litscope.errors import ConfigError
from litscope.ledger.custom import CustomRows, CustomSegment


class CustomBlock:
    """Values on their way to the host; the writer's thread fetches them."""

    def __init__(self, ids: list[Tensor], values: list[Tensor], segments: tuple[CustomSegment, ...]) -> None:
        self._ids, self._values, self._segments = ids, values, segments

    def rows(self) -> CustomRows:
        """The values as numpy arrays. Waits for the device."""
        return CustomRows(_on_host(self._ids).numpy(), _on_host(self._values).float().numpy(), self._segments)


def _on_host(pieces: list[Tensor]) -> Tensor:
    """The pieces in one; copied once where they are all on one device, as mostly."""
    devices = {piece.device for piece in pieces}
    return torch.cat(pieces).cpu() if len(devices) == 1 else torch.cat([piece.cpu() for piece in pieces])


class CustomBuffer:
    """Collects named values of batches; nothing is copied or computed until `drain`."""

    def __init__(self) -> None:
        self._ids: list[Tensor] = []
        self._values: list[Tensor] = []
        self._segments: list[CustomSegment] = []

    def __len__(self) -> int:
        return len(self._segments)

    def add(self, name: str, values: Tensor, ids: Tensor, *, step: int, epoch: int, split: str, phase: str) -> None:
        """Keep one number for each sample.

        Args:
            values: (B,) of any number type; or one number for each sample in any shape of B numbers.
            ids: (B,) int64.

        Raises:
            ConfigError: if there are not as many values as ids.
        """
        values = values.detach()
        if values.numel() != ids.numel():
            raise ConfigError(
                f"signal {name!r} has {values.numel()} values for {ids.numel()} samples; give one number for each, "
                "as a loss with reduction='none' does."
            )
        self._ids.append(ids)
        self._values.append(values.reshape(-1).float() if values.dtype is not torch.float32 else values.reshape(-1))
        self._segments.append(CustomSegment(ids.numel(), step, epoch, split, phase, name))

    def drain(self) -> CustomBlock:
        """Hand over all values, and start anew."""
        block = CustomBlock(self._ids, self._values, tuple(self._segments))
        self._ids, self._values, self._segments = [], [], []
        return block
