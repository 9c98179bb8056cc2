"""The test suite itself: which cases the fast one has."""

from __future__ import annotations

import pytest


def test_of_a_thorough_test_the_first_case_is_fast_whatever_the_order(request: pytest.FixtureRequest) -> None:
    thorough = [item for item in request.session.items if item.get_closest_marker("thorough") is not None]
    fast = [item for item in thorough if item.get_closest_marker("slow") is None]
    later = [item.nodeid for item in fast if any(vars(item)["callspec"].indices.values())]
    assert not later
