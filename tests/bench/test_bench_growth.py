"""bench/growth.py: its ratio by hand. (tests/bench/test_bench.py runs it at a tiny size.)"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("growth")


def row(num_samples: int, epoch_s: float) -> dict[str, object]:
    return {
        "num_samples": num_samples,
        "epoch_s": [epoch_s, 0.0, 2 * epoch_s],
        "peak_bytes": 5e8,
        "run_bytes": num_samples,
    }


def test_growth_is_the_cost_of_a_sample_at_the_largest_size_over_the_smallest(growth: ModuleType) -> None:
    rows = [row(10, 1.0), row(100, 5.0), row(1000, 75.0)]
    assert growth.ratio(rows, "epoch_s") == 0.75
    assert growth.ratio(rows, "peak_bytes") == 0.01
    assert growth.ratio(rows, "run_bytes") == 1.0


def test_the_plot_is_the_same_each_time(growth: ModuleType, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        growth.draw([row(10, 1.0), row(100, 5.0)], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
