"""Labels that out-of-sample probabilities speak against: confident learning (Northcutt, Jiang and Chuang 2021).

A network is no judge of labels that it has learned by heart, so the probabilities must be of networks that have not
seen the samples: those of cross-validation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

_ROUNDING = 1e-6
"""A probability counts as reaching a threshold if it falls short of it by rounding alone."""


def margins(probs: Floats, label: Labels) -> tuple[Floats, Labels]:
    """How far each label is ahead of the other classes, and which of those comes next.

    Returns:
        (N,) from -1 to 1: the probability of the label less that of the most probable other class; (N,) this class.
    """
    at = np.arange(len(label))
    others = probs.copy()
    others[at, label] = -np.inf
    rival = others.argmax(1).astype(np.int64)
    return probs[at, label] - probs[at, rival], rival


def thresholds(probs: Floats, label: Labels) -> Floats:
    """(C,) for each class the mean probability that the samples with its label have of it; inf without such a sample.

    A class that a network is never very sure of so needs less for a sample to count as one of its own.
    """
    found = np.full(probs.shape[1], np.inf)
    for index in np.unique(label):
        found[index] = probs[label == index, index].mean()
    return found


def doubted(probs: Floats, label: Labels) -> npt.NDArray[np.bool_]:
    """(N,) whether a sample counts as one of another class than its label, and is taken for another one.

    It counts as one of the most probable class of those that reach their threshold. The samples off the diagonal of
    the "confident joint" are these, without those whose label is the most probable class all the same.
    """
    reach = probs >= thresholds(probs, label) - _ROUNDING
    counted = np.where(reach, probs, -np.inf).argmax(1)
    return np.asarray(reach.any(1) & (counted != label) & (probs.argmax(1) != label))
