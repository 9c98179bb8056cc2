"""The test suite itself: which cases the fast one has."""

from __future__ import annotations

import pytest


def test_of_a_thorough_test_the_first_case_is_fast_whatever_the_order(request: pytest.FixtureRequest) -> None:
    thorough = [item for item in request.session.items if item.get_closest_marker("thorough") is not None]
    fast = {item.nodeid: vars(item)["callspec"] for item in thorough if item.get_closest_marker("slow") is None}
    assert not [name for name, case in fast.items() if any(case.indices.values())]
