"""Two classes and a threshold: samples with a score of at least t are called positive.

Thresholds are sought among the scores that were seen, and +inf, which calls nothing positive. What is found is what the
same samples would have got; choose on data kept aside, and report on others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Aim = Literal["f1", "youden", "precision", "recall", "fpr"]


@dataclass(frozen=True)
class Operating:
    """All operating points of N scores, from the strictest on: K of them.

    Attributes:
        threshold: (K,) descending; the first is inf.
        hits, alarms: (K,) positives and negatives that are called positive.
        positives, negatives: how many there are.
    """

    threshold: Floats
    hits: Counts
    alarms: Counts
    positives: int
    negatives: int

    @property
    def recall(self) -> Floats:
        """(K,) the true positive rate; nan without positives."""
        return _share(self.hits, self.positives)

    @property
    def fpr(self) -> Floats:
        """(K,) the false positive rate; nan without negatives."""
        return _share(self.alarms, self.negatives)

    @property
    def precision(self) -> Floats:
        """(K,) the share of positives among what is called so; 1 where nothing is."""
        called = self.hits + self.alarms
        return np.where(called > 0, self.hits / np.maximum(called, 1), 1.0)

    def tpr_at_alarms(self, num_alarms: int) -> float:
        """The most positives found, as a share, with at most so many false alarms; nan without positives. With 0 it is
        TPR_0 of the lens-finding challenge (Metcalf et al. 2019, arXiv:1802.03609).
        """
        return float(self.recall[np.flatnonzero(self.alarms <= num_alarms)[-1]])

    def tpr_at_rate(self, per_negative: float) -> float | None:
        """The same at a rate of false alarms; None where there are too few negatives for one alarm at that rate."""
        if self.negatives * per_negative < 1.0:
            return None
        return self.tpr_at_alarms(int(np.floor(self.negatives * per_negative + 1e-9)))

    def auroc(self, most_fpr: float = 1.0) -> float:
        """The area under TPR over FPR up to `most_fpr`, divided by it, so that perfect ranking gives 1 and a coin
        most_fpr / 2; nan without positives or negatives.
        """
        if not self.positives or not self.negatives:
            return float("nan")
        x, y = self.fpr, self.recall
        inside = int(np.searchsorted(x, most_fpr, "right"))  # a rise at the end itself has no width
        end = np.interp(most_fpr, x[inside - 1 : inside + 1], y[inside - 1 : inside + 1])
        return float(np.trapezoid(np.append(y[:inside], end), np.append(x[:inside], most_fpr)) / most_fpr)

    def best(self, aim: Aim, value: float | None = None) -> float | None:
        """The threshold for an aim.

        f1, youden: the highest F1, or TPR - FPR. precision, recall: at least `value`, with the most of the other.
        fpr: at most `value`, with the most recall. Between equals the strictest. None where none fulfils it.
        """
        if aim == "f1":
            merit = 2 * self.hits / np.maximum(1, self.hits + self.alarms + self.positives)
            allowed = np.ones(len(merit), bool)
        elif aim == "youden":
            merit, allowed = self.recall - self.fpr, np.ones(len(self.hits), bool)
        elif aim == "recall":
            merit, allowed = self.precision, self.recall >= _at_least(value)
        else:
            merit = self.recall
            allowed = self.precision >= _at_least(value) if aim == "precision" else self.fpr <= (value or 0.0) + 1e-12
            allowed = allowed & (self.hits + self.alarms > 0)
        if not allowed.any() or np.isnan(merit).all():
            return None
        return float(self.threshold[int(np.argmax(np.where(allowed, merit, -np.inf)))])


def operating_points(score: npt.ArrayLike, is_positive: npt.ArrayLike, times: npt.ArrayLike | None = None) -> Operating:
    """All operating points of (N,) scores and (N,) bools.

    Args:
        times: (N,) int, how often each sample counts; None: once.
    """
    value, truth = np.asarray(score, np.float64), np.asarray(is_positive, bool)
    count = np.ones(len(value), np.int64) if times is None else np.asarray(times, np.int64)
    order = np.argsort(-value, kind="stable")  # in linear time where they are sorted already
    value, positive, negative = value[order], (truth * count)[order], (~truth * count)[order]
    last = np.flatnonzero(np.append(value[1:] != value[:-1], True)) if len(value) else np.empty(0, np.int64)
    hits, alarms = np.cumsum(positive), np.cumsum(negative)
    return Operating(
        np.append(np.inf, value[last]),
        np.append(0, hits[last]).astype(np.int64),
        np.append(0, alarms[last]).astype(np.int64),
        int(positive.sum()),
        int(negative.sum()),
    )


def _at_least(value: float | None) -> float:
    return (value or 0.0) - 1e-12


def _share(counts: Counts, total: int) -> Floats:
    return counts / total if total else np.full(len(counts), np.nan)
