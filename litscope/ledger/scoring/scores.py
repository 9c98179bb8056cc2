"""Scores of every sample from its visits: pure numpy arithmetic, one epoch at a time, vectorised over samples.

`visits` chooses which rows of an epoch count; `ScoreState` adds them up and turns the sums into the
table of `score_schema`. `suspicion` is the label-error ranking. Nothing here reads or writes a file;
`scorekeeper` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.ledger.scoring.score_schema import SCORE_SCHEMA, SCORES
from litscope.ledger.visits import Visits

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WINDOW_STEP = 2.0**-26
"""The window's sums of margins are multiples of this (logit units). So float64 adds and subtracts without rounding, and
a window that was moved epoch by epoch has the bits, and the ties, of one that was summed anew."""

WINDOW_LIMIT = 2.0**16
"""Margins are clipped to this before they enter the window: 2,048 epochs then fit into float64's 53 bits."""

USUAL_SAMPLES = 20
"""How many samples with the mean share of mistakes are added to each class, so that a few mistakes make no lift."""

MOST_LIFT = 10.0
"""Lifts are clipped to this and its reciprocal: about what ten classes allow, as in the data of the bench."""

HALF_UNEVEN = 2.0
"""Unevenness of the mistakes at which the lift has half its weight, as if a third of the pairs had all of them."""


class Change(NamedTuple):
    """How many predictions differ from the sample's visit before, and how many had one."""

    num_changed: int
    num_compared: int


_COLUMNS: dict[str, tuple[type[np.generic], int]] = {
    "label": (np.int32, -1),
    "num_visits": (np.int32, 0),
    "since": (np.int32, 0),  # epoch of the first visit with this label
    "margin_sum": (np.float64, 0),
    "el2n_sum": (np.float64, 0),
    "loss_sum": (np.float64, 0),
    "p_mean": (np.float64, 0),
    "p_spread": (np.float64, 0),  # sum of squared deviations from the mean
    "last_loss": (np.float32, 0),
    "num_correct": (np.int32, 0),
    "num_forgotten": (np.int32, 0),
    "is_learned": (np.bool_, 0),  # correct at the last visit
    "first_learned": (np.int32, -1),
    "rival": (np.int32, -1),  # winner of the vote so far
    "rival_weight": (np.float64, 0),
    "window_visits": (np.int32, 0),
    "window_margin": (np.float64, 0),
}
"""Accumulators per sample that restart with a new label: dtype, value at the start."""

_KEPT: dict[str, tuple[type[np.generic], int]] = {"split": (np.int8, 0), "last_pred": (np.int32, -1)}
"""Columns that stay when the label changes."""

COLUMNS = {**_KEPT, **_COLUMNS}


class ScoreState:
    """Running sums per sample, about 120 bytes each.

    Attributes:
        sample_id: (N,) int64, ascending.
        columns: name -> (N,), for each of `COLUMNS`.
        splits: names; the column `split` holds their indices.
    """

    def __init__(
        self, sample_id: Ints | None = None, columns: dict[str, Array] | None = None, splits: Sequence[str] = ()
    ) -> None:
        self.sample_id = np.empty(0, np.int64) if sample_id is None else sample_id
        self.columns = columns or {name: np.empty(0, dtype) for name, (dtype, _) in COLUMNS.items()}
        self.splits = list(splits)

    def count(self, visits: Visits, epoch: int, split: str) -> Change:
        """Add the visits of one epoch and split. The epochs of a split come in their order.

        A sample whose label has changed starts anew.
        """
        at, c = self._admit(visits.sample_id), self.columns
        self._restart(at[(c["num_visits"][at] > 0) & (c["label"][at] != visits.label)])
        is_first = at[c["num_visits"][at] == 0]
        c["since"][is_first] = epoch
        c["split"][at] = self._split_code(split)
        c["label"][at] = visits.label
        c["num_visits"][at] += 1

        signals = {name: values.astype(np.float64) for name, values in visits.signals.items()}
        for name in ("margin", "el2n", "loss"):
            c[f"{name}_sum"][at] += signals[name]
        c["last_loss"][at] = visits.signals["loss"]
        deviation = signals["p_label"] - c["p_mean"][at]  # Welford (1962): no cancellation
        c["p_mean"][at] += deviation / c["num_visits"][at]
        c["p_spread"][at] += deviation * (signals["p_label"] - c["p_mean"][at])

        is_correct = visits.pred == visits.label
        c["num_correct"][at] += is_correct
        c["num_forgotten"][at] += c["is_learned"][at] & ~is_correct
        c["is_learned"][at] = is_correct
        c["first_learned"][at[is_correct & (c["first_learned"][at] < 0)]] = epoch
        self._vote(at[~is_correct], visits.pred[~is_correct], signals["p_max"][~is_correct])

        before = c["last_pred"][at]
        c["last_pred"][at] = visits.pred
        had_one = before >= 0
        return Change(int((had_one & (before != visits.pred)).sum()), int(had_one.sum()))

    def move_window(self, visits: Visits, epoch: int, sign: int) -> None:
        """Add counted visits to the window's sums (`sign` 1), or subtract them (-1).

        Visits with a label that is not the sample's present one are not part of the sums, nor are those
        of samples that were never counted (their rows came in between).
        """
        (at, counts), c = self._find(visits.sample_id), self.columns
        at = at[counts]
        is_same = (c["since"][at] <= epoch) & (c["label"][at] == visits.label[counts])
        at, counts[counts] = at[is_same], is_same
        c["window_visits"][at] += sign
        margin = visits.signals["margin"][counts].astype(np.float64).clip(-WINDOW_LIMIT, WINDOW_LIMIT)
        c["window_margin"][at] += sign * WINDOW_STEP * np.rint(margin / WINDOW_STEP)

    def table(self) -> pa.Table:
        """One row per sample, as `SCORE_SCHEMA`."""
        c = self.columns
        n, label = c["num_visits"], c["label"]
        split = pa.DictionaryArray.from_arrays(pa.array(c["split"]), pa.array(self.splits, pa.string()))
        values: dict[str, Array] = {
            "believed_label": np.where(c["rival"] >= 0, c["rival"], label),
            "aum": c["margin_sum"] / n,
            "confidence": c["p_mean"],
            "variability": np.sqrt(c["p_spread"] / n),
            "correctness": c["num_correct"] / n,
            "forgetting_events": c["num_forgotten"],
            "never_learned": c["num_correct"] == 0,
            "el2n": c["el2n_sum"] / n,
            "mean_loss": c["loss_sum"] / n,
            "last_loss": c["last_loss"],
            "first_learned_epoch": c["first_learned"],
            "last_pred": c["last_pred"],
            "suspicion": suspicion(c["window_margin"], c["window_visits"], c["split"], label, c["rival"]),
        }
        unlabelled = label < 0
        columns: dict[str, pa.Array] = {
            "sample_id": pa.array(self.sample_id),
            "split": split.cast(pa.string()),
            "label": pa.array(label),
            "num_visits": pa.array(n),
        }
        for name, score in SCORES.items():
            absent = unlabelled if score.needs_label else np.zeros_like(unlabelled)
            absent = absent | np.isnan(values[name]) if name == "suspicion" else absent
            dtype = score.dtype.to_pandas_dtype()
            columns[name] = pa.array(values[name].astype(dtype, copy=False), score.dtype, mask=absent)
        return pa.table([columns[name] for name in SCORE_SCHEMA.names], schema=SCORE_SCHEMA)

    def _find(self, ids: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """For samples (N,): their positions among the known ones, and which of them are known."""
        at = np.searchsorted(self.sample_id, ids)
        known = at < len(self.sample_id)
        known[known] = self.sample_id[at[known]] == ids[known]
        return at, known

    def _admit(self, ids: Ints) -> Ints:
        """The positions of samples (ascending ids); new ones are inserted."""
        at, known = self._find(ids)
        if known.all():
            return at
        new, before = ids[~known], at[~known]
        self.sample_id = np.insert(self.sample_id, before, new)
        for name, (_, start) in COLUMNS.items():
            self.columns[name] = np.insert(self.columns[name], before, start)
        return np.searchsorted(self.sample_id, ids)

    def _split_code(self, split: str) -> int:
        if split not in self.splits:
            self.splits.append(split)
        return self.splits.index(split)

    def _restart(self, at: Ints) -> None:
        for name, (_, start) in _COLUMNS.items():
            self.columns[name][at] = start

    def _vote(self, at: Ints, pred: Array, weight: Floats) -> None:
        """Boyer-Moore vote with weights: another class first uses up the rival's weight, then takes its place."""
        rival, total = self.columns["rival"], self.columns["rival_weight"]
        is_same = rival[at] == pred
        change = np.where(is_same, total[at] + weight, total[at] - weight)
        is_new = change < 0
        rival[at[is_new | (rival[at] < 0)]] = pred[is_new | (rival[at] < 0)]
        total[at] = np.abs(change)


def suspicion(margin: Floats, num_visits: Array, split: Array, label: Array, rival: Array) -> Floats:
    """How much each sample looks like a label error: its rank within its split, in [0, 1].

    The rank is by -AUM (Pleiss et al. 2020) over the window of the memorisation clock, plus the logarithm
    of how common the supposed mistake is in this run (`mistake_prior`). -AUM says by how many nats the model
    prefers another class, so the two add up as a log-likelihood and a log-prior do.

    Args:
        margin: (N,), its sum over the visits in the window.
        num_visits: (N,), visits in the window.
        split: (N,) split codes.
        label: (N,) class index.
        rival: (N,) class that the model held against the label, -1 for none.

    Returns:
        (N,) float64: 1 for the most suspicious sample of a split, 0 for the least. Ties get their
        mean rank, a sample alone in its split 0.5, one without a visit or a label NaN.
    """
    result = np.full(len(split), np.nan)
    is_known = (num_visits > 0) & np.isfinite(margin)
    for code in np.unique(split[is_known]):
        at = np.flatnonzero(is_known & (split == code))
        aum = margin[at] / num_visits[at]
        rank = mean_ranks(mistake_prior(label[at], rival[at], aum) - aum)
        result[at] = rank / (len(at) - 1) if len(at) > 1 else 0.5
    return result


def mistake_prior(label: Array, rival: Array, aum: Floats) -> Floats:
    """w ln(lift) of each sample's supposed mistake: that a sample of class `rival` got the label `label`.

    A sample is taken for its rival if its AUM is negative, else for its label. The lift of a pair of classes
    is the share, among all samples taken for the one, that carries the label of the other, over the mean of
    this share; confident learning counts its joint in this way (Northcutt et al. 2021, arXiv:1911.00068).

    A sample whose AUM is not negative, whose label the model agrees with, never becomes more suspicious.

    A pair is frequent where people mislabel, and also where the network cannot tell two classes apart.
    If wrong labels are spread over all classes, only the second is left, and misleads. So the weight w is
    v / (2 + v), with v the unevenness of the counts: their squared coefficient of variation over the pairs, less
    what chance adds, 0 when all pairs are alike.

    Args:
        label: (N,) class index, N > 0.
        rival: (N,) class index; -1 for none, whose prior is 0.
        aum: (N,).

    Returns:
        (N,) float64, nats.
    """
    num_classes = int(max(label.max(), rival.max())) + 1
    has_rival = rival >= 0
    held = np.where(has_rival & (aum < 0), rival, label).astype(np.int64)
    num_wrong = np.count_nonzero(held != label)
    num_pairs = max(num_classes * (num_classes - 1), 1)
    usual = (num_wrong + 1) / (len(label) + 1) / max(num_classes - 1, 1)
    pairs, counts = np.unique(held * num_classes + label, return_counts=True)  # at most N of the C x C pairs

    wrong = counts[pairs // num_classes != pairs % num_classes]
    uneven = max(0.0, num_pairs * np.sum(wrong * (wrong - 1.0)) / max(num_wrong * (num_wrong - 1.0), 1.0) - 1.0)

    supposed = np.where(has_rival, rival, 0).astype(np.int64)
    asked = supposed * num_classes + label
    at = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
    count = np.where(pairs[at] == asked, counts[at], 0)
    held_for = np.bincount(held, minlength=num_classes)[supposed]
    lift = (count + USUAL_SAMPLES * usual) / (held_for + USUAL_SAMPLES) / usual
    prior = uneven / (HALF_UNEVEN + uneven) * np.log(lift.clip(1 / MOST_LIFT, MOST_LIFT))
    most = np.where(aum < 0, np.inf, 0.0)  # no mistake is to be expected where the model prefers the label
    return np.where(has_rival, np.minimum(prior, most), 0.0)


def mean_ranks(values: Floats) -> Floats:
    """The rank of each of (N,) finite values, from 0; equal values get the mean of their ranks."""
    order = np.argsort(values)
    in_order = values[order]
    starts = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))[: len(values)]
    lengths = np.diff(np.append(starts, len(values)))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (lengths - 1) / 2, lengths)
    return ranks
