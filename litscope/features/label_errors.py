"""Labels that are probably wrong, of images on which nobody has trained: a linear head learns them from their features.

A head on frozen features is to them what a network is to its images: labels that the others contradict it learns late,
or never. So its few epochs are watched as those of a run are (`ledger.scoring`): the margin of each visit, the class
that was held against the label, and the same ranking, AUM and how common the supposed mistake is.

The head, its rate and its epochs were chosen on images of CIFAR-10 and MNIST that bench/suspects.py does not use.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from litscope.features.file import Features
from litscope.features.unit import Unit
from litscope.ledger.scoring.suspicion import Window, rank

EPOCHS = 12
"""Passes over the features. All of them count: a linear head does not get to learn wrong labels by heart."""

LR_TIMES_F = 0.384
"""Of AdamW, for features of norm sqrt(F): about as far as one step can move a logit, however many features there are.
3e-4 for 1,280; with 300 images as with 4,000, three and ten times as much found fewer wrong labels."""

BATCH_SIZE = 64
LAST_EPOCHS = 5
"""Epochs in the mean of `p_label`."""


class LabelErrors(NamedTuple):
    """What the head says of n samples.

    Attributes:
        suspicion: (n,) float64, rank among them: 1 for the most suspicious, 0 for the least.
        p_label: (n,) float32, the probability that the head gives the label, mean over the last epochs.
        aum: (n,) float32, area under the margin: the mean of z[y] - max_{j != y} z[j].
        believed_label: (n,) int64, the class that was held against the label; the label itself where there was none.
    """

    suspicion: NDArray[np.float64]
    p_label: NDArray[np.float32]
    aum: NDArray[np.float32]
    believed_label: NDArray[np.int64]


def find_label_errors(
    rows: Features, ids: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int, seed: int = 0
) -> LabelErrors:
    """Train a linear head on features, and rank labels by how it learns them.

    Args:
        rows: (N, F).
        ids: (n,) the rows that have a label.
        labels: (n,) class index of each of them.
        num_classes: C.
        seed: of the order in which they are shown.
    """
    seen, label = Unit.of(rows, ids), torch.from_numpy(labels)
    head = torch.nn.Linear(rows.shape[1], num_classes)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LR_TIMES_F / rows.shape[1], weight_decay=0.0)
    order = torch.Generator().manual_seed(seed)
    visits = _Visits(len(ids))
    for epoch in range(EPOCHS):
        for at in torch.split(torch.randperm(len(ids), generator=order), BATCH_SIZE):
            x = torch.from_numpy(seen(ids[at.numpy()])) * rows.shape[1] ** 0.5
            logits = head(x)
            loss = torch.nn.functional.cross_entropy(logits, label[at])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            visits.add(at, logits.detach(), label[at], is_late=epoch >= EPOCHS - LAST_EPOCHS)
    return visits.judged(labels)


class _Visits:
    """What the visits of n samples add up to."""

    def __init__(self, num_samples: int) -> None:
        self.margin, self.p_label, self.p_rival, self.late_p_label, self.lead = torch.zeros(5, num_samples)
        self.rival = torch.full((num_samples,), -1)

    def add(self, at: torch.Tensor, logits: torch.Tensor, label: torch.Tensor, is_late: bool) -> None:
        """One visit of the samples `at` (B,): logits (B, C), labels (B,)."""
        own = logits.gather(1, label[:, None])[:, 0]
        others = logits.scatter(1, label[:, None], float("-inf"))
        other, rival = others.max(1)
        log_sum = logits.logsumexp(1)
        p_label, p_rival = (own - log_sum).exp(), (other - log_sum).exp()
        self.margin[at] += own - other
        self.p_label[at] += p_label
        self.p_rival[at] += p_rival
        if is_late:
            self.late_p_label[at] += p_label
        self._vote(at, rival, p_rival.where(other > own, 0.0))

    def _vote(self, at: torch.Tensor, rival: torch.Tensor, weight: torch.Tensor) -> None:
        """Majority of the classes that were preferred to the label (Boyer and Moore 1981), as for `believed_label`."""
        held, lead = self.rival[at], self.lead[at]
        lead = torch.where(held == rival, lead + weight, lead - weight)
        self.rival[at] = torch.where(lead < 0, rival, held)
        self.lead[at] = lead.abs()

    def judged(self, labels: NDArray[np.int64]) -> LabelErrors:
        """The ranking of all samples, for labels (n,)."""
        num_samples, rival = len(labels), self.rival.numpy()
        window = Window(
            np.full(num_samples, EPOCHS),
            *(sums.double().numpy() for sums in (self.margin, self.p_label, self.p_rival)),
        )
        return LabelErrors(
            rank(window, np.zeros(num_samples, np.int64), labels, rival).suspicion,
            (self.late_p_label / LAST_EPOCHS).numpy(),
            (self.margin / EPOCHS).numpy(),
            np.where(rival < 0, labels, rival),
        )
