"""The memorisation clock: when it finds a minimum, when it does not, and the window that it gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litscope.ledger.scoring.clock import first_minimum, read_clock


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
