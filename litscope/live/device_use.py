"""DeviceUse: what one process makes of its device in an epoch: how busy, how much memory, how long without data."""

from __future__ import annotations

import resource
import sys
import time
from typing import NamedTuple

import torch

LOOK_S = 1.0
"""Seconds between two looks at how busy a GPU is, which costs a fraction of a millisecond."""


class Use(NamedTuple):
    """What `metrics/epochs.jsonl` holds of one process and epoch.

    Attributes:
        gpu_use: share of the time in which the GPU computed, 0 to 1; None without a GPU, or where its driver does not
            tell (torch asks it through the package nvidia-ml-py).
        cpu_use: CPU time of this process for each second, of all its threads: 1.0 is one core.
        peak_memory_bytes: the most so far that tensors on the GPU took; without one, the most that the process had
            resident.
        data_wait: share of the time of training in which it waited for the next batch, 0 to 1.
    """

    gpu_use: float | None
    cpu_use: float
    peak_memory_bytes: int
    data_wait: float


class DeviceUse:
    """The use of a device since the epoch began, or since this attempt went on with it.

    Args:
        device: that this process computes on.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._can_tell = device.type == "cuda"
        self._next_look = 0.0
        self.start(0.0)

    def start(self, waited_s: float) -> None:
        """An epoch begins.

        Args:
            waited_s: seconds that the process has waited for batches so far.
        """
        self._began, self._cpu_began, self._waited_before = time.monotonic(), time.process_time(), waited_s
        self._looks: list[float] = []
        self._data_wait = 0.0

    def look(self) -> None:
        """Between two batches: see how busy the GPU is, once a second. Does not wait for it."""
        if self._can_tell and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            try:
                self._looks.append(torch.cuda.utilization(self._device) / 100)
            except (ImportError, RuntimeError, AttributeError):  # no package that asks the driver, or no answer
                self._can_tell = False

    def skip(self, seconds: float) -> None:
        """Leave out the seconds of a pause."""
        self._began += seconds

    def training_ends(self, waited_s: float) -> None:
        """The epoch's last training batch is done.

        Args:
            waited_s: as for `start`.
        """
        self._data_wait = (waited_s - self._waited_before) / max(time.monotonic() - self._began, 1e-9)

    def read(self) -> Use:
        """The use so far."""
        passed_s = max(time.monotonic() - self._began, 1e-9)
        return Use(
            gpu_use=round(sum(self._looks) / len(self._looks), 4) if self._looks else None,
            cpu_use=round((time.process_time() - self._cpu_began) / passed_s, 4),
            peak_memory_bytes=self._peak_memory(),
            data_wait=round(min(1.0, self._data_wait), 4),
        )

    def _peak_memory(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
