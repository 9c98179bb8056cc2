"""EpochClock: how long an epoch takes, even if an interruption cuts it in two."""

from __future__ import annotations

import time


class EpochClock:
    """Seconds and samples of the current epoch.

    Attributes:
        epoch_s: the whole epoch so far, validation included.
        train_s: its training batches alone.
        num_samples: training samples so far, on all ranks.
    """

    def __init__(self) -> None:
        self.start()

    def start(self, earlier: dict[str, float] | None = None) -> None:
        """Start an epoch, or go on with one of which `earlier` (a `state`) was done before an interruption."""
        earlier = earlier or {}
        self._epoch_began = time.monotonic() - earlier.get("epoch_s", 0.0)
        self._train_began = time.monotonic() - earlier.get("train_s", 0.0)
        self._train_s: float | None = None
        self.num_samples = int(earlier.get("num_samples", 0))

    def training_ends(self) -> None:
        """Note that the epoch's last training batch is done, on the device too."""
        self._train_s = time.monotonic() - self._train_began

    def skip(self, seconds: float) -> None:
        """Leave out the seconds of a pause."""
        self._epoch_began += seconds
        self._train_began += 0.0 if self._train_s is not None else seconds

    @property
    def epoch_s(self) -> float:
        """Seconds since the epoch began."""
        return time.monotonic() - self._epoch_began

    @property
    def train_s(self) -> float:
        """Seconds in training batches."""
        return time.monotonic() - self._train_began if self._train_s is None else self._train_s

    def state(self) -> dict[str, float]:
        """What `start` needs to go on after an interruption."""
        return {"epoch_s": self.epoch_s, "train_s": self.train_s, "num_samples": float(self.num_samples)}
