"""SmallLoss: by class, as a share or estimated, and in words of the overlay."""

from __future__ import annotations

import numpy as np
import pytest

from litscope.data.overlay import Overlay
from litscope.data.small_loss import LEAST_ESTIMATED, SmallLoss, ramp_epochs, upper_share


def selection(labels: list[int], losses: list[float], share: float | None) -> SmallLoss:
    made = SmallLoss(share, Overlay(np.array(labels)))
    made.learn(np.array(losses, np.float32))
    return made


@pytest.mark.flag("small_loss_share")
def test_by_hand() -> None:
    """Half of 4 zeros, and of 3 ones half: 1. The rare class, whose losses are all larger, does not pay for it."""
    made = selection([0, 0, 0, 0, 1, 1, 1], [1, 4, 2, 3, 7, 9, 8], share=0.5)
    ids = np.arange(7)
    made.plan(0, 30, ids)
    assert made._overlay.factors is None, "the first epoch knows nothing"
    made.plan(10, 30, ids)
    assert np.flatnonzero(made.passed_over).tolist() == [1, 3, 5]
    assert made._overlay.factors.tolist() == [2, 0, 2, 0, 1.5, 0, 1.5]
    made.plan(5, 30, ids)  # half of the ramp: a quarter of each class
    assert np.flatnonzero(made.passed_over).tolist() == [1]
    assert made.shares == {0: 0.25}
    factors = made._overlay.factors
    for label in (0, 1):
        of_class = [0, 1, 2, 3] if label == 0 else [4, 5, 6]
        assert factors[of_class].sum() == pytest.approx(len(of_class)), "a class counts as much as before"


def test_a_changed_label_counts_until_its_new_loss_is_known() -> None:
    made = selection([0] * 4, [1, 2, 3, 9], share=0.5)
    made.plan(10, 30, np.arange(4))
    assert np.flatnonzero(made.passed_over).tolist() == [2, 3]
    made._overlay.set([], {3: 1}, {})
    made.plan(11, 30, np.arange(4))
    assert not made.passed_over[3]
    assert np.isinf(made.losses[3])
    made.learn(np.array([1, 2, 3, 0.1], np.float32))
    made.plan(12, 30, np.arange(4))
    assert made.losses[3] == np.float32(0.1)


def test_a_class_is_never_passed_over_whole() -> None:
    made = selection([0, 0, 0, 0, 1], [1, 2, 3, 4, 99], share=0.5)
    made.plan(10, 30, np.arange(5))
    assert not made.passed_over[4]
    made.plan(10, 30, np.array([], np.int64))
    assert not made.passed_over.any()


def test_a_discarded_sample_takes_no_place() -> None:
    made = selection([0] * 4, [1, 2, 3, 9], share=0.25)
    made.plan(10, 30, np.array([0, 1, 2]))
    assert not made.passed_over.any(), "a quarter of three is none"


def test_the_estimate_is_the_planted_share_of_two_humps() -> None:
    random = np.random.default_rng(0)
    for share in (0.1, 0.3):
        losses = np.concatenate(
            [random.normal(0.3, 0.1, round(1000 * (1 - share))), random.normal(2, 0.3, round(1000 * share))]
        )
        assert upper_share(losses.astype(np.float32)) == pytest.approx(share, abs=0.01)


def test_one_hump_is_left_alone() -> None:
    random = np.random.default_rng(0)
    assert upper_share(random.normal(1, 0.2, 2000).astype(np.float32)) == 0
    assert upper_share(np.ones(100, np.float32)) == 0
    assert upper_share(np.array([0.1] * 10 + [5.0] * 9, np.float32)[:LEAST_ESTIMATED]) == 0, "too few to tell"
    mostly = np.concatenate([random.normal(0.3, 0.1, 100), random.normal(3, 0.1, 300)]).astype(np.float32)
    assert upper_share(mostly) == 0.5, "never more than a half"


def test_it_goes_on_from_its_state() -> None:
    one = selection([0, 0, 0, 0, 1, 1, 1], [1, 4, 2, 3, 7, 9, 8], share=0.5)
    one.plan(10, 30, np.arange(7))
    other = SmallLoss(0.5, Overlay(np.array([0, 0, 0, 0, 1, 1, 1])))
    other.load_state(one.state())
    assert other._overlay.factors.tolist() == one._overlay.factors.tolist()
    one.plan(11, 30, np.arange(7))
    other.plan(11, 30, np.arange(7))
    assert other.passed_over.tolist() == one.passed_over.tolist()


def test_the_ramp() -> None:
    assert [ramp_epochs(n) for n in (1, 6, 30, 300, None)] == [1, 2, 10, 10, 10]
