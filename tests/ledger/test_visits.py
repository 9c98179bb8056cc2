"""Which rows of an epoch count: at most one for each sample."""

from __future__ import annotations

import math

import pytest
from visit_rows import Row, columns, row

from litscope.ledger.visits import VISIT_SIGNALS, Pinned, pick_visits


def picked(rows: list[Row], is_train_split: bool = True, pinned: Pinned | None = None) -> list[tuple[int, int, int]]:
    visits = pick_visits(columns(rows), is_train_split, pinned)
    return list(zip(visits.sample_id.tolist(), visits.label.tolist(), visits.pred.tolist(), strict=True))


def test_the_last_of_several_visits_in_an_epoch_counts() -> None:
    rows = [row(5, 0, step=3), row(5, 2, step=7), row(4, 1, step=9), row(5, 1, step=5)]
    assert picked(rows) == [(4, 1, 1), (5, 1, 2)]


def test_at_one_step_the_visit_with_the_greatest_loss_counts() -> None:
    rows = [row(5, 0, loss=1.0), row(5, 2, loss=3.0), row(5, 1, loss=2.0)]
    assert picked(rows) == picked(rows[::-1]) == [(5, 1, 2)]


def test_training_rows_come_before_clean_ones_and_clean_ones_do_where_there_is_nothing_else() -> None:
    rows = [row(5, 0, step=3), row(5, 2, step=7, is_train=False), row(6, 2, step=7, is_train=False)]
    assert picked(rows) == [(5, 1, 0)]
    assert picked(rows[1:]) == [(5, 1, 2), (6, 1, 2)]


def test_of_other_splits_only_evaluations_count() -> None:
    rows = [row(5, 0, step=3), row(6, 2, step=7, is_train=False)]
    assert picked(rows, is_train_split=False) == [(6, 1, 2)]
    assert picked(rows[:1], is_train_split=False) == []


@pytest.mark.parametrize("name", VISIT_SIGNALS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_visit_that_is_not_finite_does_not_count(name: str, value: float) -> None:
    assert picked([row(5, 0, step=1), row(5, 2, step=2, **{name: value}), row(6, 1, **{name: value})]) == [(5, 1, 0)]


def test_of_a_pinned_sample_only_visits_with_that_label_count() -> None:
    rows = [row(5, 0, label=2, step=1), row(5, 0, label=1, step=2), row(6, 0, label=1)]
    assert picked(rows, pinned=Pinned.of({5: 2, 8: 0})) == [(5, 2, 0), (6, 1, 0)]
    assert picked(rows, pinned=Pinned.of({9: 0})) == picked(rows) == [(5, 1, 0), (6, 1, 0)]
