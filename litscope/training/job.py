"""The records of a run: what every process knows before it trains, what came out, and the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
from lightning.pytorch.loggers import Logger

from litscope.claims import Claim
from litscope.config.recipe import Recipe
from litscope.curation.run_list import in_short
from litscope.data.datamodule import ClassificationData
from litscope.data.sampler import Ids, first_steps
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir
from litscope.training.hardware import Plan
from litscope.training.loop.stride import Stride

OnEpoch = Callable[[Mapping[str, Any]], bool]
"""Called after each epoch with its line of metrics/epochs.jsonl; returns whether the run should end there."""


@dataclass(frozen=True)
class Job:
    """What every process of a run knows before it trains.

    Attributes:
        recipe: resolved, so nothing that matters is open; with the settings that were changed while the run trained.
        asked: the same without those changes, as in recipe.yaml.
        data: opened.
        classifier: built right after the random generators were seeded; training draws on from there.
        claim: to the run's folder; without a token on every process but the first, until they have met.
        attempt: number of this attempt, from 1; 0 on every process but the first.
        checkpoint: what the run goes on from.
        callbacks: the caller's own.
        loggers: where metrics go besides the run's files; of the first process, and empty once they are closed.
        files: name -> content of what the other processes need beside the recipe.
        stride: for a run that takes several steps in one call.
        on_epoch: called after each epoch, on the first process.
    """

    recipe: Recipe
    asked: Recipe
    plan: Plan
    data: ClassificationData
    classifier: Classifier
    claim: Claim
    attempt: int
    checkpoint: Path | None
    callbacks: Sequence[L.Callback] = ()
    loggers: list[Logger] = field(default_factory=list)
    files: Mapping[str, bytes] = field(default_factory=dict)
    stride: Stride | None = None
    on_epoch: OnEpoch | None = None

    @property
    def run(self) -> RunDir:
        """The run's folder."""
        return self.claim.run

    @property
    def is_first(self) -> bool:
        """Whether this process speaks, and writes what is not the ledger's."""
        return self.attempt > 0

    def evaluated_ids(self, split: str) -> Ids:
        """(n,) int64, ascending: the samples of val or test that this run evaluates, on all devices together."""
        training = self.recipe.training
        limit = training.limit_val_batches if split == "val" else training.limit_test_batches
        if training.fast_dev_run:
            limit = 1
        return first_steps(self.data.active_ids(split), limit, self.data.batch_size, self.plan.world_size)


@dataclass(frozen=True)
class Outcome:
    """What came out of a training that reached its end.

    Attributes:
        epochs: number of complete epochs, earlier attempts included.
        best: path of the best checkpoint, or "".
        evaluation: metrics of the evaluation with the best weights.
        confusion: (C, C) int64 of that evaluation, row = label.
        ensemble: of an ensemble, what it learned and whether it beats its best member (`fusing.fuse_at_end`).
        near_duplicates: of a run on features, what was found (`surroundings.look_around`).
    """

    epochs: int
    global_step: int
    best: str
    num_parameters: int
    evaluation: dict[str, float] = field(default_factory=dict)
    confusion: np.ndarray[Any, Any] | None = None
    ensemble: dict[str, Any] | None = None
    near_duplicates: dict[str, Any] | None = None

    @property
    def evaluated(self) -> str:
        """The split that was evaluated with the best weights: test, or where there is none val."""
        return "test" if any(name.startswith("test/") for name in self.evaluation) else "val"


@dataclass(frozen=True)
class RunResult:
    """A run that has ended.

    Attributes:
        run: its folder.
        summary: what summary.json holds.
    """

    run: RunDir
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return f"RunResult({in_short(self.run, self.summary)})"

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best epoch, and those of the test set with its weights."""
        return dict(self.summary["metrics"]["best"])
