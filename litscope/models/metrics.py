"""Metrics of one phase (train, val, test): cheap in a step, exact over ranks.

A step only appends references to tensors that it has anyway. Every few thousand rows they are
folded, without reading anything back from the device, into counts: a confusion matrix, loss sums,
and for AUROC and AP either the scores themselves or a fine histogram of them. Counts add up over
ranks whatever each rank has seen, so one device and eight give the same number; torchmetrics
does the adding up.

Rows with a negative label (unlabelled) or a negative sample id (padding) count nowhere.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from litscope.defaults import METRICS
from litscope.models.over_ranks import num_ranks

FOLD_ROWS = 8192
FOLD_VALUES = 2**20
"""Rows, and rows x classes, that are kept as they come before they are folded into counts."""

EXACT_VALUES = 2**20
"""Rows x classes up to which AUROC and AP of val and test are exact; above, and for train, from a histogram."""

NUM_BINS = 1024
HALF_ODDS = 4.0
"""The histogram: even bins of odds / (4 + |odds|), with odds the log-odds of a class. They are 1/128 wide around
even odds and cover all of them, so a very sure network is ranked too. AUROC and AP come out right to about 1e-4."""

_COUNTS = ("confusion", "loss_sum", "positives", "negatives")
"""The states of `PhaseCounts` that add up."""


class PhaseCounts(Metric):
    """Counts from which the metrics of one phase are computed; torchmetrics adds them up over ranks.

    Args:
        num_classes: C, at least 2. With two classes, class 1 is the positive one, and precision, recall,
            F1, AUROC and AP are its own; with more they are macro means.
        exact: keep the scores (as long as they are few), instead of a histogram of them.

    States:
        confusion: (C, C) int64, rows are labels, columns predictions.
        loss_sum: () float64 (float32 on MPS).
        positives, negatives: (bins, S) int64, histogram of the log-odds of each of S scored classes.
        scores, labels: the rows themselves, (n, S) and (n,), while they are exact.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    confusion: Tensor
    loss_sum: Tensor
    positives: Tensor
    negatives: Tensor
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, num_classes: int, exact: bool, device: torch.device) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.exact = self._starts_exact = exact
        num_scored = 1 if num_classes == 2 else num_classes
        real = torch.float32 if device.type == "mps" else torch.float64
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss_sum", torch.zeros((), dtype=real), dist_reduce_fx="sum")
        for name in ("positives", "negatives"):
            self.add_state(name, torch.zeros(NUM_BINS, num_scored, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")
        self.to(device)

    def update(self, log_p: Tensor, label: Tensor, row_loss: Tensor) -> None:
        """Fold a chunk of rows. Reads nothing back from the device.

        Args:
            log_p: (N, C) log-probabilities.
            label: (N,) int64; negative rows are left out.
            row_loss: (N,) loss of each row.
        """
        valid = label >= 0
        count = valid.to(torch.int64)
        hard = label.clamp(min=0)
        cell = hard * self.num_classes + log_p.argmax(1)
        self.confusion.view(-1).index_add_(0, cell, count)
        self.loss_sum += torch.where(valid, row_loss, 0).sum(dtype=self.loss_sum.dtype)
        odds = _log_odds(log_p)
        if self.exact:
            self.scores.append(odds)
            self.labels.append(label)
            if sum(chunk.numel() for chunk in self.scores) > EXACT_VALUES:
                self.bin_scores()
        else:
            self._add_to_histogram(odds, label)

    def start_over(self) -> None:
        """Forget all rows, and keep scores again if it did at first."""
        self.reset()
        self.exact = self._starts_exact

    def bin_scores(self) -> None:
        """Give up exactness: what was kept goes into the histogram, and so does what follows."""
        for odds, label in zip(self.scores, self.labels, strict=True):
            self._add_to_histogram(odds, label)
        self.scores, self.labels = [], []
        self.exact = False

    def compute(self) -> dict[str, Tensor]:
        """The metrics, () each, and the confusion matrix, on the CPU; after the states were merged over ranks."""
        if self.exact:
            odds, label = _joined(self.scores).cpu(), _joined(self.labels).cpu()
            positives, negatives = _distinct_scores(odds, label)
        else:
            positives, negatives = self.positives.cpu(), self.negatives.cpu()
        confusion = self.confusion.cpu()
        auroc, ap = ranking(positives, negatives, is_exact=self.exact)
        return {
            "loss": self.loss_sum.cpu().double() / confusion.sum(),
            **counted(confusion),
            "auroc": auroc,
            "ap": ap,
            "confusion": confusion,
        }

    def _add_to_histogram(self, odds: Tensor, label: Tensor) -> None:
        num_bins, num_scored = self.positives.shape
        # Bin 0 holds the highest scores, the order in which `ranking` reads.
        place = (1 - odds / (odds.abs() + HALF_ODDS)) / 2  # in (0, 1)
        bins = (place * num_bins).long().clamp(0, num_bins - 1)
        cell = (bins * num_scored + torch.arange(num_scored, device=odds.device)).view(-1)
        is_positive, is_negative = _targets(label, num_scored)
        self.positives.view(-1).index_add_(0, cell, is_positive.view(-1))
        self.negatives.view(-1).index_add_(0, cell, is_negative.view(-1))


def _log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) of each scored class, (N, S): all classes, or class 1 of two."""
    if log_p.shape[1] == 2:
        return log_p[:, 1:] - log_p[:, :1]
    # log(1 - p) by expm1 keeps the digits where p is almost 1; there the odds end near 16.
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-7)))


def _targets(label: Tensor, num_scored: int) -> tuple[Tensor, Tensor]:
    """(N, S) int64 each: row n is a positive, a negative of scored class s; neither without a label."""
    classes = torch.arange(num_scored, device=label.device) if num_scored > 1 else torch.ones_like(label[:1])
    is_positive = (label.unsqueeze(1) == classes).long()
    return is_positive, (label >= 0).long().unsqueeze(1) - is_positive


def _joined(chunks: list[Tensor] | Tensor) -> Tensor:
    """A list state, which is one tensor already after torchmetrics merged it over ranks."""
    return chunks if isinstance(chunks, Tensor) else torch.cat(chunks)


def _distinct_scores(odds: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Positives and negatives (N, S) at each distinct score of each class, highest first; unused rows are 0."""
    ordered, order = odds.sort(dim=0, descending=True)
    is_new = torch.zeros_like(order)
    is_new[1:] = ordered[1:] != ordered[:-1]
    rank = is_new.cumsum(0)  # (N, S) which distinct score
    is_positive, is_negative = _targets(label, odds.shape[1])
    zeros = torch.zeros_like(order)
    return (
        zeros.scatter_add(0, rank, is_positive.gather(0, order)),
        zeros.scatter_add(0, rank, is_negative.gather(0, order)),
    )


def ranking(positives: Tensor, negatives: Tensor, is_exact: bool = True) -> tuple[Tensor, Tensor]:
    """AUROC and average precision, each the mean over the classes for which it is defined.

    AUROC needs a positive and a negative, AP a positive; a class without is left out of the mean,
    and where none is left the result is NaN.

    Args:
        positives, negatives: (T, S) counts at T scores, from the highest to the lowest.
        is_exact: counts at one place have one score, so they are found together; else the place is a
            bin, in which positives and negatives are taken as evenly mixed.

    Returns:
        () float64 each.
    """
    tp, fp = positives.cumsum(0).double(), negatives.cumsum(0).double()
    if not len(tp):
        return torch.tensor(torch.nan).double(), torch.tensor(torch.nan).double()
    num_positive, num_negative = tp[-1], fp[-1]
    # A negative is beaten by all positives above it and by half of those at its own score.
    auroc = (negatives * (tp - positives / 2)).sum(0) / (num_positive * num_negative)
    before = 0.0 if is_exact else 1.0
    found = tp - before * (positives - 1) / 2
    ranked = tp + fp - before * (positives + negatives - 1) / 2
    ap = (positives * found / ranked.clamp(min=1)).sum(0) / num_positive
    return auroc[~auroc.isnan()].mean(), ap[~ap.isnan()].mean()


def counted(confusion: Tensor) -> dict[str, Tensor]:
    """Accuracy, precision, recall and F1 from a confusion matrix (C, C).

    Accuracy is the share of rows that are right. The other three are those of class 1 when there are
    two classes, else the mean over the classes that occur as a label or as a prediction. 0/0 is 0.
    """
    counts = confusion.double()
    right, labelled, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    precision = right / predicted.clamp(min=1)
    recall = right / labelled.clamp(min=1)
    f1 = 2 * right / (labelled + predicted).clamp(min=1)
    used = labelled + predicted > 0 if len(counts) > 2 else torch.tensor([False, True])
    return {
        "accuracy": right.sum() / counts.sum(),
        "precision": precision[used].mean(),
        "recall": recall[used].mean(),
        "f1": f1[used].mean(),
    }


class PhaseMetrics:
    """Collects the rows of a phase, and gives its metrics at the end of the epoch.

    Args:
        phase: "train", "val" or "test". Train metrics are those of the passing batches, with the
            weights of the moment; their AUROC and AP come from the histogram.
        num_classes: C.

    Attributes:
        confusion: (C, C) int64 of the last finished epoch, rows are labels; None before.
    """

    def __init__(self, phase: str, num_classes: int) -> None:
        self.phase = phase
        self.num_classes = num_classes
        self.confusion: Tensor | None = None
        self._scores: PhaseCounts | None = None
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._num_waiting = 0
        self._fold_rows = max(1, min(FOLD_ROWS, FOLD_VALUES // num_classes))

    def add(self, log_p: Tensor, label: Tensor, row_loss: Tensor) -> None:
        """Append a batch: log_p (B, C), label (B,) with -1 for rows that do not count, row_loss (B,); all detached."""
        self._waiting.append((log_p, label, row_loss))
        self._num_waiting += len(label)
        if self._num_waiting >= self._fold_rows:
            self._fold()

    def reset(self) -> None:
        """Forget the rows since the last `compute`."""
        self._waiting, self._num_waiting = [], 0
        if self._scores is not None:
            self._scores.start_over()

    def state(self) -> dict[str, Tensor]:
        """The counts of this rank's rows so far, on the CPU; what `load_state` needs to go on in mid-epoch."""
        if self._waiting:
            self._fold()
        if self._scores is None or not self._scores.update_called:
            return {}
        return {name: getattr(self._scores, name).cpu().clone() for name in _COUNTS}

    def load_state(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Go on from what `state` returned, in the phase "train"."""
        if not state:
            return
        self._scores = PhaseCounts(self.num_classes, exact=False, device=device)
        self._scores.update(*self._no_rows(device))
        for name in _COUNTS:
            getattr(self._scores, name).copy_(state[name])

    def compute(self, device: torch.device) -> dict[str, float]:
        """The metrics over all ranks under `<phase>/<name>`, empty if no row counted; then starts afresh.

        Every rank must call it, also one that has seen no row.
        """
        if not self._waiting:
            self._waiting.append(self._no_rows(device))  # torchmetrics needs one update on each rank
        self._fold()
        assert self._scores is not None
        self._agree_on_exactness()
        values: dict[str, Any] = self._scores.compute()
        self.reset()
        confusion = values.pop("confusion")
        if not confusion.any():
            return {}
        self.confusion = confusion
        return {f"{self.phase}/{name}": float(values[name]) for name in METRICS}

    def _fold(self) -> None:
        log_p, label, row_loss = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._num_waiting = [], 0
        # Made once: what a new one brings to a GPU, the host waits for.
        if self._scores is None or self._scores.confusion.device != log_p.device:
            self._scores = PhaseCounts(self.num_classes, self.phase != "train", log_p.device)
        self._scores.update(log_p, label, row_loss)

    def _no_rows(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        return (
            torch.zeros(0, self.num_classes, device=device),
            torch.zeros(0, dtype=torch.int64, device=device),
            torch.zeros(0, device=device),
        )

    def _agree_on_exactness(self) -> None:
        """Either all ranks hold scores or none does: the states that they exchange must match."""
        assert self._scores is not None
        if num_ranks() == 1:
            return
        binned = torch.tensor(int(not self._scores.exact), device=self._scores.confusion.device)
        dist.all_reduce(binned)
        if int(binned) and self._scores.exact:
            self._scores.bin_scores()
