"""Pruning: which training samples an epoch leaves out, and what the loss of those it keeps is multiplied by.

InfoBatch (Qin et al. 2024, "InfoBatch: Lossless training speed up by unbiased dynamic data pruning",
arXiv:2303.04947): a sample whose last loss is below the mean is a candidate. An epoch leaves each candidate
out with probability r, and multiplies the loss of the candidates that it keeps by 1 / (1 - r), so that
the expected sum of an epoch's gradients is that of all samples. `random` is its control: every sample is
a candidate, all else is the same.

The first epoch visits all samples (nothing is known about them yet), and so does the last eighth of the
epochs, rounded up. Which candidates are left out is a hash of (seed, epoch, id): the ids of an epoch
are a pure function of the seed, the epoch and the losses known at its start, the same on every rank and
after a resume, and no generator is drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from litscope.data.overlay import Overlay
from litscope.data.sampler import Ids, fold, hash_ids
from litscope.errors import ConfigError

Method = Literal["infobatch", "random"]

DEFAULT_RATIO = 0.5
"""Share of the candidates that is left out, as in the paper's main results."""

WHOLE_SHARE = 1 / 8
"""Share of the epochs, at the end, that visit all samples: the paper's delta of 0.875."""

UNKNOWN_SHARE = 0.5
"""Share of candidates that a plan of the schedule assumes while no loss is known."""

_PRUNE = 0x7072756E65  # keeps these hashes apart from those of the order and of augmentation


class Pruning:
    """What the epochs of one run leave out. It is the same on every rank.

    Args:
        method: see above.
        ratio: r, share of the candidates that is left out, above 0 and below 1.
        seed: decides, with the epoch, which ones.
        overlay: the run's; gets the factor of each sample's loss.

    Attributes:
        losses: (N,) float32, each sample's loss at its last visit; infinite where it had none.
        is_candidate: (N,) bool, for the planned epoch.
        epoch: the planned epoch.
        num_expected: how many samples a later epoch is expected to keep.
    """

    def __init__(self, method: Method, ratio: float, seed: int, overlay: Overlay) -> None:
        self.method: Method = method
        self.ratio = ratio
        self.seed = seed
        num_samples = len(overlay.labels)
        self.losses: NDArray[np.float32] = np.full(num_samples, np.inf, np.float32)
        self.is_candidate: NDArray[np.bool_] = np.zeros(num_samples, bool)
        self.epoch = 0
        self.num_expected = num_samples
        self._overlay = overlay

    def learn(self, losses: NDArray[np.float32]) -> None:
        """Take up the losses of new visits; (N,) float32, not finite where a sample had none."""
        np.copyto(self.losses, losses, where=np.isfinite(losses))

    def plan(self, epoch: int, num_epochs: int, ids: Ids, least: int = 1) -> None:
        """Decide what `epoch` leaves out, before it begins.

        Args:
            epoch: counted from 0.
            num_epochs: epochs of the whole run.
            ids: int64, the samples that may be trained on.
            least: an epoch that would keep fewer samples than this keeps all.
        """
        self.epoch = epoch
        candidates = self._candidates(ids)
        self.num_expected = round(len(ids) - self.ratio * self._num_candidates(candidates, ids))
        self.is_candidate = candidates
        if self.is_whole(epoch, num_epochs) or len(self.kept(ids)) < least:
            self.is_candidate = np.zeros_like(candidates)
        self._give_factors()

    def is_whole(self, epoch: int, num_epochs: int) -> bool:
        """Whether an epoch visits all samples because of where it stands in the run."""
        return epoch == 0 or epoch >= num_epochs - num_whole_at_end(num_epochs)

    def kept(self, ids: Ids) -> Ids:
        """The `ids` that the planned epoch does not leave out. The answer for one id does not depend on the others."""
        is_low_hash = hash_ids(ids, fold(self.seed, _PRUNE, self.epoch)) < np.uint64(int(self.ratio * 2.0**64))
        return ids[~(self.is_candidate[ids] & is_low_hash)]

    def _candidates(self, ids: Ids) -> NDArray[np.bool_]:
        if self.method == "random":
            return np.ones_like(self.is_candidate)
        known = self.losses[ids]
        known = known[np.isfinite(known)]
        if not len(known):
            return np.zeros_like(self.is_candidate)
        is_low: NDArray[np.bool_] = self.losses < known.mean(dtype=np.float64)
        return is_low

    def _num_candidates(self, candidates: NDArray[np.bool_], ids: Ids) -> float:
        if self.method == "infobatch" and not np.isfinite(self.losses[ids]).any():
            return UNKNOWN_SHARE * len(ids)
        return float(np.count_nonzero(candidates[ids]))

    def _give_factors(self) -> None:
        factors = np.where(self.is_candidate, 1 / (1 - self.ratio), 1).astype(np.float32)
        self._overlay.factors = torch.from_numpy(factors) if self.is_candidate.any() else None

    # ---- checkpoints -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as tensors and plain values."""
        return {
            "method": self.method,
            "ratio": self.ratio,
            "epoch": self.epoch,
            "num_expected": self.num_expected,
            "losses": torch.from_numpy(self.losses.copy()),
            "is_candidate": torch.from_numpy(self.is_candidate.copy()),
        }

    def load_state(self, state: Mapping[str, Any], is_inside: bool) -> None:
        """Go on where `state` was taken.

        Args:
            is_inside: whether that was within an epoch, which then goes on as planned.

        Raises:
            ConfigError: if that epoch was pruned in another way.
        """
        if not state:
            return
        self.losses = state["losses"].numpy().copy()
        before, now = (state["method"], state["ratio"]), (self.method, self.ratio)
        if before == now:
            self.is_candidate = state["is_candidate"].numpy().copy()
            self.epoch, self.num_expected = int(state["epoch"]), int(state["num_expected"])
            self._give_factors()
        elif is_inside and state["is_candidate"].any():
            raise ConfigError(
                f"The checkpoint lies inside epoch {state['epoch'] + 1}, which was pruned with --prune {before[0]} "
                f"--prune-ratio {before[1]}, now {now[0]} {now[1]}. Resume with what it was trained with, or from "
                "a checkpoint at the end of an epoch."
            )


def num_whole_at_end(num_epochs: int) -> int:
    """How many epochs at the end of a run visit all samples."""
    return math.ceil(num_epochs * WHOLE_SHARE)
