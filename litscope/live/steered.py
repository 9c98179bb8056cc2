"""What `steering` needs from a training that it steers, whoever wrote the loop."""

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
        epoch: the epoch that is running, or has just ended.
        batches_done: batches of that epoch; 0 at its start.
        is_over: whether the epoch's training is over, so that it is validating or ending.
        is_validating: whether a validation is in progress.
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
    """An action that cannot be applied right now, but can be soon: it stays in the queue."""


class Steered(Protocol):
    """A training in progress. Every method does the same on every rank."""

    @property
    def num_edits(self) -> int:
        """Edits of validation or test samples so far; metrics before and after one differ in meaning."""

    @property
    def num_samples(self) -> int:
        """Ids go from 0 to one less than this."""

    def asked(self) -> dict[str, Any]:
        """What a person asked for at the start: `settings` by name, and a `plan` that can be compared."""

    def restore(self, decisions: Decisions, state: Mapping[str, Any]) -> None:
        """Restore the decisions of a checkpoint, and what `state` returned."""

    def keep_plan(self, state: Mapping[str, Any]) -> None:
        """Go on with the schedule as planned."""

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, in plain values."""

    def follow(self, decisions: Decisions, moment: Moment, num_ranks: int) -> list[str]:
        """Follow these decisions, which replace the earlier ones, and return remarks for the person.

        Raises:
            ConfigError: if it cannot. Nothing has changed then.
            Later: if it cannot right now. Nothing has changed then.
        """

    def save_copy(self, moment: Moment) -> str:
        """Write a checkpoint that is kept, and return its path. Raises ConfigError if it cannot."""

    def evaluate_now(self, ids: Ids, moment: Moment) -> dict[str, float]:
        """Record an evaluation of these samples, and return its metrics. Raises ConfigError if it cannot."""

    def ids_of(self, split: str) -> Ids:
        """The samples of a split that count now."""

    def readable(self, ids: Ids) -> Ids:
        """The `ids` that can be shown to the model."""

    def prepare_epoch(self) -> None:
        """Called before an epoch starts."""

    def epoch_starts(self) -> None:
        """Called when an epoch starts and has its loader."""
