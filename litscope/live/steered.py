"""What `steering` asks of a training that it steers, whoever wrote its loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from litscope.ledger.journal.actions import Decisions

Ids = NDArray[np.int64]


class Moment(NamedTuple):
    """Where a run stands when actions are applied.

    Attributes:
        step: optimizer steps completed.
        epoch: that runs, or has just ended.
        batches_done: of that epoch; 0 at its start.
        is_over: whether the epoch's training is over: validation runs, or the epoch ends.
        is_validating: whether a validation is under way.
    """

    step: int
    epoch: int
    batches_done: int
    is_over: bool
    is_validating: bool = False

    @property
    def epochs_done(self) -> int:
        """Epochs whose training is over."""
        return self.epoch + self.is_over


class Later(Exception):
    """An action that cannot be applied at this moment, and can soon: it stays in the queue."""


class Steered(Protocol):
    """A training that is under way. Every method does the same on every rank."""

    @property
    def num_edits(self) -> int:
        """Edits of validation or test samples so far; metrics before and after one differ in meaning."""

    @property
    def num_samples(self) -> int:
        """Ids are from 0 to below this."""

    def asked(self) -> dict[str, Any]:
        """What a person asked for at the start: `settings` by name, and a `plan` that can be compared."""

    def restore(self, decisions: Decisions, state: Mapping[str, Any]) -> None:
        """Take up the decisions of a checkpoint, and what `state` returned."""

    def keep_plan(self, state: Mapping[str, Any]) -> None:
        """Go on with the schedule as it was planned."""

    def state(self) -> dict[str, Any]:
        """For a checkpoint: plain values."""

    def follow(self, decisions: Decisions, moment: Moment, num_ranks: int) -> list[str]:
        """Follow these decisions in place of those before, and return remarks for the person.

        Raises:
            ConfigError: if it cannot; then nothing has changed.
            Later: if it cannot at this moment; likewise.
        """

    def save_copy(self, moment: Moment) -> str:
        """Write a checkpoint that stays, and return its path. Raises ConfigError where it cannot."""

    def evaluate_now(self, ids: Ids, moment: Moment) -> dict[str, float]:
        """Record an evaluation of these samples, and return its metrics. Raises ConfigError where it cannot."""

    def ids_of(self, split: str) -> Ids:
        """The samples of a split that count now."""

    def readable(self, ids: Ids) -> Ids:
        """Those of `ids` that can be shown to the model."""

    def prepare_epoch(self) -> None:
        """Before an epoch starts."""

    def epoch_starts(self) -> None:
        """At an epoch's start, when its loader is there."""
