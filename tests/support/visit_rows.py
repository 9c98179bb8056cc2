"""Visits written by hand, for the tests of what they add up to. Imports no torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from litscope.ledger.visits import VISIT_SIGNALS

Row = dict[str, Any]
"""epoch, sample_id, step, label, pred, is_train, and the signals of one visit."""


def row(sample_id: int, pred: int, label: int = 1, step: int = 0, is_train: bool = True, **signals: float) -> Row:
    """One visit; signals that are not given are 0.5."""
    values = dict.fromkeys(VISIT_SIGNALS, 0.5) | signals
    return {"sample_id": sample_id, "step": step, "label": label, "pred": pred, "is_train": is_train, **values}


def columns(rows: list[Row]) -> dict[str, np.ndarray]:
    """The visits as `pick_visits` takes them: an array for each column."""
    types = {"sample_id": np.int64, "step": np.int32, "label": np.int32, "pred": np.int32, "is_train": np.bool_}
    names = [*types, *VISIT_SIGNALS]
    return {name: np.array([r[name] for r in rows], types.get(name, np.float32)) for name in names}
