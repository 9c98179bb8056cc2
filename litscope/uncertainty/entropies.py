"""Entropies of predictions, in nats.

The predictive entropy of a mean prediction splits into what its parts (members of an ensemble, passes of dropout) say
themselves, and what they disagree about (Depeweg et al. 2018, arXiv:1710.07283): H(mean p) = mean H(p) + I.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import entr

Floats = npt.NDArray[np.float64]


def predictive_entropy(probs: npt.ArrayLike) -> Floats:
    """(N,) entropy of probabilities (N, C): 0 where one class is certain, log C where all are alike."""
    return np.asarray(entr(np.asarray(probs, np.float64)).sum(-1))


def expected_entropy(probs: npt.ArrayLike, weights: Sequence[float] | None = None) -> Floats:
    """(N,) mean entropy of the M parts of a prediction (M, N, C): what each of them holds for undecided.

    Args:
        weights: (M,) how much each part counts; None: alike.
    """
    return np.asarray(np.average(predictive_entropy(probs), axis=0, weights=weights))


def mutual_information(probs: npt.ArrayLike, weights: Sequence[float] | None = None) -> Floats:
    """(N,) predictive entropy of the mean of (M, N, C), less the expected one; 0 where all parts agree. `weights` as
    there.
    """
    each = np.asarray(probs, np.float64)
    mean = np.average(each, axis=0, weights=weights)
    return np.maximum(0.0, predictive_entropy(mean) - expected_entropy(each, weights))
