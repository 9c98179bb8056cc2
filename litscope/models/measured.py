"""Measured: a LightningModule that counts rows of training, validation and test, and logs metrics at their end."""

from __future__ import annotations

import warnings

import lightning.pytorch as L
from torch import Tensor

from litscope.models.given_metrics import GivenMetrics
from litscope.models.metrics import PhaseMetrics
from litscope.models.phases import Phases


class Measured(L.LightningModule):
    """The base of the classifier: its hooks at the two ends of an epoch.

    A step adds its rows to `phase(NAME)`, and to `given`; `hparams["num_classes"]` is known by then.

    Attributes:
        given: the caller's own metrics of validation and test.
    """

    def __init__(self) -> None:
        super().__init__()
        self.phases = Phases()
        self.given = GivenMetrics()

    def phase(self, name: str) -> PhaseMetrics:
        """The metrics of "train", "val" or "test"."""
        return self.phases.of(name, self.hparams["num_classes"])

    def on_measured(self, phase: str, values: dict[str, float]) -> None:
        """Override this to use the metrics of a finished epoch, which are the same on all ranks."""

    def metric_state(self) -> dict[str, Tensor]:
        """This rank's training metrics of the epoch so far, for a checkpoint in mid-epoch."""
        return self.phase("train").state()

    def load_metric_state(self, state: dict[str, Tensor]) -> None:
        """Go on with training metrics where `metric_state` was taken."""
        self.phase("train").load_state(state, self.device)

    def confusion(self, phase: str) -> Tensor | None:
        """Counts of the last epoch of "train", "val" or "test": (C, C) int64 on the CPU, over all ranks.

        Rows are labels, columns predictions; None before the first epoch of that phase has ended.
        """
        return self.phases.confusion(phase)

    def on_train_epoch_start(self) -> None:
        """Forget the rows of an epoch that was broken off."""
        self.phases.reset("train")

    def on_validation_epoch_start(self) -> None:
        """Forget the rows of a validation that was broken off."""
        self.phases.reset("val")
        self.given.reset("val")

    def on_test_epoch_start(self) -> None:
        """Forget the rows of a test that was broken off."""
        self.phases.reset("test")
        self.given.reset("test")

    def on_train_epoch_end(self) -> None:
        """Log the metrics of training."""
        self._finish("train")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of validation."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test."""
        self._finish("test")

    def _finish(self, phase: str) -> None:
        values = self.phase(phase).compute(self.device)
        values |= self.phases.take_members(phase, lambda total: self.trainer.strategy.reduce(total, reduce_op="sum"))
        if values:
            values |= self.given.take(phase)
        # They are the same on all ranks. With sync_dist, who reads them first would wait until all ranks read them.
        self.log_dict(values, batch_size=1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist=True")
            self.trainer.callback_metrics  # noqa: B018 - Lightning says it once, where they are first read: here
        self.on_measured(phase, values)
