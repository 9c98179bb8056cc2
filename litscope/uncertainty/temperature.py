"""Scaling of logits, fitted on labelled samples that the network was not trained on.

One temperature T for all, softmax(z / T), keeps every prediction and changes how sure it is (Guo et al. 2017,
arXiv:1706.04599). Vector scaling, softmax(a * z + b), may also mend classes of which too much or too little is said; it
has 2 C numbers and wants some hundreds of samples of each class. Logits are centred first (a constant that is added to
all of a sample means nothing, but a would multiply it), so log-probabilities do as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

COLDEST, HOTTEST = 0.01, 100.0
"""Between these a temperature is sought. Where all samples are right no temperature is cold enough, and the NLL falls
for ever; past the first bound it makes no difference."""

_PULL = 1e-3
"""Of vector scaling towards the temperature that it starts from, so that a class without samples stays with it."""


@dataclass(frozen=True)
class Scaling:
    """What is done to centred logits: (z * scale + shift), per class.

    Attributes:
        scale: (C,) factors; all are 1 / T of a temperature T.
        shift: (C,) added after.
    """

    scale: Floats
    shift: Floats

    @property
    def temperature(self) -> float | None:
        """T, where there is one for all classes."""
        is_one = bool((self.scale == self.scale[0]).all() and not self.shift.any())
        return 1.0 / float(self.scale[0]) if is_one else None

    def logits(self, logits: npt.ArrayLike) -> Floats:
        """(..., C) logits, scaled."""
        return np.asarray(_centred(logits) * self.scale + self.shift)

    def probabilities(self, logits: npt.ArrayLike) -> Floats:
        """(..., C) softmax of the scaled logits."""
        return np.asarray(np.exp(log_softmax(self.logits(logits), axis=-1)))


def fit_temperature(logits: npt.ArrayLike, label: Labels) -> Scaling:
    """The temperature with the least NLL.

    Args:
        logits: (N, C).
        label: (N,).

    Raises:
        ValueError: without samples.
    """
    from scipy.optimize import minimize_scalar  # half a second, where most trainings need none

    z = _checked(logits, label)

    def nll(log_t: float) -> float:
        return _nll(z / np.exp(log_t), label)

    # The NLL is convex in 1 / T, so it has one minimum in log T as well.
    found = minimize_scalar(nll, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6})
    return Scaling(np.full(z.shape[1], np.exp(-found.x)), np.zeros(z.shape[1]))


def fit_vector(logits: npt.ArrayLike, label: Labels) -> Scaling:
    """The scale and the shift of each class with the least NLL, starting from the best temperature.

    Args and errors as of `fit_temperature`.
    """
    z = _checked(logits, label)
    start = fit_temperature(z, label)
    num_classes = z.shape[1]
    truth = np.zeros_like(z)
    truth[np.arange(len(label)), label] = 1.0

    from scipy.optimize import minimize

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scale, shift = parameters[:num_classes], parameters[num_classes:]
        log_p = log_softmax(z * scale + shift, axis=1)
        away = np.exp(log_p) - truth  # (N, C) the gradient by the scaled logits
        pull = np.append(scale - start.scale, shift)
        gradient = np.append((away * z).mean(0), away.mean(0)) + 2.0 * _PULL * pull
        return float(-(log_p * truth).sum(1).mean() + _PULL * (pull**2).sum()), gradient

    found = minimize(loss, np.append(start.scale, start.shift), jac=True, method="L-BFGS-B")
    return Scaling(found.x[:num_classes], found.x[num_classes:])


def _checked(logits: npt.ArrayLike, label: Labels) -> Floats:
    if not len(label):
        raise ValueError("a temperature needs at least one labelled sample")
    return _centred(logits)


def _centred(logits: npt.ArrayLike) -> Floats:
    z = np.asarray(logits, np.float64)
    return np.asarray(z - z.mean(-1, keepdims=True))


def _nll(logits: Floats, label: Labels) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(label)), label].mean())
