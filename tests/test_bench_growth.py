"""bench/growth.py: the figures by hand, and a tiny run, so that it works when its day comes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("growth")


def row(num_samples: int, epoch_s: float) -> dict[str, float]:
    sizes = {"peak_bytes": 5e8, "run_bytes": 100.0 * num_samples, "ledger_bytes": 9.0, "data_bytes": 9.0}
    return {"num_samples": num_samples, "epoch_s": epoch_s, "steps_per_s": 1.0, **sizes}


def test_growth_is_the_cost_of_a_sample_from_size_to_size(growth: ModuleType) -> None:
    rows = [row(10, 1.0), row(100, 5.0), row(1000, 75.0)]
    found = growth.growth(rows)
    assert found == {"epoch_s": [0.5, 1.5], "peak_bytes": [0.1, 0.1], "run_bytes": [1.0, 1.0]}
    words = growth.table(rows, found)
    assert "s per epoch: NOT linear: a sample costs 1.50 times" in words
    assert "bytes of the run: linear or better" in words


@pytest.mark.slow
def test_a_tiny_growth_bench(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(BENCH / "growth.py"),
        "--least",
        "3",
        "--most",
        "3",
        "--epochs",
        "2",
        "--threads",
        "1",
    ]
    command += ["--output", str(tmp_path / "growth.png"), "--out", str(tmp_path / "lines.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    line = json.loads((tmp_path / "lines.jsonl").read_text())
    assert json.loads(done.stdout.strip().splitlines()[-1]) == line
    size = line["sizes"][0]
    assert size["num_samples"] == 1000
    assert size["steps_per_epoch"] == 1
    assert 0 < size["ledger_bytes"] < size["run_bytes"]
    assert size["peak_bytes"] > 1e8
    assert (tmp_path / "growth.png").stat().st_size > 1000
    assert line["machine"]["versions"]["torch"]
