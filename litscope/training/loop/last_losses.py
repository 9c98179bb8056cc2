"""LastLosses: from the losses of training steps to what `data.pruning` or `data.selection` knows about each sample."""

from __future__ import annotations

import torch

from litscope.data.pruning import Pruning
from litscope.data.small_loss import SmallLoss
from litscope.live.ranks import Ranks
from litscope.types import StepOutput


class LastLosses:
    """The losses of the visits since the last `merge`, on the device.

    Args:
        learner: where they go.
        device: of the step's outputs.
        ranks: all processes of the run; each sees its share of the visits.
    """

    def __init__(self, learner: Pruning | SmallLoss, device: torch.device, ranks: Ranks) -> None:
        self._learner = learner
        self._ranks = ranks
        # One more entry than there are samples: id -1, padding, indexes the last one.
        self._fresh = torch.full((len(learner.losses) + 1,), torch.inf, device=device)

    def add(self, output: StepOutput) -> None:
        """Keep the losses (B,) of a batch, or (N, B) of a stack, by their sample ids. Reads nothing from the device."""
        self._fresh[output["sample_id"]] = output["sample_loss"].float()

    def merge(self) -> None:
        """Tell the learner, on every rank, what all ranks saw. Every rank comes here at the same moment.

        A sample that several ranks visited (--no-use-distributed-sampler) gets the smallest of its losses.
        """
        fresh = self._ranks.least(self._fresh.cpu())
        self._learner.learn(fresh[:-1].numpy())
        self._fresh.fill_(torch.inf)
