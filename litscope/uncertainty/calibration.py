"""Calibration: of the predictions that are made with confidence p, is the share p right?

Confidences are sorted and cut into bins of equally many samples (equal mass), as bins of equal width leave most of them
empty where a network is sure. The expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599) is
the mean over bins of |share right - mean confidence|, each bin with its share of the samples.

A perfectly calibrated network has an error above zero, too, as every bin's share of right answers scatters. The
corrected error takes off what the scatter adds (the idea of Kumar et al. 2019, arXiv:1909.10155, section 5; here in
closed form: for a gap d with the deviation s, E|N(d, s^2)| - |d| is what it adds). As the gaps that are seen are
scattered themselves, that is about half of it where the network is calibrated, and nearly all where it is far from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Bins of predictions by their confidence, B of them: the points of a reliability diagram.

    Attributes:
        count: (B,) samples.
        confidence: (B,) their mean confidence.
        accuracy: (B,) the share of them that is right.
    """

    count: npt.NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1; nan without samples."""
        return self._mean(np.abs(self.accuracy - self.confidence))

    @property
    def corrected_error(self) -> float:
        """The same less what the scatter of few samples adds to it, at least 0; nan without samples."""
        gap = self.accuracy - self.confidence
        # The share that a calibrated bin would have right has the variance p (1 - p) / n.
        spread = np.sqrt(np.maximum(self.confidence * (1.0 - self.confidence), 1e-12) / self.count)
        folded = spread * np.sqrt(2.0 / np.pi) * np.exp(-(gap**2) / (2.0 * spread**2))
        # math's, bin by bin: the studio shows this, and scipy would take a tenth of its memory
        folded = folded + gap * np.array([math.erf(one) for one in gap / (spread * np.sqrt(2.0))])
        found = self._mean(2.0 * np.abs(gap) - folded)
        return max(0.0, found) if found == found else found

    def _mean(self, values: Floats) -> float:
        total = self.count.sum()
        return float((values * self.count).sum() / total) if total else float("nan")


def reliability(confidence: npt.ArrayLike, is_right: npt.ArrayLike, num_bins: int = NUM_BINS) -> Reliability:
    """Bins of equally many predictions, from the least confident on.

    Args:
        confidence: (N,) of each prediction, 0 to 1.
        is_right: (N,) bool.
        num_bins: at most; never more than there are samples.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(is_right, np.float64)
    order = np.argsort(sure, kind="stable")
    bins = [part for part in np.array_split(order, min(num_bins, max(1, len(order)))) if len(part)]
    return Reliability(
        np.array([len(part) for part in bins], np.int64),
        np.array([sure[part].mean() for part in bins], np.float64),
        np.array([right[part].mean() for part in bins], np.float64),
    )


def reliability_of(probs: Floats, label: Labels, num_bins: int = NUM_BINS) -> Reliability:
    """That of the predicted classes of (N, C) probabilities."""
    predicted = probs.argmax(1)
    return reliability(probs[np.arange(len(probs)), predicted], predicted == label, num_bins)


def classwise_error(probs: Floats, label: Labels, num_bins: int = NUM_BINS) -> float:
    """Mean over the classes of the expected calibration error of "it is this class" (Kull et al. 2019,
    arXiv:1910.12656); nan without samples.
    """
    errors = [reliability(probs[:, c], label == c, num_bins).error for c in range(probs.shape[1])]
    return float(np.mean(errors))
