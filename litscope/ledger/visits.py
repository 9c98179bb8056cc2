"""Which rows of an epoch count for the scores: at most one per sample. Pure numpy; the order of rows is free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

VISIT_SIGNALS: tuple[str, ...] = ("loss", "p_label", "p_max", "margin", "el2n")
"""The signals that scores are made of."""


class Visits(NamedTuple):
    """The rows of one epoch and split that count: one per sample, in the order of `sample_id`.

    Attributes:
        sample_id: (N,) int64, ascending.
        label: (N,) int32, negative without one.
        pred: (N,) int32.
        signals: name -> (N,) float32, for each of `VISIT_SIGNALS`.
    """

    sample_id: Ints
    label: Array
    pred: Array
    signals: Mapping[str, Array]


class Pinned(NamedTuple):
    """Samples for which only visits with a certain label count: canaries, planted with a wrong one.

    Attributes:
        sample_id: (P,) int64, ascending.
        label: (P,) int32.
    """

    sample_id: Ints
    label: Array

    @classmethod
    def of(cls, labels: Mapping[int, int]) -> Pinned:
        """From sample_id -> class index."""
        ids = sorted(labels)
        return cls(np.array(ids, np.int64), np.array([labels[i] for i in ids], np.int32))


def pick_visits(
    rows: Mapping[str, Array], is_train_split: bool, pinned: Pinned | None = None, among: Ints | None = None
) -> Visits:
    """The rows of one epoch and one split that count; arguments as `counted_rows`."""
    chosen = counted_rows(rows, is_train_split, pinned, among)
    signals = {name: rows[name][chosen] for name in VISIT_SIGNALS}
    return Visits(rows["sample_id"][chosen], rows["label"][chosen], rows["pred"][chosen], signals)


def counted_rows(
    rows: Mapping[str, Array], is_train_split: bool, pinned: Pinned | None = None, among: Ints | None = None
) -> Ints:
    """The positions of the rows of one epoch and one split that count, in the order of their `sample_id`.

    In the training split these are the rows of training steps or, if it has none (blended batches),
    those of the clean evaluation pass; in other splits, the rows of evaluations. A visit with a
    signal that is not finite says nothing about the sample and is left out, and so is the visit of a
    pinned sample with another label. If a sample has several visits, the one at the greatest step
    counts; at the same step, the one with the greatest loss.

    Args:
        rows: sample_id, step, label, pred, is_train (bool: phase) and `VISIT_SIGNALS`, each (R,), in any order.
        is_train_split: whether this is the split that is trained on.
        pinned: samples that are pinned to a label.
        among: (A,) positions of the rows of this epoch and split, if they are not all.
    """
    at = np.arange(len(rows["sample_id"])) if among is None else among
    is_train = rows["is_train"][at]
    is_wanted = is_train if is_train_split and is_train.any() else ~is_train
    at = at if is_wanted.all() else at[is_wanted]
    at = _finite(rows, at)
    ids = rows["sample_id"][at]
    if pinned is not None and len(pinned.sample_id):
        pin = np.searchsorted(pinned.sample_id, ids).clip(max=len(pinned.sample_id) - 1)
        counts = (pinned.sample_id[pin] != ids) | (pinned.label[pin] == rows["label"][at])
        at, ids = at[counts], ids[counts]
    order = np.argsort(ids)
    ordered = ids[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)[: len(ids)]
    del ids, ordered  # whoever reads a whole epoch has little memory left
    if not is_last.all():
        keys = ("pred", *reversed(VISIT_SIGNALS), "step", "sample_id")  # the last of them counts most
        order = np.lexsort([rows[name][at] for name in keys])[is_last]
    chosen: Ints = at[order]
    return chosen


def _finite(rows: Mapping[str, Array], at: Ints) -> Ints:
    """The positions among `at` where all signals are finite; for a sample without a label, those that need none."""
    for name in VISIT_SIGNALS:
        if np.isfinite(rows[name].sum(dtype=np.float64)):  # so each of them is; a fraction of the cost of looking
            continue
        is_finite = np.isfinite(rows[name][at])
        if name != "p_max":
            is_finite |= rows["label"][at] < 0
        at = at[is_finite]
    return at
