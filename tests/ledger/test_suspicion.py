"""Suspicion worked out by hand: ranks within a split, the rival, and the prior of a mistake."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from visit_rows import columns, row

from litscope.ledger.scoring.scores import ScoreState
from litscope.ledger.scoring.suspicion import Window, held_for, mean_ranks, mistake_prior, rank
from litscope.ledger.visits import pick_visits


def window_of(margin: np.ndarray, num_visits: np.ndarray, p_label: float = 0.5, p_rival: float = 1.0) -> Window:
    """Sums of visits with these margins (already sums) and with the same probabilities everywhere."""
    return Window(num_visits, margin, p_label * num_visits, p_rival * num_visits)


def test_suspicion_by_hand() -> None:
    margin = np.array([-6.0, -2.0, 9.0, 4.0])  # over 3, 1, 3, 1 visits: AUM -2, -2, 3, 4
    label, no_rival = np.zeros(4, np.int32), np.full(4, -1)
    found = rank(window_of(margin, np.array([3, 1, 3, 1])), np.zeros(4, np.int8), label, no_rival)
    assert found.suspicion.tolist() == [2.5 / 3, 2.5 / 3, 1 / 3, 0.0]
    assert not found.looks_wrong.any()


def test_suspicion_ranks_within_a_split_and_knows_what_it_does_not_know() -> None:
    margin, split = np.array([1.0, 2.0, -5.0, 0.0, np.nan]), np.array([0, 0, 1, 0, 0], np.int8)
    window = window_of(margin, np.array([1, 1, 1, 0, 1]))
    found = rank(window, split, np.zeros(5, np.int32), np.full(5, -1)).suspicion
    assert found[:3].tolist() == [1.0, 0.0, 0.5]
    assert np.isnan(found[3:]).all()


def test_a_sample_is_held_for_its_rival_where_the_model_is_as_sure_of_it_as_of_that_class() -> None:
    # The mean p(label) of class 0 is (.9 + .7) / 2 = .8, that of class 1 (.1 + .2 + .3 + .6) / 4 = .3.
    label = np.array([0, 0, 1, 1, 1, 1])
    rival = np.array([-1, 1, 0, 0, 0, 2])
    aum = np.array([3.0, -0.5, -2.0, -2.0, 1.0, -2.0])
    p_label = np.array([0.9, 0.7, 0.1, 0.2, 0.3, 0.6])
    p_rival = np.array([0.1, 0.25, 0.8, 0.75, 0.9, 0.99])
    # sure enough; not sure; not preferred; no sample has label 2, so no one knows how sure that would be
    assert held_for(label, rival, aum, p_label, p_rival).tolist() == [0, 0, 0, 1, 1, 1]
    p_rival[1] = 0.35
    assert held_for(label, rival, aum, p_label, p_rival).tolist() == [0, 1, 0, 1, 1, 1]


def test_what_looks_wrong_is_counted_in_each_split_without_canaries() -> None:
    state = ScoreState()
    wrong = {"loss": 3.0, "margin": -2.9, "p_label": 0.05}  # p(rival) = e^-.1
    right = {"loss": 0.25, "margin": 2.0, "p_label": 0.75}
    rows = [row(i, 0, label=1, **wrong) for i in range(3)] + [row(i, i % 2, label=i % 2, **right) for i in range(3, 20)]
    for split in ("train", "val"):
        shift = 100 * (split == "val")
        visits = pick_visits(columns([{**r, "sample_id": r["sample_id"] + shift} for r in rows[shift // 50 :]]), True)
        state.count(visits, 0, split)
        state.move_window(visits, 0, 1)
    ranking = state.ranking()
    assert state.num_wrong(ranking, np.array([], np.int64)) == {"train": (0, 3), "val": (0, 1)}
    assert state.num_wrong(ranking, np.array([1, 7], np.int64)) == {"train": (1, 2), "val": (0, 1)}


def test_the_probability_of_the_rival_has_digits_where_that_of_the_label_has_none() -> None:
    """Loss 200: in float32 p_label is 0, yet the network is sure of the other class."""
    state = ScoreState()
    visits = pick_visits(columns([row(1, 0, label=1, loss=200.0, margin=-199.99, p_label=0.0)]), True)
    state.count(visits, 0, "train")
    state.move_window(visits, 0, 1)
    assert state.columns["window_p_rival"].tolist() == [pytest.approx(math.exp(-0.01), abs=1e-4)]
    assert state.columns["window_p_label"].tolist() == [0.0]


def test_the_prior_of_a_mistake_by_hand() -> None:
    # Held for class 0: four of label 0 and two of label 1; for class 1: three; for class 2: two.
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2])
    rival = np.array([-1, -1, -1, -1, 0, 0, -1, -1, -1, 1, -1])
    aum = np.array([3.0, 3.0, 3.0, 3.0, -1.0, -1.0, 3.0, 3.0, 3.0, 1.0, 3.0])
    usual = (2 + 1) / (11 + 1) / 2  # two samples are not held for their label, and each could have two others
    label_1_for_0 = (2 + 20 * usual) / (6 + 20) / usual
    label_2_for_1 = (0 + 20 * usual) / (3 + 20) / usual  # contradicted at times, but held for its label
    assert (label_1_for_0, label_2_for_1) == (pytest.approx(18 / 13), pytest.approx(20 / 23))
    uneven = 6 * (2 * 1) / (2 * 1) - 1  # both mistakes in one of six pairs
    weight = uneven / (2 + uneven)
    expected = [0.0] * 4 + [weight * math.log(18 / 13)] * 2 + [0.0] * 3 + [weight * math.log(20 / 23), 0.0]
    assert_allclose(prior_of(label, rival, aum), expected)


def prior_of(label: np.ndarray, rival: np.ndarray, aum: np.ndarray) -> np.ndarray:
    """The prior where the model is sure of each rival that it prefers."""
    sure = np.ones(len(label))
    return mistake_prior(label, rival, aum, held_for(label, rival, aum, 0.5 * sure, sure))


def test_a_mistake_of_which_the_model_is_not_sure_is_not_counted() -> None:
    """The network prefers 0 for two samples of label 1, without being sure: no mistake is known."""
    label, rival = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1]), np.array([-1, -1, -1, -1, 0, 0, -1, -1, -1])
    aum = np.where(rival < 0, 3.0, -1.0)
    sure, unsure = np.full(9, 0.9), np.full(9, 0.6)
    assert mistake_prior(label, rival, aum, held_for(label, rival, aum, sure, unsure)).tolist() == [0.0] * 9
    assert mistake_prior(label, rival, aum, held_for(label, rival, aum, unsure, sure))[4] > 0.0


def two_kinds_of_mistakes(num_common: int, num_rare: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """label, rival, AUM of 50 right samples in each of four classes, then ones labelled 1 for 0, then 2 for 3."""
    label = np.array([*np.repeat(np.arange(4), 50), *[1] * num_common, *[2] * num_rare])
    rival = np.array([-1] * 200 + [0] * num_common + [3] * num_rare)
    return label, rival, np.where(rival < 0, 3.0, -1.0)


def test_of_equal_samples_the_one_with_the_more_common_mistake_is_more_suspicious() -> None:
    label, rival, aum = two_kinds_of_mistakes(10, 1)
    found = rank(window_of(aum, np.ones(211)), np.zeros(211, np.int8), label, rival)
    assert len(set(found.suspicion[200:210])) == 1
    assert found.suspicion[200] > found.suspicion[210] > found.suspicion[0]
    assert found.looks_wrong.tolist() == [False] * 200 + [True] * 11


def test_a_sample_that_the_model_has_as_labelled_is_not_made_suspicious_by_others() -> None:
    label, rival, aum = two_kinds_of_mistakes(10, 1)
    aum[200] = 3.0  # contradicted at times, by a mistake that is common, but held for its label
    prior = prior_of(label, rival, aum)
    assert prior[200] == 0.0
    assert prior[201] > 0.0


def test_a_lift_is_clipped() -> None:
    many = np.repeat(np.arange(100), 50)  # of a hundred classes, half of the first are called 1
    rival = np.where(np.arange(5_000) < 25, 0, -1)
    prior = prior_of(np.where(rival == 0, 1, many), rival, np.where(rival == 0, -1.0, 3.0))
    assert prior[0] == pytest.approx(math.log(10), rel=1e-3)


def test_mistakes_that_are_spread_over_all_pairs_of_classes_say_nothing() -> None:
    label, rival = np.array([0] * 25 + [1] * 25), np.array(([1] * 5 + [-1] * 20) + ([0] * 5 + [-1] * 20))
    assert prior_of(label, rival, np.where(rival < 0, 3.0, -1.0)).tolist() == [0.0] * 50


def test_one_sample_and_one_class_have_a_prior() -> None:
    one = np.array([0])
    assert prior_of(one, np.array([-1]), np.array([1.0])).tolist() == [0.0]
    assert prior_of(one, np.array([7]), np.array([-2.0])).tolist() == [0.0]


@given(st.lists(st.integers(-3, 3)))
def test_mean_ranks(values: list[int]) -> None:
    expected = [
        (sum(other < value for other in values) + sum(other <= value for other in values) - 1) / 2 for value in values
    ]
    assert mean_ranks(np.array(values, np.float64)).tolist() == expected
