"""Entropies of predictions, in nats.

The predictive entropy of a mean prediction splits into what its parts (members of an ensemble, passes of dropout) say
themselves, and what they disagree about (Depeweg et al. 2018, arXiv:1710.07283): H(mean p) = mean H(p) + I.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import entr

Floats = npt.NDArray[np.float64]


def predictive_entropy(probs: npt.ArrayLike) -> Floats:
    """(N,) entropy of probabilities (N, C): 0 where one class is certain, log C where all are alike."""
    return np.asarray(entr(np.asarray(probs, np.float64)).sum(-1))


def expected_entropy(probs: npt.ArrayLike) -> Floats:
    """(N,) mean entropy of the M parts of a prediction (M, N, C): what each of them holds for undecided."""
    return np.asarray(predictive_entropy(probs).mean(0))


def mutual_information(probs: npt.ArrayLike) -> Floats:
    """(N,) predictive entropy of the mean of (M, N, C), less the expected one; 0 where all parts agree."""
    each = np.asarray(probs, np.float64)
    return np.maximum(0.0, predictive_entropy(each.mean(0)) - expected_entropy(each))
