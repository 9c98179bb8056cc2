"""SmallLoss: which training samples count in an epoch, by the losses that they had: small ones are taken to be right.

Co-teaching's selection (Han et al. 2018, "Co-teaching: robust training of deep neural networks with extremely noisy
labels", arXiv:1804.06872) with one network: of each class an epoch passes over the share r of its samples with the
largest last loss. It assumes that wrong labels have larger losses than right ones while a network is young, and that
each class has about the same share of them; rare and hard samples with right labels look alike.

    by class      a share is one of each class, so a rare class does not pay for being learned late
    ramp          r(e) = r min(e / E, 1) in epoch e from 0, with E a third of the run and at most ten epochs
    weight        what is passed over is still shown and recorded, with the weight 0; the others of its class have the
                  weight n / (n - passed over), so that a class counts as much as before
    not given     r of each class is estimated anew for each epoch: the part of the upper of two Gaussians fitted to its
                  losses (Li et al. 2020, "DivideMix", arXiv:2002.07394), where the two stand apart (Ashman's D above 2;
                  Ashman et al. 1994, "Detecting bimodality in astronomical datasets"), else 0; at most a half

A sample whose label somebody changed counts in the next epoch: a loss of the old label says nothing about the new one.
The weights of an epoch are a pure function of the losses and labels known at its start, the same on every rank and
after a resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from litscope.data.overlay import Overlay
from litscope.data.sampler import Ids

MOST_SHARE = 0.5
"""The largest share of a class that is passed over."""

RAMP_EPOCHS, RAMP_SHARE = 10, 1 / 3
"""The paper's T_k, and the longest part of a run that it may take."""

LEAST_ESTIMATED = 20
"""Of a class with fewer known losses no share is estimated."""

APART = 2.0
"""Ashman's D from which two Gaussians count as two."""

_STEPS = 100

Losses = NDArray[np.float64]


class SmallLoss:
    """The weights of the samples of one run, epoch by epoch. It is the same on every rank.

    Args:
        share: r, above 0 and at most a half; None: estimated.
        overlay: the run's; gets the factor of each sample's loss.

    Attributes:
        losses: (N,) float32, each sample's loss at its last visit; infinite where it had none under its present label.
        passed_over: (N,) bool, in the planned epoch.
        shares: class index -> the share that the planned epoch passes over, where that is above 0.
    """

    def __init__(self, share: float | None, overlay: Overlay) -> None:
        self.share = share
        self.losses: NDArray[np.float32] = np.full(len(overlay.labels), np.inf, np.float32)
        self.passed_over: NDArray[np.bool_] = np.zeros(len(overlay.labels), bool)
        self.shares: dict[int, float] = {}
        self._labels: Ids = overlay.labels.numpy().copy()
        self._factors: NDArray[np.float32] = np.ones(len(overlay.labels), np.float32)
        self._overlay = overlay

    def learn(self, losses: NDArray[np.float32]) -> None:
        """Take up the losses of new visits; (N,) float32, not finite where a sample had none."""
        np.copyto(self.losses, losses, where=np.isfinite(losses))

    def plan(self, epoch: int, num_epochs: int | None, ids: Ids) -> None:
        """Decide what counts in `epoch`, before it begins.

        Args:
            epoch: counted from 0; the first one counts all.
            num_epochs: epochs of the whole run; None where nobody knows.
            ids: int64, the samples that are trained on.
        """
        labels = self._overlay.labels.numpy()
        self.losses[labels != self._labels] = np.inf
        self._labels = labels.copy()
        ramp = min(1.0, epoch / ramp_epochs(num_epochs))
        self.passed_over, self.shares = np.zeros_like(self.passed_over), {}
        self._factors = np.ones_like(self._factors)
        for label in np.unique(labels[ids]).tolist() if epoch else []:
            of_class = ids[labels[ids] == label]
            known = of_class[np.isfinite(self.losses[of_class])]
            share = upper_share(self.losses[known]) if self.share is None else self.share
            count = min(int(ramp * share * len(of_class)), len(known), len(of_class) - 1)
            if count:
                largest = known[np.argsort(-self.losses[known], kind="stable")[:count]]
                self.passed_over[largest] = True
                self.shares[int(label)] = count / len(of_class)
                self._factors[of_class] = len(of_class) / (len(of_class) - count)
        self._factors[self.passed_over] = 0.0
        self._give_factors()

    def _give_factors(self) -> None:
        self._overlay.factors = torch.from_numpy(self._factors) if self.passed_over.any() else None

    # ---- checkpoints -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as tensors and plain values."""
        return {
            "losses": torch.from_numpy(self.losses.copy()),
            "labels": torch.from_numpy(self._labels.copy()),
            "passed_over": torch.from_numpy(self.passed_over.copy()),
            "factors": torch.from_numpy(self._factors.copy()),
            "shares": dict(self.shares),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; an epoch that had begun goes on as it was planned."""
        if not state:
            return
        self.losses, self._labels = state["losses"].numpy().copy(), state["labels"].numpy().copy()
        self.passed_over, self._factors = state["passed_over"].numpy().copy(), state["factors"].numpy().copy()
        self.shares = dict(state["shares"])
        self._give_factors()


def ramp_epochs(num_epochs: int | None) -> float:
    """Epochs after which the whole share is passed over."""
    return RAMP_EPOCHS if num_epochs is None else max(1.0, min(RAMP_EPOCHS, num_epochs * RAMP_SHARE))


def upper_share(losses: NDArray[np.float32]) -> float:
    """The share of the upper of two Gaussians in some losses, at most `MOST_SHARE`; 0 where they are not two.

    Expectation maximisation (Dempster et al. 1977), begun at the halves below and above the middle of the range.

    Args:
        losses: (n,) finite.
    """
    if len(losses) < LEAST_ESTIMATED or np.ptp(losses) == 0:
        return 0.0
    x: Losses = (losses.astype(np.float64) - losses.min()) / np.ptp(losses)
    is_upper = (x > 0.5).astype(np.float64)
    for _ in range(_STEPS):
        share, mean, variance = _moments(x, is_upper)
        log_ratio = _log_density(x, mean[1], variance[1]) - _log_density(x, mean[0], variance[0])
        odds = np.log(share) - np.log1p(-share) + log_ratio
        before, is_upper = is_upper, 1.0 / (1.0 + np.exp(-odds.clip(-500, 500)))
        if np.abs(is_upper - before).max() < 1e-6:
            break
    share, mean, variance = _moments(x, is_upper)
    apart = np.sqrt(2.0) * (mean[1] - mean[0]) / np.sqrt(variance.sum())
    return 0.0 if apart <= APART else float(min(share, MOST_SHARE))


def _moments(x: Losses, is_upper: Losses) -> tuple[float, Losses, Losses]:
    """The share of the upper Gaussian, and mean and variance (2,) of the lower and the upper one."""
    parts = np.stack([1.0 - is_upper, is_upper])  # (2, n)
    sums = parts.sum(1).clip(min=1e-9)
    mean = (parts * x).sum(1) / sums
    variance = (parts * (x - mean[:, None]) ** 2).sum(1) / sums
    share = float(np.clip(sums[1] / len(x), 1e-9, 1 - 1e-9))
    return share, mean, variance.clip(min=5e-4)  # the floor is DivideMix's, for losses from 0 to 1


def _log_density(x: Losses, mean: float, variance: float) -> Losses:
    """Of a Gaussian, without its constant."""
    density: Losses = -0.5 * ((x - mean) ** 2 / variance + np.log(variance))
    return density
