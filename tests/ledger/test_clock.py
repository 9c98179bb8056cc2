"""The memorisation clock: when it finds a minimum, when it does not, and the window that it gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litscope.ledger.scoring.clock import LITTLE, first_fall, first_minimum, read_clock


def clock_of(*shares: float, n: int = 10_000) -> int | None:
    return first_minimum([math.nan, *shares], [0, *[n] * len(shares)])


def test_t_star_is_the_first_minimum_of_the_smoothed_share() -> None:
    # Averages of epochs 1 to 6: (.5+.3)/2, (.5+.3+.1)/3, (.3+.1+.2)/3, (.1+.2+.3)/3 = .2, (.2+.3+.4)/3 = .3
    assert clock_of(0.5, 0.3, 0.1, 0.2, 0.3, 0.4) == 3
    assert clock_of(0.5, 0.3, 0.1, 0.2, 0.3) is None  # .2 and .2: it has not risen yet
    assert clock_of(0.5, 0.3, 0.1, 0.2, 0.6) == 3


def test_a_minimum_stays_where_it_is() -> None:
    assert clock_of(0.5, 0.3, 0.1, 0.2, 0.6, 0.0, 0.0, 0.0, 0.5, 0.5) == 3


def test_a_rise_at_the_beginning_is_no_minimum() -> None:
    """With a warm-up of the learning rate more and more predictions change at first."""
    assert clock_of(0.1, 0.2, 0.3, 0.4, 0.4, 0.4) is None
    assert clock_of(0.1, 0.2, 0.5, 0.2, 0.1, 0.1, 0.3, 0.5) == 5


@pytest.mark.parametrize("level", [0.0, 0.25, 1.0])
def test_a_plateau_is_no_minimum(level: float) -> None:
    assert clock_of(*[level] * 20) is None
    assert clock_of(0.9, 0.5, *[0.0] * 20) is None


def test_single_predictions_on_tiny_data_are_noise() -> None:
    shares = [0.4, 0.2, 0.1, 0.02, 0.0, 0.0, 0.01, 0.0, 0.01, 0.01, 0.0, 0.02]
    assert clock_of(*shares, n=100) is None
    assert clock_of(*shares, n=100_000) == 6


def test_epochs_without_a_share_are_passed_over() -> None:
    shares, n = [math.nan, 0.5, 0.3, math.nan, 0.1, 0.2, 0.6], [0, 99, 99, 0, 99, 99, 99]
    assert first_minimum(shares, n) == 4


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(1, 10_000))
def test_what_comes_later_moves_no_minimum(shares: list[float], n: int) -> None:
    found = [clock_of(*shares[:length], n=n) for length in range(len(shares) + 1)]
    known = [t for t in found if t is not None]
    assert len(set(known)) <= 1
    assert found == [None] * (len(found) - len(known)) + known


def test_the_window() -> None:
    falling = [math.nan, *np.linspace(0.9, 0.1, 21)]
    assert read_clock(falling[:1], [0]).window == (0, 0)
    assert read_clock(falling, [0, *[100] * 21]).window == (10, 21)
    turned = read_clock([math.nan, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.4, 0.8], [0, *[1000] * 8])
    assert (turned.t_star, turned.window, turned.num_epochs) == (5, (2, 5), 9)


def test_where_hardly_anything_is_left_to_change_learning_has_ended() -> None:
    """A small strong network: everything is by heart after the fourth epoch, and nothing ever rises again."""
    by_heart = [math.nan, 0.44, 0.11, 0.05, 0.0, *[0.0] * 15]
    clock = read_clock(by_heart, [0, *[244] * 19])
    assert (clock.t_star, clock.settled) == (None, 4)
    assert clock.window == (1, 3), "from where half as much changes to the last epoch in which anything did"
    assert read_clock(by_heart[:4], [0, *[244] * 3]).settled is None
    assert read_clock(by_heart[:4], [0, *[244] * 3]).window == (1, 3)


def test_the_window_begins_where_half_as_much_changes_or_in_the_middle() -> None:
    calm = [math.nan, 0.5, 0.4, 0.3, 0.2, *[0.15] * 10]
    assert read_clock(calm, [0, *[1000] * 14]).window == (3, 14)
    assert read_clock(calm[:6], [0, *[1000] * 5]).window == (2, 5)
    assert read_clock([math.nan, *[0.5] * 10], [0, *[1000] * 10]).window == (5, 10)


def test_a_fall_is_more_than_single_predictions() -> None:
    assert first_fall([math.nan, 1 / 12, 0.0], [0, 12, 12], LITTLE) is None
    assert first_fall([math.nan, 6 / 12, 0.0], [0, 12, 12], LITTLE) == 2
    assert first_fall([math.nan, *[0.0] * 9], [0, *[1000] * 9], LITTLE) is None, "a network that never moved"


def test_memorisation_that_begins_before_everything_settles_is_what_counts() -> None:
    wave = [math.nan, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.4, 0.8, 0.4, 0.1, *[0.0] * 10]
    clock = read_clock(wave, [0, *[1000] * 20])
    assert (clock.t_star, clock.settled, clock.window) == (5, None, (2, 5))
    after = [math.nan, 0.9, 0.5, 0.02, 0.02, 0.3, 0.6, 0.6]  # settled first: what comes later moves nothing
    clock = read_clock(after, [0, *[1000] * 7])
    assert (clock.t_star, clock.settled, clock.window) == (None, 3, (1, 2))


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(1, 10_000))
def test_an_end_once_found_stays_and_the_window_only_moves_on(shares: list[float], n: int) -> None:
    clocks = [read_clock([math.nan, *shares[:length]], [0, *[n] * length]) for length in range(len(shares) + 1)]
    ended = [(c.t_star, c.settled, c.window[1]) for c in clocks if (c.t_star, c.settled) != (None, None)]
    assert len(set(ended)) <= 1
    assert [(c.t_star, c.settled, c.window[1]) for c in clocks][len(clocks) - len(ended) :] == ended
    assert all(0 <= c.window[0] <= c.window[1] < c.num_epochs for c in clocks)


def test_for_json() -> None:
    assert read_clock([math.nan, 0.5], [0, 9]).to_dict() == {
        "changing": [None, 0.5],
        "t_star": None,
        "window": (0, 1),
        "num_epochs": 2,
        "settled": None,
    }
