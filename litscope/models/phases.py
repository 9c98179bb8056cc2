"""Phases: the rows of training, validation and test, each with its metrics, until its epoch ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from torch import Tensor

from litscope.models.metrics import PhaseMetrics
from litscope.models.networks.members import MemberMetrics


class Phases:
    """What a classifier measures in "train", "val" and "test"."""

    def __init__(self) -> None:
        self._metrics: dict[str, PhaseMetrics] = {}
        self._members: dict[str, MemberMetrics] = defaultdict(MemberMetrics)

    def of(self, phase: str, num_classes: int) -> PhaseMetrics:
        """The metrics of a phase, made at the first call."""
        if phase not in self._metrics:
            self._metrics[phase] = PhaseMetrics(phase, num_classes)
        return self._metrics[phase]

    def confusion(self, phase: str) -> Tensor | None:
        """Counts of the last epoch of a phase, (C, C) int64 on the CPU; None before the first."""
        return self._metrics[phase].confusion if phase in self._metrics else None

    def reset(self, phase: str) -> None:
        """Forget the rows of an epoch that was broken off."""
        if phase in self._metrics:
            self._metrics[phase].reset()
        self._members[phase].reset()

    def add_members(self, phase: str, logits: Tensor, label: Tensor) -> None:
        """Count a batch of each member; see `MemberMetrics.add`."""
        self._members[phase].add(logits, label)

    def take_members(self, phase: str, add_up: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Accuracy and loss of each member as `<phase>/accuracy_member_N`, and start anew; empty where there are none.

        Args:
            add_up: sums a tensor over the ranks.
        """
        found = self._members[phase].take(add_up)
        return {
            f"{phase}/{name}_member_{number}": value
            for name, values in found.items()
            for number, value in enumerate(values)
        }
