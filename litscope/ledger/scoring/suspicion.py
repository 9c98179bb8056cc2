"""The ranking of label errors: from what the visits in the window add up to, to one rank per sample. Pure numpy.

`scores` keeps the sums, `clock` says which epochs are in the window. Here AUM (Pleiss et al. 2020,
arXiv:2001.10528) meets the counts of confident learning (Northcutt et al. 2021, arXiv:1911.00068).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

USUAL_SAMPLES = 20
"""How many samples with the mean share of mistakes are added to each class, so that a few mistakes make no lift."""

MOST_LIFT = 10.0
"""Lifts are clipped to this and its reciprocal: about what ten classes allow, as in the data of the bench."""

HALF_UNEVEN = 2.0
"""Unevenness of the mistakes at which the lift has half its weight, as if a third of the pairs had all of them."""


class Window(NamedTuple):
    """What the visits of N samples in the window of the memorisation clock add up to.

    Attributes:
        num_visits: (N,) visits in the window; the sums below go over them.
        margin: (N,) float64, logit units.
        p_label: (N,) float64, probability of the label.
        p_rival: (N,) float64, probability of the strongest other class, p_label e^-margin.
    """

    num_visits: Array
    margin: Floats
    p_label: Floats
    p_rival: Floats


class Ranking(NamedTuple):
    """What the ranking says of N samples.

    Attributes:
        suspicion: (N,) float64, rank in the split: 1 for the most suspicious sample, 0 for the least. Ties get their
            mean rank, a sample alone in its split 0.5, one without a visit or a label NaN.
        looks_wrong: (N,) bool, whether the sample is held for another class than its label (`held_for`).
    """

    suspicion: Floats
    looks_wrong: npt.NDArray[np.bool_]


def rank(window: Window, split: Array, label: Array, rival: Array) -> Ranking:
    """How much each sample looks like a label error, within its split.

    The rank is by -AUM over the window, plus the logarithm of how common the supposed mistake is in this
    run (`mistake_prior`). -AUM says by how many nats the model prefers another class, so the two add up as a
    log-likelihood and a log-prior do.

    Args:
        window: of the N samples.
        split: (N,) split codes.
        label: (N,) class index.
        rival: (N,) class that the model held against the label, -1 for none.
    """
    suspicion, looks_wrong = np.full(len(split), np.nan), np.zeros(len(split), np.bool_)
    is_known = (window.num_visits > 0) & np.isfinite(window.margin)
    for code in np.unique(split[is_known]):
        at = np.flatnonzero(is_known & (split == code))
        aum, p_label, p_rival = (sums[at] / window.num_visits[at] for sums in window[1:])
        held = held_for(label[at], rival[at], aum, p_label, p_rival)
        ranks = mean_ranks(mistake_prior(label[at], rival[at], aum, held) - aum)
        suspicion[at] = ranks / (len(at) - 1) if len(at) > 1 else 0.5
        looks_wrong[at] = held != label[at]
    return Ranking(suspicion, looks_wrong)


def held_for(label: Array, rival: Array, aum: Floats, p_label: Floats, p_rival: Floats) -> Ints:
    """The class that each sample counts for: its rival if the model prefers that one and is sure of it, else its label.

    Sure means as sure as it is of that class otherwise: the mean p(rival) is at least t(rival), where t(c) is the mean
    p(label) of the samples labelled c. This is the threshold of confident learning (Northcutt et al. 2021,
    arXiv:1911.00068, equation 2), with the means over the epochs of the window in place of probabilities of a
    network that has not seen the sample. A class without a label has no threshold, and nothing is held for it.

    Args:
        label: (N,) class index, N > 0.
        rival: (N,) class index; -1 for none.
        aum, p_label, p_rival: (N,) means over the window.

    Returns:
        (N,) int64 class index.
    """
    num_classes = int(max(label.max(), rival.max())) + 1
    num_labelled = np.bincount(label, minlength=num_classes)
    total = np.bincount(label, p_label, minlength=num_classes)
    threshold = np.where(num_labelled > 0, total / np.maximum(num_labelled, 1), np.inf)
    is_rival = (rival >= 0) & (aum < 0) & (p_rival >= threshold[rival])
    return np.where(is_rival, rival, label).astype(np.int64)


def mistake_prior(label: Array, rival: Array, aum: Floats, held: Ints) -> Floats:
    """w ln(lift) of each sample's supposed mistake: that a sample of class `rival` got the label `label`.

    The lift of a pair of classes is the share, among all samples held for the one, that carries the label of
    the other, over the mean of this share; confident learning counts its joint in this way (Northcutt et al. 2021,
    arXiv:1911.00068).

    A sample whose AUM is not negative, whose label the model agrees with, never becomes more suspicious.

    A pair is frequent where people mislabel, and also where the network cannot tell two classes apart.
    If wrong labels are spread over all classes, only the second is left, and misleads. So the weight w is
    v / (2 + v), with v the unevenness of the counts: their squared coefficient of variation over the pairs, less
    what chance adds, 0 when all pairs are alike.

    Args:
        label: (N,) class index, N > 0.
        rival: (N,) class index; -1 for none, whose prior is 0.
        aum: (N,).
        held: (N,) class index, from `held_for`.

    Returns:
        (N,) float64, nats.
    """
    num_classes = int(max(label.max(), rival.max())) + 1
    has_rival = rival >= 0
    num_wrong = np.count_nonzero(held != label)
    num_pairs = max(num_classes * (num_classes - 1), 1)
    usual = (num_wrong + 1) / (len(label) + 1) / max(num_classes - 1, 1)
    pairs, counts = np.unique(held * num_classes + label, return_counts=True)  # at most N of the C x C pairs

    wrong = counts[pairs // num_classes != pairs % num_classes]
    uneven = max(0.0, num_pairs * np.sum(wrong * (wrong - 1.0)) / max(num_wrong * (num_wrong - 1.0), 1.0) - 1.0)

    supposed = np.where(has_rival, rival, 0).astype(np.int64)
    asked = supposed * num_classes + label
    at = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
    count = np.where(pairs[at] == asked, counts[at], 0)
    held_for_rival = np.bincount(held, minlength=num_classes)[supposed]
    lift = (count + USUAL_SAMPLES * usual) / (held_for_rival + USUAL_SAMPLES) / usual
    prior = uneven / (HALF_UNEVEN + uneven) * np.log(lift.clip(1 / MOST_LIFT, MOST_LIFT))
    most = np.where(aum < 0, np.inf, 0.0)  # no mistake is to be expected where the model prefers the label
    return np.where(has_rival, np.minimum(prior, most), 0.0)


def mean_ranks(values: Floats) -> Floats:
    """The rank of each of (N,) finite values, from 0; equal values get the mean of their ranks."""
    order = np.argsort(values)
    in_order = values[order]
    starts = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))[: len(values)]
    lengths = np.diff(np.append(starts, len(values)))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (lengths - 1) / 2, lengths)
    return ranks
