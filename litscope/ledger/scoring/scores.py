"""Scores of every sample from its visits: pure numpy arithmetic, one epoch at a time, vectorised over samples.

`visits` chooses which rows of an epoch count; `ScoreState` adds them up and turns the sums into the
table of `score_schema`. `suspicion` ranks by those of the window. Nothing here reads or writes a file;
`scorekeeper` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.ledger.scoring.score_schema import SCORE_SCHEMA, SCORES
from litscope.ledger.scoring.suspicion import Ranking, Window, rank
from litscope.ledger.visits import Visits

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WINDOW_STEP = 2.0**-26
"""The window's sums are multiples of this (logit units, probability). So float64 adds and subtracts without rounding,
and a window that was moved epoch by epoch has the bits, and the ties, of one that was summed anew."""

WINDOW_LIMIT = 2.0**16
"""Margins are clipped to this before they enter the window: 2,048 epochs then fit into float64's 53 bits."""


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
    "window_p_label": (np.float64, 0),
    "window_p_rival": (np.float64, 0),  # probability of the strongest other class
}
"""Accumulators per sample that restart with a new label: dtype, value at the start."""

_KEPT: dict[str, tuple[type[np.generic], int]] = {"split": (np.int8, 0), "last_pred": (np.int32, -1)}
"""Columns that stay when the label changes."""

COLUMNS = {**_KEPT, **_COLUMNS}


class ScoreState:
    """Running sums per sample, about 140 bytes each.

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
        loss, margin, p_label = (
            visits.signals[name][counts].astype(np.float64) for name in ("loss", "margin", "p_label")
        )
        p_rival = np.exp(
            np.minimum(-(loss + margin), 0.0)
        )  # p_label e^-margin, where p_label may have run out of digits
        c["window_margin"][at] += sign * _steps(margin.clip(-WINDOW_LIMIT, WINDOW_LIMIT))
        c["window_p_label"][at] += sign * _steps(p_label.clip(0.0, 1.0))
        c["window_p_rival"][at] += sign * _steps(p_rival)

    def ranking(self) -> Ranking:
        """What the sums of the window say."""
        c = self.columns
        window = Window(c["window_visits"], c["window_margin"], c["window_p_label"], c["window_p_rival"])
        return rank(window, c["split"], c["label"], c["rival"])

    def num_wrong(self, ranking: Ranking, pinned: Ints) -> dict[str, tuple[int, int]]:
        """Split -> how many labels look wrong in it (`Ranking.looks_wrong`): of pinned samples, and of the others.

        Args:
            ranking: as `ranking` returns it.
            pinned: their ids.
        """
        is_pinned, found = np.isin(self.sample_id, pinned), {}
        for code, split in enumerate(self.splits):
            wrong = ranking.looks_wrong & (self.columns["split"] == code)
            found[split] = (int((wrong & is_pinned).sum()), int((wrong & ~is_pinned).sum()))
        return found

    def table(self, ranking: Ranking | None = None) -> pa.Table:
        """One row per sample, as `SCORE_SCHEMA`. `ranking`: that of now, if it is known already."""
        c = self.columns
        ranking = self.ranking() if ranking is None else ranking
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
            "suspicion": ranking.suspicion,
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


def _steps(values: Floats) -> Floats:
    """(N,) the nearest multiples of `WINDOW_STEP`."""
    return WINDOW_STEP * np.rint(values / WINDOW_STEP)
