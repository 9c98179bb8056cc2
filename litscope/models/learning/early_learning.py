"""EarlyLearning: a penalty that keeps a network by what it said of each sample before it learned the labels by heart.

Early-learning regularisation (Liu et al. 2020, "Early-learning regularization prevents memorization of noisy labels",
arXiv:2007.00151): to the loss of sample i comes ``lambda log(1 - <p_i, t_i>)``, where p_i are the network's
probabilities and t_i is their running mean, ``t_i <- beta t_i + (1 - beta) p_i``, through which no gradient flows. It
assumes that a network is right about most samples before it fits the wrong labels among them.

The targets are kept by sample id, on the device, and are part of a checkpoint. A sample whose label somebody changed
starts anew: what the network learned of the old label says nothing about the new one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from litscope.errors import ConfigError
from litscope.models.over_ranks import num_ranks

LAMBDA, BETA = 3.0, 0.7
"""Those of the paper for CIFAR-10 (appendix D)."""

LEAST_P = 1e-4
"""Probabilities are kept this far from 0 and 1, as in the authors' code."""

MOST_VALUES = 2**30
"""Samples x classes for which targets are kept: 4 GiB of float32."""

_UNSEEN = -2
"""The label of a sample that was not visited."""


class EarlyLearning:
    """The targets of N samples, and the penalty that they make.

    Args:
        strength: lambda.
        momentum: beta, at least 0 and below 1.
    """

    def __init__(self, strength: float, momentum: float) -> None:
        self.strength, self.momentum = strength, momentum
        # One more row than samples: what has no id or no label goes there.
        self._targets = torch.zeros(1, 0)  # (N + 1, C) float32
        self._labels = torch.full((1,), _UNSEEN)  # (N + 1,) int64, of the last visit
        self._visits = torch.zeros(1)  # (N + 1,) float32, since the ranks last told each other
        self._here = torch.zeros(1)  # (N + 1,) float32, in the batch; zero between two

    def start(self, num_samples: int, num_classes: int) -> None:
        """Make room, unless there is as much as that.

        Raises:
            ConfigError: if it takes more than `MOST_VALUES`.
        """
        if num_samples * num_classes > MOST_VALUES:
            gigabytes = num_samples * num_classes * 4 / 1e9
            raise ConfigError(
                f"--robust elr keeps a number for each class of each sample: {gigabytes:,.0f} GB for "
                f"{num_samples:,} samples of {num_classes:,} classes. Use --robust gce, which keeps nothing."
            )
        if self._targets.shape == (num_samples + 1, num_classes):
            return
        self._targets = torch.zeros(num_samples + 1, num_classes)
        self._labels = torch.full((num_samples + 1,), _UNSEEN)
        self._visits, self._here = torch.zeros(num_samples + 1), torch.zeros(num_samples + 1)

    def penalty(self, log_p: Tensor, label: Tensor, sample_id: Tensor) -> Tensor:
        """The penalty of a batch, whose samples' targets move on. Reads nothing back from the device.

        Args:
            log_p: (B, C) log-probabilities, graph attached.
            label: (B,) int64, negative where there is none.
            sample_id: (B,) int64, below N; negative for padding. A sample that comes several times gets the mean.

        Returns:
            (B,), graph attached; rows without a label have one too, which nobody may count.
        """
        p = log_p.exp().clamp(LEAST_P, 1.0 - LEAST_P)
        self._to(log_p.device)
        place = torch.where((sample_id < 0) | (label < 0), len(self._targets) - 1, sample_id)
        target = self._moved(p.detach().float(), label, place)
        return self.strength * torch.log1p(-(target.to(p.dtype) * p).sum(1))

    @torch.no_grad()
    def _moved(self, p: Tensor, label: Tensor, place: Tensor) -> Tensor:
        """The targets (B, C) after this visit."""
        before, ones = self._labels[place], torch.ones_like(place, dtype=torch.float32)
        is_as_before = (before == label).unsqueeze(1)
        kept = torch.where(is_as_before, self._targets[place], 0.0)
        new = self.momentum * kept + (1.0 - self.momentum) * p / p.sum(1, keepdim=True)
        share = 1.0 / self._here.index_add_(0, place, ones)[place]
        self._here.index_fill_(0, place, 0.0)
        self._targets.index_fill_(0, place, 0.0).index_add_(0, place, new * share.unsqueeze(1))
        self._labels.index_copy_(0, place, label)
        self._visits.index_fill_(0, place, 1.0)
        return self._targets[place]

    def merge(self) -> None:
        """Tell every rank of the visits of the others since the last call. Every rank must call it, between two steps.

        A sample that several ranks have visited gets the mean of its targets.
        """
        if num_ranks() == 1:
            return
        device = torch.device("cuda") if dist.get_backend() == "nccl" else self._targets.device
        self._to(device)
        visits = self._visits.unsqueeze(1)
        sums = torch.cat([self._targets * visits, visits], 1)
        labels = torch.where(self._visits > 0, self._labels, _UNSEEN)
        dist.all_reduce(sums)
        dist.all_reduce(labels, dist.ReduceOp.MAX)
        count = sums[:, -1:]
        self._targets = torch.where(count > 0, sums[:, :-1] / count.clamp(min=1.0), self._targets)
        self._labels = torch.where(count[:, 0] > 0, labels, self._labels)
        self._visits.zero_()

    def state(self) -> dict[str, Tensor]:
        """The targets and the labels that they were learned with, on the CPU; the same on every rank, which all must
        call it."""
        if not self._targets.shape[1]:
            return {}
        self.merge()
        return {"elr_targets": self._targets[:-1].cpu().clone(), "elr_labels": self._labels[:-1].cpu().clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned; without it all start anew.

        Raises:
            ConfigError: if it is of other samples than there are.
        """
        found = state.get("elr_targets")
        if found is None or not self._targets.shape[1]:  # nothing trains here
            return
        if found.shape != self._targets[:-1].shape:
            there, here = (f"{len(rows):,} samples of {rows.shape[1]} classes" for rows in (found, self._targets[:-1]))
            raise ConfigError(
                f"--robust elr: the checkpoint keeps targets of {there}, and the data have {here}. Start a new run."
            )
        self._targets[:-1] = found.to(self._targets.device)
        self._labels[:-1] = state["elr_labels"].to(self._labels.device)

    def _to(self, device: torch.device) -> None:
        if self._targets.device != device:
            self._targets, self._labels = self._targets.to(device), self._labels.to(device)
            self._visits, self._here = self._visits.to(device), self._here.to(device)
