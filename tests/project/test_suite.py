"""The test suite itself: which cases the fast one has."""

from __future__ import annotations

import pytest
from places import ROOT


def test_of_a_thorough_test_the_first_case_is_fast_whatever_the_order(request: pytest.FixtureRequest) -> None:
    thorough = [item for item in request.session.items if item.get_closest_marker("thorough") is not None]
    fast = {item.nodeid: vars(item)["callspec"] for item in thorough if item.get_closest_marker("slow") is None}
    assert not [name for name, case in fast.items() if any(case.indices.values())]


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest knows them by their names alone, and passes over the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})
