"""What the fusion of several networks learns, fitted on labelled samples that no member was trained on; and whether it
beats its best member there.

    weighted              weights on the simplex with the least NLL of the weighted mean probability
    uncertainty_weighted  a temperature for each member
    stacked               a temperature for each member, then the weights, then a last temperature

The NLL of the weights is convex (it is that of a mixture), so there is one best value, and expectation-maximisation
finds it. Temperatures are fitted with one sample's worth of prior (log T normal with the deviation 1): where a member
is right on all samples, the NLL would fall for ever as T falls.

What is fitted on samples flatters on the same ones. `cross_fitted` gives each of them an answer whose fusion was fitted
without it, and without its group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp

from litscope.fusions import LEARNED, Fusion, Rule
from litscope.uncertainty.bootstrap import Interval, intervals
from litscope.uncertainty.proper import LEAST
from litscope.uncertainty.temperature import COLDEST, HOTTEST

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int64]
Apply = Callable[[Fusion, Floats], Floats]
"""Fuses logits, as given to `fit_fusion`, into log-probabilities (N, C)."""

NUM_FOLDS = 5

LEAST_UNITS = 20
"""Samples, or groups of them, without which there is no verdict: of few the percentile interval is too narrow."""

LEAST_GAIN = 5e-5
"""What is less is shown as 0."""

_GAP = 1e-6  # nats from the least NLL, at most, where the search for weights ends
_MOST_STEPS = 2000


def fit_fusion(rule: Rule, logits: npt.ArrayLike, label: Labels) -> Fusion:
    """A rule with what it learns of labelled samples.

    Args:
        rule: one of `fusions.RULES`; those that learn nothing are returned as they are.
        logits: (M, N, C) of M members, or (T, M, N, C) of T passes with dropout.
        label: (N,), from 0 to C - 1.

    Raises:
        ValueError: if it learns, and there are no samples.
    """
    if rule not in LEARNED:
        return Fusion(rule)
    if not len(label):
        raise ValueError(f"{rule} learns from labelled samples, and there are none")
    z = np.asarray(logits, np.float64)
    log_p = member_log_probabilities(z)  # (M, N, C)
    if rule == "weighted":
        return Fusion(rule, weights=_weights(log_p, label).tolist(), num_samples=len(label))
    temperatures = [_temperature(of_one, label) for of_one in log_p]
    if rule == "uncertainty_weighted":
        return Fusion(rule, temperatures=temperatures, num_samples=len(label))
    scaled = member_log_probabilities(z / np.array(temperatures)[:, None, None])
    weights = _weights(scaled, label)
    with np.errstate(divide="ignore"):  # a weight of 0
        fused = logsumexp(scaled + np.log(weights)[:, None, None], axis=0)
    return Fusion(rule, weights.tolist(), temperatures, _temperature(fused, label), len(label))


def cross_fitted(
    rule: Rule,
    logits: npt.ArrayLike,
    label: Labels,
    apply: Apply,
    groups: npt.ArrayLike | None = None,
    *,
    num_folds: int = NUM_FOLDS,
    seed: int = 0,
) -> Floats:
    """(N, C) log-probabilities of the samples that a rule is fitted on, each fused by what the others taught.

    Args:
        rule, logits, label: as of `fit_fusion`.
        apply: fuses.
        groups: (N,) what belongs together; None: each sample to itself.
        num_folds: parts that are left out in turn; not more than there are groups.
        seed: of the folds.

    Raises:
        ValueError: if the rule learns, and there are not at least two groups.
    """
    z = np.asarray(logits, np.float64)
    if rule not in LEARNED:
        return apply(Fusion(rule), z)
    units = np.arange(len(label)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    num_units = int(units.max(initial=-1)) + 1
    if num_units < 2:
        raise ValueError(f"{rule} is judged on other samples than it learns from, and there are not two apart")
    fold_of_unit = np.empty(num_units, np.int64)
    fold_of_unit[np.random.default_rng(seed).permutation(num_units)] = np.arange(num_units) % num_folds
    fold = fold_of_unit[units]
    found = np.empty((len(label), z.shape[-1]))
    for number in np.unique(fold):
        rest, out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        fusion = fit_fusion(rule, z[..., rest, :], label[rest])
        found[out] = apply(fusion, z[..., out, :])
    return found


def member_log_probabilities(logits: Floats) -> Floats:
    """(M, N, C) of (M, N, C) logits; of (T, M, N, C) the logarithm of the mean probability of T passes."""
    log_p = np.asarray(log_softmax(logits, axis=-1))
    return log_p if log_p.ndim == 3 else np.asarray(logsumexp(log_p, axis=0) - np.log(len(log_p)))


@dataclass(frozen=True)
class Against:
    """An ensemble beside its best member, by one figure, on the same samples.

    Attributes:
        best_member: the position of the member that is best by this figure, of equal ones the first.
        best: its figure.
        gain: by how much the ensemble is better (below 0: worse), with the interval of paired bootstrap draws.
    """

    best_member: int
    best: float
    gain: Interval

    @property
    def verdict(self) -> str:
        """better or worse, where the interval has 0 outside, in the four digits that are shown, and comes of at least
        `LEAST_UNITS`; else undecided."""
        if self.gain.num_units < LEAST_UNITS:
            return "undecided"
        if self.gain.low is not None and self.gain.low > LEAST_GAIN:
            return "better"
        return "worse" if self.gain.high is not None and self.gain.high < -LEAST_GAIN else "undecided"


def against_best(
    fused: Floats, members: Floats, label: Labels, groups: npt.ArrayLike | None = None, *, seed: int = 0
) -> dict[str, Against]:
    """Whether an ensemble beats its best member: by accuracy, NLL and Brier score.

    The best member is chosen by the same figure on the same samples, which flatters the member, not the ensemble.

    Args:
        fused: (N, C) log-probabilities.
        members: (M, N, C) likewise.
        label: (N,), at least one.
        groups: (N,) what belongs together, and is drawn together.
        seed: of the draws.
    """
    own, others = _merits(fused, label), np.stack([_merits(of_one, label) for of_one in members])  # (F, N), (M, F, N)
    best = others.mean(2).argmax(0)  # (F,)
    gains = own - np.stack([others[member, figure] for figure, member in enumerate(best)])
    found = intervals(lambda ids: gains[:, ids].mean(1).tolist(), len(label), groups, seed=seed)
    return {
        name: Against(int(member), float(sign * others[member, figure].mean()), gain)
        for figure, ((name, sign), member, gain) in enumerate(zip(_FIGURES, best, found, strict=True))
    }


_FIGURES = (("accuracy", 1.0), ("nll", -1.0), ("brier", -1.0))
"""Figures, and the sign that makes more of them better."""


def _merits(log_p: Floats, label: Labels) -> Floats:
    """(3, N) of each sample, the more the better; see `_FIGURES`."""
    probs = np.exp(log_p)
    of_label = np.maximum(log_p[np.arange(len(label)), label], np.log(LEAST))
    truth = np.zeros_like(probs)
    truth[np.arange(len(label)), label] = 1.0
    return np.stack([(log_p.argmax(1) == label).astype(np.float64), of_label, -np.square(probs - truth).sum(1)])


def _temperature(log_p: Floats, label: Labels) -> float:
    """The temperature of (N, C) logits, with one sample's worth of prior."""
    z = log_p - log_p.mean(-1, keepdims=True)

    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        nll = -log_softmax(z / np.exp(log_t), axis=1)[np.arange(len(label)), label].sum()
        return float(nll + log_t**2 / 2) / len(label)

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def _weights(log_p: Floats, label: Labels) -> Floats:
    """(M,) the weights of (M, N, C) with the least NLL of their mixture; equal for members that are equal."""
    of_label = log_p[:, np.arange(len(label)), label]
    share = np.exp(of_label - of_label.max(0))  # (M, N), up to a factor for each sample, which changes nothing
    weights = np.full(len(share), 1.0 / len(share))
    for _ in range(_MOST_STEPS):
        rise = (share / (weights @ share)).mean(
            1
        )  # the gradient of the mean log likelihood; at the best none is above 1
        if rise.max() - 1.0 <= _GAP:  # which bounds how much likelihood is missing
            break
        weights = weights * rise
    return np.asarray(weights / weights.sum())
