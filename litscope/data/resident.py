"""Rows in a GPU's memory: copied there once, so that a batch is a gather on the device and the host only moves ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from litscope.data.overlay import as_tensor

LARGEST_SHARE = 0.125
"""Rows that would take more than this share of the GPU's free memory stay on the host."""

PART_BYTES = 256 * 2**20
"""Rows are copied in parts of about this size, so that a memory map is read without a second copy on the host."""


class DeviceRows:
    """The rows of one source, wherever a loader gathers them."""

    def __init__(self) -> None:
        self._copied: Tensor | None = None

    def of(self, rows: np.ndarray[Any, Any], device: torch.device) -> np.ndarray[Any, Any] | Tensor:
        """A copy on `device`, made once; the rows themselves if that is not a CUDA device, or has no room for them.

        Args:
            rows: (N, ...), in memory or in a memory map; the same at each call.
        """
        if self._copied is None and has_room(rows.nbytes, device):
            self._copied = copy_in_parts(as_tensor(rows), device)
        return rows if self._copied is None else self._copied


def has_room(num_bytes: int, device: torch.device) -> bool:
    """Whether rows of this size belong on the device."""
    return device.type == "cuda" and num_bytes <= LARGEST_SHARE * torch.cuda.mem_get_info(device)[0]


def copy_in_parts(rows: Tensor, device: torch.device) -> Tensor:
    """Copy all rows to `device`, without a second copy of them in its memory."""
    copied = torch.empty(rows.shape, dtype=rows.dtype, device=device)
    num_rows = max(1, PART_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), num_rows):
        copied[start : start + num_rows].copy_(rows[start : start + num_rows])
    return copied
