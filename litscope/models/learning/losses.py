"""What training minimises, from log-probabilities that are computed once.

The classifier takes one log_softmax per step, in float32 or better; the loss, the loss of each
sample for the ledger and the metrics all start from it. Rows whose label is negative (unlabelled,
padding) count nowhere. Equal to `torch.nn.functional.cross_entropy` in every combination of
smoothing, class weights and soft labels that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from litscope.errors import ConfigError
from litscope.models.over_ranks import OverRanks
from litscope.types import Batch

IGNORED = -1
"""The label of a row that counts nowhere."""

FOCAL_GAMMA = 2.0
"""Lin et al. 2017, "Focal loss for dense object detection", table 1b."""


class Loss(NamedTuple):
    """What `ClassificationLoss` returns.

    Attributes:
        mean: () the scalar to minimise, graph attached.
        rows: (B,) detached; their mean over the labelled rows is `mean`. Of several ranks it is that over the rows of
            all of them, as is the mean of the ranks' own `mean`.
        sample_loss: (B,) detached plain cross-entropy against the label, 0 where there is none.
    """

    mean: Tensor
    rows: Tensor
    sample_loss: Tensor


class Target(NamedTuple):
    """What the rows of a batch are trained towards.

    Attributes:
        label: (B,) int64; negative rows count nowhere.
        soft_label: (B, C) target distribution of a mixed batch, which then replaces `label` as the target.
        weight: (B,) factor of each row's loss.
        left_out: (B,) int64, the number of the member that does not train on a row; None: all members train on all.
    """

    label: Tensor
    soft_label: Tensor | None = None
    weight: Tensor | None = None
    left_out: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch) -> Target:
        """The target that a batch holds."""
        return cls(batch["label"], batch.get("soft_label"), batch.get("weight"), batch.get("left_out"))

    def at(self, i: int) -> Target:
        """The target of the i-th batch of a stack."""
        label, *others = self
        return Target(label[i], *(None if other is None else other[i] for other in others))


class ClassificationLoss(nn.Module):
    """Cross-entropy or focal loss, with label smoothing, class weights and soft labels.

    With targets t, weights w and probabilities p, a row's loss is
    ``-sum_c t_c w_c (1 - p_c)^gamma log p_c`` with gamma 0 for cross-entropy. The mean divides by
    the sum of the labels' weights for hard labels, by the number of rows for soft ones (torch's rule).

    Args:
        kind: "cross_entropy", or "focal" with gamma 2.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        class_weights: one positive number per class.

    Raises:
        ConfigError: for values outside these ranges.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        kind: Literal["cross_entropy", "focal"] = "cross_entropy",
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("cross_entropy", "focal"):
            raise ConfigError(f"loss is {kind!r}; allowed are 'cross_entropy' and 'focal'.")
        if not 0.0 <= label_smoothing < 1.0:
            raise ConfigError(f"label_smoothing is {label_smoothing}; it must lie in [0, 1).")
        if class_weights is not None and not all(0.0 <= w < float("inf") for w in class_weights):
            raise ConfigError(f"class_weights are {list(class_weights)}; each must be a finite number, at least 0.")
        self.gamma = FOCAL_GAMMA if kind == "focal" else 0.0
        self.label_smoothing = label_smoothing
        # Not persistent: the weights are the recipe's, not something that was learned.
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self._is_plain = not (self.gamma or label_smoothing or class_weights is not None)

    def forward(
        self,
        log_p: Tensor,
        label: Tensor,
        soft_label: Tensor | None = None,
        weight: Tensor | None = None,
        over_ranks: OverRanks | None = None,
    ) -> Loss:
        """The loss of one batch.

        Args:
            log_p: (B, C) log-probabilities, float32 or float64.
            label: (B,) int64; negative rows are left out.
            soft_label, weight: as in `Target`. With weights the mean still divides by what it divides by without, so
                that a sample's share of the gradient does not depend on its neighbours' weights.
            over_ranks: where several processes each have a part of the batch; None: this one has all of it.
        """
        sample_loss = F.nll_loss(log_p.detach(), label, reduction="none", ignore_index=IGNORED)
        if soft_label is None and weight is None and over_ranks is None and self._is_plain:
            return Loss(F.nll_loss(log_p, label, ignore_index=IGNORED), sample_loss, sample_loss)
        target, norm = self._target(log_p, label, soft_label)
        if self.gamma:
            target = target * (1.0 - log_p.exp()) ** self.gamma
        rows = -(target * log_p).sum(1)  # (B,)
        if weight is not None:
            rows = rows * weight.to(rows.dtype)
        count = (label != IGNORED).sum()
        if over_ranks is not None:
            norm, count = over_ranks(torch.stack([norm, count.to(norm.dtype)])).unbind()
        return Loss(rows.sum() / norm, rows.detach() * (count / norm), sample_loss)

    def norms(self, label: Tensor, is_soft: bool = False) -> Tensor:
        """(B,) float32: what each row adds to the number by which the mean divides."""
        valid = (label != IGNORED).float()
        return valid if self.class_weights is None or is_soft else valid * self.class_weights[label.clamp(min=0)]

    def _target(self, log_p: Tensor, label: Tensor, soft_label: Tensor | None) -> tuple[Tensor, Tensor]:
        """The weighted target (B, C), zero in rows without a label, and what the sum is divided by ()."""
        valid = label != IGNORED
        hard = label.clamp(min=0)
        if soft_label is None:  # one_hot() would read the labels back to check them
            target = torch.zeros_like(log_p).scatter_(1, hard.unsqueeze(1), 1.0)
        else:
            target = soft_label.to(log_p.dtype)
        if self.label_smoothing:
            target = target * (1.0 - self.label_smoothing) + self.label_smoothing / log_p.shape[1]
        if self.class_weights is not None:
            target = target * self.class_weights.to(log_p.dtype)
        norm = self.norms(label, soft_label is not None).to(log_p.dtype)
        return target * valid.unsqueeze(1), norm.sum()
