"""How well samples of no known class are told from those of the run, by how unsure the network is of them.

The area under the ROC curve of "it is a stranger" (Hendrycks and Gimpel 2017, arXiv:1610.02136): 1 where every stranger
is less sure than every sample of the run, 0.5 where that says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from litscope.models.readout import Readout
from litscope.training.readouts import Answers, scaling_of
from litscope.uncertainty.bootstrap import Ids, intervals
from litscope.uncertainty.entropies import predictive_entropy
from litscope.uncertainty.operating import operating_points

Floats = npt.NDArray[np.float64]


def ood(answers: Answers, strangers: Answers, readout: Readout | None) -> dict[str, Any]:
    """Areas under the ROC curve, as plain values for JSON.

    Args:
        answers: of samples of the run's classes, by groups where these are known.
        strangers: of samples of none of its classes.
        readout: how the logits of both are read.

    Returns:
        num_samples, num_strangers; auroc: {by: {value, low, high}} by `p_max`, by `entropy` and, where the network has
        several parts, by `mutual_information`.
    """
    scores = [np.concatenate(pair) for pair in zip(_scores(answers, readout), _scores(strangers, readout), strict=True)]
    count, total = len(answers.label), len(answers.label) + len(strangers.label)
    is_strange = np.arange(total) >= count
    orders = [np.argsort(-score, kind="stable") for score in scores]
    units = None
    if answers.groups is not None:
        units = np.concatenate([answers.groups, [f"stranger {i}" for i in range(total - count)]])

    def areas(ids: Ids) -> Sequence[float]:
        times = np.bincount(ids, minlength=total)
        return [
            operating_points(score[order], is_strange[order], times[order]).auroc()
            for score, order in zip(scores, orders, strict=True)
        ]

    found = intervals(areas, total, units)
    names = ("p_max", "entropy", "mutual_information")[: len(scores)]
    auroc = {
        name: {part: value for part, value in asdict(each).items() if part != "num_units"}
        for name, each in zip(names, found, strict=True)
    }
    return {"num_samples": count, "num_strangers": total - count, "auroc": auroc}


def _scores(answers: Answers, readout: Readout | None) -> list[Floats]:
    """How unsure the network is of each sample, in each way."""
    probs = scaling_of(readout, answers.logits.shape[1]).probabilities(answers.logits)
    found = [-probs.max(1), predictive_entropy(probs)]
    return found if answers.mutual_information is None else [*found, answers.mutual_information]
