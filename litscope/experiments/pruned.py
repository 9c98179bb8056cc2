"""`litscope.Pruning`: a training in an Optuna objective of one's own, which Optuna may stop at an epoch's end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import lightning.pytorch as L

from litscope.errors import ConfigError, MissingExtra, did_you_mean
from litscope.training.job import RunResult

if TYPE_CHECKING:
    import optuna


class Pruning(L.Callback):
    """Tells an Optuna trial of each epoch, and ends the training, in order, where the pruner says so.

    Args:
        trial: the objective's.
        monitor: the metric by which it is judged; that by which the study ranks its trials.

    Attributes:
        stopped_after: epochs after which the pruner stopped it; None if it did not.

    Raises:
        MissingExtra: without Optuna.

    Example:
        >>> def objective(trial):
        ...     pruning = litscope.Pruning(trial, "val/loss")
        ...     lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        ...     return pruning.value(litscope.fit("digits", lr=lr, epochs=9, callbacks=[pruning]))
    """

    def __init__(self, trial: optuna.Trial, monitor: str = "val/loss") -> None:
        try:
            import optuna  # noqa: F401 - asked before anything is trained
        except ImportError:
            raise MissingExtra("optuna", "tune", "litscope.Pruning") from None
        self.trial, self.monitor = trial, monitor
        self.stopped_after: int | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002 - Lightning's
        """Refuse several processes: each would have a trial of its own.

        Raises:
            ConfigError: saying so.
        """
        if trainer.world_size > 1:
            raise ConfigError(f"Pruning: it is for one device, not {trainer.world_size}. Give fit devices=1.")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002 - Lightning's
        """Report the metric, and ask whether to go on.

        Raises:
            ConfigError: for a metric that is not measured.
        """
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = trainer.callback_metrics.get(self.monitor)
        if found is None:
            known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
            hint = did_you_mean(self.monitor, known)
            raise ConfigError(
                f"Pruning(monitor={self.monitor!r}): it is not measured.{hint} Known: {', '.join(known)}."
            )
        value = float(found)
        if math.isnan(value):  # not defined in this epoch
            return
        self.trial.report(value, trainer.current_epoch)
        if self.trial.should_prune():
            self.stopped_after = trainer.current_epoch + 1
            trainer.should_stop = True

    def value(self, result: RunResult) -> float:
        """The metric of the best epoch, which the objective returns.

        Raises:
            optuna.TrialPruned: if the training was stopped.
            ConfigError: if the run has no such metric.
        """
        import optuna

        if self.stopped_after is not None:
            raise optuna.TrialPruned(f"stopped after {self.stopped_after} epochs")
        if self.monitor not in result.metrics:
            raise ConfigError(
                f"Pruning(monitor={self.monitor!r}): the run's best epoch has no such metric, or not a finite one. "
                f"It has {', '.join(sorted(result.metrics))}."
            )
        return result.metrics[self.monitor]
