"""Selective prediction: answers are given from the surest on, and the rest is withheld.

The risk at a coverage is the error rate among the answers that are given; the area under this curve (AURC) is its mean
over all coverages (Geifman et al. 2019, arXiv:1805.08206). It falls with the error rate and with how well confidence
ranks errors last; the excess over the area of a perfect ranking (E-AURC) tells the second alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """The curve of N answers.

    Attributes:
        coverage: (K,) shares of the answers that are given, ascending, one for each distinct confidence; the last is 1.
        risk: (K,) error rates among them.
        area: AURC, the mean risk when the N answers are given one by one; among answers of one confidence any order is
            as good as another, and their mean counts.
        best_area: of the same answers in the best order.
    """

    coverage: Floats
    risk: Floats
    area: float
    best_area: float

    @property
    def excess_area(self) -> float:
        """E-AURC."""
        return self.area - self.best_area


def risk_coverage(confidence: npt.ArrayLike, is_right: npt.ArrayLike) -> RiskCoverage:
    """The curve of (N,) confidences, whatever their unit, and (N,) bools.

    Raises:
        ValueError: without answers.
    """
    sure, wrong = np.asarray(confidence, np.float64), ~np.asarray(is_right, bool)
    total = len(sure)
    if not total:
        raise ValueError("a risk-coverage curve needs at least one answer")
    order = np.argsort(-sure, kind="stable")
    sure, wrong = sure[order], wrong[order]
    ends = np.flatnonzero(np.append(sure[1:] != sure[:-1], True)) + 1  # after each run of equal confidences
    starts = np.append(0, ends[:-1])
    errors = np.append(0, np.cumsum(wrong))
    given = np.arange(1, total + 1)
    # Within a run the expected number of errors grows evenly.
    run = np.repeat(np.arange(len(ends)), ends - starts)
    rate = (errors[ends] - errors[starts]) / (ends - starts)
    expected = errors[starts][run] + rate[run] * (given - starts[run])
    num_wrong = int(wrong.sum())
    at_best = np.maximum(0, given - (total - num_wrong))
    return RiskCoverage(
        ends / total,
        errors[ends] / ends,
        float((expected / given).mean()),
        float((at_best / given).mean()),
    )
