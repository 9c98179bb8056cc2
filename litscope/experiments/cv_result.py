"""What a cross-validation found: metrics of each fold and of all out-of-fold predictions, in words and for programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litscope.console import number_of, table_lines
from litscope.defaults import METRICS
from litscope.evaluation.quality_lines import quality_lines

NUM_DIGITS = 4
NUM_NAMES = 5

Figures = dict[str, float | None]
"""Metrics by name; None where one is undefined."""


@dataclass(frozen=True)
class CvResult:
    """What `cross_validate` found.

    Attributes:
        folds: num_samples and the metrics of each fold, by name; None where a metric is undefined.
        pooled: the metrics of all out-of-fold predictions together.
        absent: the classes that each fold holds no sample of.
        quality: what the pooled probabilities are worth, as `evaluation.quality.quality` returns it: its intervals are
            from draws of whole groups, where there are any.
        calibration: what a temperature is worth, as `evaluation.out_of_fold.calibration` returns it.
        num_groups: groups that were kept together and are drawn together; None where nothing is known of any.
        is_nested: whether each network had validation data of its own, by which its best epoch was chosen.
        num_unreadable: samples of the folds that could not be read, so that nobody predicts them.
        table: the file of the out-of-fold predictions.
        is_at_once: whether the networks trained in one run.
    """

    dataset: str
    folds: tuple[Figures, ...]
    pooled: Figures
    table: Path
    is_at_once: bool
    wall_s: float
    absent: tuple[tuple[str, ...], ...] = ()
    quality: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    num_groups: int | None = None
    num_unreadable: int = 0
    is_nested: bool = False

    def __repr__(self) -> str:
        accuracy = _shown(self.pooled["accuracy"])
        return f"CvResult({self.dataset!r}: {len(self.folds)} folds, accuracy {accuracy} pooled, {str(self.table)!r})"

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        names = list(METRICS)
        rows = [
            [str(number), f"{int(fold['num_samples'] or 0):,}", *(_shown(fold[name]) for name in names)]
            for number, fold in enumerate(self.folds)
        ]
        mean, deviation = self._over_folds(statistics.fmean), self._over_folds(statistics.stdev)
        rows.append(["mean", "", *(_shown(mean[name]) for name in names)])
        rows.append(["sd", "", *(_shown(deviation[name]) for name in names)])
        num_pooled = int(self.pooled["num_samples"] or 0)
        rows.append(["pooled", f"{num_pooled:,}", *(_shown(self.pooled[name]) for name in names)])
        how = "in one run" if self.is_at_once else "one after the other"
        how += ", each with validation data of its own" if self.is_nested else ""
        return [
            f"{self.dataset}: {len(self.folds)} folds, trained {how}, {self.wall_s:.0f} s",
            *table_lines(["fold", "samples", *names], rows, right=["samples", *names]),
            *self._notes(),
            *self._about_quality(),
            f"out-of-fold predictions: {self.table}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {
            "dataset": self.dataset,
            "num_folds": len(self.folds),
            "folds": list(self.folds),
            "mean": self._over_folds(statistics.fmean),
            "sd": self._over_folds(statistics.stdev),
            "pooled": self.pooled,
            "absent": [list(names) for names in self.absent],
            "quality": self.quality,
            "calibration": self.calibration,
            "num_groups": self.num_groups,
            "num_unreadable": self.num_unreadable,
            "is_nested": self.is_nested,
            "predictions": str(self.table),
            "is_at_once": self.is_at_once,
            "wall_s": self.wall_s,
        }

    def _over_folds(self, statistic: Callable[[list[float]], float]) -> Figures:
        """A statistic of the folds in which a metric is defined; None for fewer than two of them."""
        found = {name: [value for fold in self.folds if (value := fold[name]) is not None] for name in METRICS}
        return {name: float(statistic(values)) if len(values) > 1 else None for name, values in found.items()}

    def _notes(self) -> list[str]:
        """Why the mean over the folds and the figure of all predictions can differ much."""
        lacking = [number for number, names in enumerate(self.absent) if names]
        if not lacking:
            return []
        names = sorted({name for absent in self.absent for name in absent})
        some = ", ".join(names[:NUM_NAMES]) + (f" and {len(names) - NUM_NAMES} more" if len(names) > NUM_NAMES else "")
        which = f"fold{'s' if len(lacking) > 1 else ''} {', '.join(map(str, lacking))}"
        why = (
            f"{which}: no sample of {some}. Metrics that are means over classes (precision, recall, f1, auroc, ap) "
            "are there over other classes than in the rest, so their mean over the folds is not that of the whole. "
            "Pooled is over all classes, and compares probabilities of different networks."
        )
        return [
            why,
            *(["A metric is - where it is undefined; its mean is over the other folds."] if self._is_gappy else []),
        ]

    def _about_quality(self) -> list[str]:
        if not self.quality:  # nothing was asked of the predictions
            return []
        units = "samples" if self.num_groups is None else f"{number_of(self.num_groups, 'group')}, drawn whole"
        of = self.calibration
        before, after = of["before"], of["after"]
        return [
            "",
            *quality_lines(self.quality),
            f"intervals: of all out-of-fold predictions, from draws of {units}; they hold for these networks, and tell "
            "nothing of how other training data would have changed them",
            f"a temperature of {of['temperature']:.3f} fits them all; scaled by that of the other folds: NLL "
            f"{before['nll']:.4f} -> {after['nll']:.4f}, ECE {before['ece']:.4f} -> {after['ece']:.4f}",
        ]

    @property
    def _is_gappy(self) -> bool:
        return any(value is None for fold in self.folds for value in fold.values())


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.{NUM_DIGITS}f}"
