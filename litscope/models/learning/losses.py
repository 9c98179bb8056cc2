"""What training minimises, from log-probabilities that are computed once.

The classifier takes one log_softmax per step, in float32 or better; the loss, the loss of each
sample for the ledger and the metrics all start from it. Rows whose label is negative (unlabelled,
padding) count nowhere. Equal to `torch.nn.functional.cross_entropy` in every combination of
smoothing, class weights and soft labels that it knows.

For labels that cannot be trusted there are the generalised cross-entropy (Zhang and Sabuncu 2018, "Generalized cross
entropy loss for training deep neural networks with noisy labels", arXiv:1805.07836) and early-learning regularisation
(`early_learning`); for rare classes the logit-adjusted loss (Menon et al. 2021, "Long-tail learning via logit
adjustment", arXiv:2007.07314, equation 10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from litscope.errors import ConfigError
from litscope.models.learning.early_learning import BETA, LAMBDA, EarlyLearning
from litscope.models.over_ranks import OverRanks
from litscope.types import Batch

IGNORED = -1
"""The label of a row that counts nowhere."""

FOCAL_GAMMA = 2.0
"""Lin et al. 2017, "Focal loss for dense object detection", table 1b."""

GCE_Q = 0.7
"""Zhang and Sabuncu 2018, section 4: their q in all experiments. Near 0 it is cross-entropy, at 1 the mean absolute
error."""


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
        sample_id: (B,) int64, whose rows they are; None: nobody's.
    """

    label: Tensor
    soft_label: Tensor | None = None
    weight: Tensor | None = None
    left_out: Tensor | None = None
    sample_id: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch) -> Target:
        """The target that a batch holds."""
        others = (batch.get(name) for name in ("soft_label", "weight", "left_out", "sample_id"))
        return cls(batch["label"], *others)  # type: ignore[arg-type]  # a TypedDict's get by a variable

    def at(self, i: int) -> Target:
        """The target of the i-th batch of a stack."""
        label, *others = self
        return Target(label[i], *(None if other is None else other[i] for other in others))


class ClassificationLoss(nn.Module):
    """Cross-entropy or another loss, with label smoothing, class weights and soft labels.

    With targets t, weights w and probabilities p, a row's loss is ``-sum_c t_c w_c f(p_c)``, where f is

        cross_entropy   log p
        focal           (1 - p)^gamma log p
        gce             (p^q - 1) / q

    The mean divides by the sum of the labels' weights for hard labels, by the number of rows for soft ones (torch's
    rule). With logit adjustment p are, in training alone, the probabilities of the logits plus tau log pi, with pi the
    classes' shares of what is trained on; nothing else sees them, so that the network's own logits are those of
    classes that come equally often.

    Args:
        kind: "cross_entropy" or "focal".
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        class_weights: one number per class, at least 0.
        focal_gamma: gamma, at least 0.
        logit_adjustment: tau, at least 0; 0 is off. The shares are told by `set_shares`.
        robust: "gce"; "elr" (see `early_learning`, which `start` must be told the number of samples); "none". Other
            words are somebody else's to follow and change nothing here.
        gce_q: q, above 0 and at most 1.
        elr_lambda, elr_beta: see `EarlyLearning`.

    Attributes:
        early: the targets of early-learning regularisation; None without it.

    Raises:
        ConfigError: for values outside these ranges.
    """

    class_weights: Tensor | None
    adjustment: Tensor | None

    def __init__(
        self,
        kind: Literal["cross_entropy", "focal"] = "cross_entropy",
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        *,
        focal_gamma: float = FOCAL_GAMMA,
        logit_adjustment: float = 0.0,
        robust: str = "none",
        gce_q: float = GCE_Q,
        elr_lambda: float = LAMBDA,
        elr_beta: float = BETA,
    ) -> None:
        super().__init__()
        if kind not in ("cross_entropy", "focal"):
            raise ConfigError(f"loss is {kind!r}; allowed are 'cross_entropy' and 'focal'.")
        if not 0.0 <= label_smoothing < 1.0:
            raise ConfigError(f"label_smoothing is {label_smoothing}; it must lie in [0, 1).")
        if class_weights is not None and not all(0.0 <= w < float("inf") for w in class_weights):
            raise ConfigError(f"class_weights are {list(class_weights)}; each must be a finite number, at least 0.")
        if robust == "gce" and kind == "focal":
            raise ConfigError("robust='gce' is a loss of its own, and so is loss='focal'. Give one of the two.")
        self.gamma = focal_gamma if kind == "focal" else 0.0
        self.q = gce_q if robust == "gce" else 0.0
        self.tau = logit_adjustment
        self.label_smoothing = label_smoothing
        self.early = EarlyLearning(elr_lambda, elr_beta) if robust == "elr" else None
        # Not persistent: the weights are the recipe's, not something that was learned.
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("adjustment", None, persistent=False)
        is_other = self.gamma or self.q or self.tau or self.early is not None
        self._is_plain = not (is_other or label_smoothing or class_weights is not None)

    def start(self, num_samples: int, num_classes: int) -> None:
        """Before training: make room for what is kept of each class and sample, where something is.

        Args:
            num_samples: N; ids of samples are below it.

        Raises:
            ConfigError: as `EarlyLearning.start`.
        """
        if self.tau and self.adjustment is None:
            device = None if self.class_weights is None else self.class_weights.device
            self.adjustment = torch.zeros(num_classes, device=device)
        if self.early is not None:
            self.early.start(num_samples, num_classes)

    def set_shares(self, shares: Sequence[float]) -> None:
        """Tell how large a part each class is of what is trained on from now on; any positive scale.

        Args:
            shares: (C,) counts; a class without a sample counts as if it had one.
        """
        if self.adjustment is not None:
            counts = torch.tensor(list(shares), dtype=torch.float64).clamp(min=1.0)
            self.adjustment.copy_(self.tau * (counts / counts.sum()).log())

    def state(self) -> dict[str, Tensor]:
        """What a resumed run must go on with, the same on every rank; every rank must call it."""
        state = {} if self.early is None else self.early.state()
        return state if self.adjustment is None else {**state, "adjustment": self.adjustment.cpu().clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned; what it lacks stays as it is."""
        if self.adjustment is not None and "adjustment" in state:
            self.adjustment.copy_(state["adjustment"])
        if self.early is not None:
            self.early.load_state(state)

    def forward(
        self,
        log_p: Tensor,
        label: Tensor,
        soft_label: Tensor | None = None,
        weight: Tensor | None = None,
        over_ranks: OverRanks | None = None,
        sample_id: Tensor | None = None,
    ) -> Loss:
        """The loss of one batch.

        Args:
            log_p: (B, C) log-probabilities, float32 or float64.
            label: (B,) int64; negative rows are left out.
            soft_label, weight, sample_id: as in `Target`. With weights the mean still divides by what it divides by
                without, so that a sample's share of the gradient does not depend on its neighbours' weights.
            over_ranks: where several processes each have a part of the batch; None: this one has all of it.
        """
        sample_loss = F.nll_loss(log_p.detach(), label, reduction="none", ignore_index=IGNORED)
        if soft_label is None and weight is None and over_ranks is None and self._is_plain:
            return Loss(F.nll_loss(log_p, label, ignore_index=IGNORED), sample_loss, sample_loss)
        if self.training and self.adjustment is not None:
            log_p = torch.log_softmax(log_p + self.adjustment.to(log_p.dtype), 1)
        target, norms = self._target(log_p, label, soft_label)
        rows = -(target * self._gain(log_p)).sum(1)  # (B,)
        if self.training and self.early is not None and sample_id is not None:
            rows = rows + norms * self.early.penalty(log_p, label, sample_id)
        if weight is not None:
            rows = rows * weight.to(rows.dtype)
        norm, count = norms.sum(), (label != IGNORED).sum()
        if over_ranks is not None:
            norm, count = over_ranks(torch.stack([norm, count.to(norm.dtype)])).unbind()
        return Loss(rows.sum() / norm, rows.detach() * (count / norm), sample_loss)

    def _gain(self, log_p: Tensor) -> Tensor:
        """(B, C): f of the class's docstring."""
        if self.q:
            return torch.expm1(self.q * log_p) / self.q
        if not self.gamma:
            return log_p
        # Of a gamma below 1 the slope at p = 1 is infinite, and infinite times 0 is no gradient.
        rest = (1.0 - log_p.exp()).clamp(min=torch.finfo(log_p.dtype).eps)
        return rest**self.gamma * log_p

    def norms(self, label: Tensor, is_soft: bool = False) -> Tensor:
        """(B,) float32: what each row adds to the number by which the mean divides."""
        valid = (label != IGNORED).float()
        return valid if self.class_weights is None or is_soft else valid * self.class_weights[label.clamp(min=0)]

    def _target(self, log_p: Tensor, label: Tensor, soft_label: Tensor | None) -> tuple[Tensor, Tensor]:
        """The weighted target (B, C), zero in rows without a label, and what each row adds to the divisor (B,)."""
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
        return target * valid.unsqueeze(1), self.norms(label, soft_label is not None).to(log_p.dtype)
