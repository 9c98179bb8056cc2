"""Proper scores: in the mean, only the true probabilities minimise them (Gneiting and Raftery 2007)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

LEAST = 1e-12
"""A probability below it counts as this one: nobody can be infinitely wrong by rounding."""


def log_losses(probs: Floats, label: Labels) -> Floats:
    """(N,) -log of each sample's probability of its label, in nats; its mean is the NLL."""
    return -np.log(np.maximum(probs[np.arange(len(label)), label], LEAST))


def brier_scores(probs: Floats, label: Labels) -> Floats:
    """(N,) squared distance of each row to its label as 0s and a 1, from 0 to 2 (Brier 1950)."""
    truth = np.zeros_like(probs)
    truth[np.arange(len(label)), label] = 1.0
    return np.asarray(np.square(probs - truth).sum(1))
