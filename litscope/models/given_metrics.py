"""GivenMetrics: metrics of torchmetrics that a caller adds to what validation and test measure anyway.

    Classifier(metrics={"kappa": CohenKappa(task="multiclass", num_classes=3)})     val/kappa, test/kappa

Each gets, batch by batch, probabilities (B, C) float32 and labels (B,) int64, without the rows that have no label or
pad a batch. torchmetrics adds its states up over ranks. Training is not measured by them: its batches may be blended,
and its steps wait for nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from litscope.defaults import METRICS, Direction
from litscope.errors import ConfigError

PHASES = ("val", "test")
"""What they measure."""

_MOST_TRIED = 64
"""Rows on which a metric is tried out before the training."""


class GivenMetrics:
    """The caller's metrics, a copy of each for validation and one for the test; their own objects stay as they are.

    Not a module: their states are no weights, and stand in no checkpoint.

    Args:
        metrics: by the name under which each is logged, `val/NAME` and `test/NAME`.

    Raises:
        ConfigError: for what is no metric, or a name that cannot be.
    """

    def __init__(self, metrics: Mapping[str, Metric] | None = None) -> None:
        self._given = _checked(metrics)
        self._of_phase = {phase: {name: m.clone() for name, m in self._given.items()} for phase in PHASES}
        for copies in self._of_phase.values():
            for metric in copies.values():
                metric.reset()

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._given)

    def directions(self) -> dict[str, Direction | None]:
        """Whether less or more of each is better, as its `higher_is_better` says; None where it does not."""
        words: dict[Any, Direction | None] = {True: "max", False: "min"}
        return {name: words.get(metric.higher_is_better) for name, metric in self._given.items()}

    def try_out(self, num_classes: int) -> None:
        """See to it that each takes what it will be given, and answers with a number.

        Raises:
            ConfigError: naming the metric that does not, and why.
        """
        count = min(num_classes, _MOST_TRIED)
        label = torch.arange(count)
        p = torch.full((count, num_classes), 0.5 / (num_classes - 1))
        p[label, label] = 0.5
        for name, given in self._given.items():
            metric = given.clone().cpu()
            metric.reset()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of so few rows it may have something to say
                try:
                    metric.update(p, label)
                    value = metric.compute()
                except Exception as error:  # whatever a metric raises
                    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                    raise ConfigError(
                        f"metrics[{name!r}]: {type(given).__name__} does not take probabilities (B, {num_classes}) and "
                        f"labels (B,): {reason.rstrip('.')}. It is one for several classes, also for two: "
                        f"task='multiclass', num_classes={num_classes}."
                    ) from error
            if not isinstance(value, Tensor | float | int) or (isinstance(value, Tensor) and value.numel() != 1):
                found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise ConfigError(
                    f"metrics[{name!r}]: {type(given).__name__} answers with {found}, and a metric is one number. "
                    "Where it has one for each class, average='macro' gives their mean."
                )

    def add(self, phase: str, log_p: Tensor, label: Tensor) -> None:
        """Show them a batch. This waits for the device.

        Args:
            phase: "val" or "test"; what comes from training is not measured.
            log_p: (B, C) log-probabilities, detached.
            label: (B,) int64; negative rows are left out.
        """
        if not self._given or phase not in self._of_phase:
            return
        counts = label >= 0
        # Not a hair above 1, which rounding may bring: torchmetrics would take the rows for logits.
        p, label = log_p[counts].exp().float().clamp_(max=1), label[counts]
        for metric in self._of_phase[phase].values():
            metric.to(p.device)
            metric.update(p, label)

    def take(self, phase: str) -> dict[str, float]:
        """The metrics over all ranks under `<phase>/<name>`; then start anew. Every rank must call it."""
        if not self._given or phase not in self._of_phase:
            return {}
        copies = self._of_phase[phase]
        values = {f"{phase}/{name}": float(metric.compute()) for name, metric in copies.items()}
        self.reset(phase)
        return values

    def reset(self, phase: str) -> None:
        """Forget the rows since the last `take`."""
        for metric in self._of_phase.get(phase, {}).values():
            metric.reset()


def _checked(metrics: Mapping[str, Metric] | None) -> dict[str, Metric]:
    """Raises ConfigError for what is no dictionary from usable names to metrics."""
    if metrics is None:
        return {}
    if isinstance(metrics, MetricCollection):
        raise ConfigError("metrics: a MetricCollection is given as a dictionary: metrics=dict(collection.items()).")
    if not isinstance(metrics, Mapping):
        raise ConfigError(
            f"metrics={type(metrics).__name__}: it is a dictionary from names to metrics of torchmetrics, such as "
            "{'kappa': CohenKappa(task='multiclass', num_classes=3)}."
        )
    for name, metric in metrics.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise ConfigError(f"metrics: the name {name!r}: it is letters, digits, and any of _.- between them.")
        if name in METRICS:
            raise ConfigError(f"metrics: {name!r} is measured anyway, as val/{name}. Give it another name.")
        if not isinstance(metric, Metric):
            made = " Make an object of the class." if isinstance(metric, type) else ""
            what = metric.__name__ if isinstance(metric, type) else type(metric).__name__
            raise ConfigError(f"metrics[{name!r}]: {what} is no torchmetrics.Metric.{made}")
    return dict(metrics)
