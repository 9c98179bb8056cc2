"""bench/suspects.py: planted labels are as stated, recorded probabilities add up, and a tiny bench runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("planted")


@pytest.fixture
def suspects(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("suspects")


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_symmetric_noise_is_an_exact_share_and_reaches_every_class(planted: ModuleType, share: float) -> None:
    labels = np.arange(2_000) % 10
    noisy = planted.plant(labels, "symmetric", share, planted.PARTNER["mnist"], seed=3)
    wrong = noisy != labels
    assert wrong.sum() == round(share * 2_000)
    pairs = set(zip(labels[wrong], noisy[wrong], strict=True))
    assert len(pairs) > 80  # of 90
    assert np.array_equal(noisy, planted.plant(labels, "symmetric", share, planted.PARTNER["mnist"], seed=3))


@pytest.mark.parametrize("data", ["digits", "mnist", "cifar10"])
def test_class_dependent_noise_takes_the_share_of_each_class_to_its_partner(planted: ModuleType, data: str) -> None:
    labels = np.repeat(np.arange(10), 50)
    noisy = planted.plant(labels, "class-dependent", 0.2, planted.PARTNER[data], seed=0)
    for k in range(10):
        wrong = noisy[(labels == k) & (noisy != labels)]
        assert len(wrong) == 10
        assert set(wrong) == {planted.PARTNER[data][k]}
        assert planted.PARTNER[data][k] != k


def test_subsets_of_different_seeds_share_no_image(planted: ModuleType) -> None:
    images = [planted.load("digits", 500, seed)[0].reshape(500, -1) for seed in range(3)]
    seen = [{row.tobytes() for row in part} for part in images]
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]
    assert len(planted.load("digits", None, 1)[1]) == 1_797


@pytest.mark.slow
def test_a_tiny_bench_prints_every_ranking_with_its_cost(tmp_path: Path) -> None:
    keep, out = tmp_path / "keep", tmp_path / "lines.jsonl"
    command = [sys.executable, str(BENCH / "suspects.py"), "--quick", "--num-samples", "150", "--epochs", "2"]
    command += ["--keep", str(keep), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len({(line["noise"], line["share"]) for line in lines}) == 4
    names = {line["ranking"] for line in lines}
    assert {"suspicion", "AUM + EL2N", "last loss", "cleanlab CV", "cleanlab CV, margin"} <= names
    assert {"features", "features, AUM", "cleanlab, features", "cleanlab, features, margin"} <= names
    for line in lines:
        assert 0 < line["ap"][0] <= 1
        assert 0 <= line["auroc"][0] <= 1
        assert line["data"] == "digits"
        assert line["machine"]["versions"]["torch"]
    cost = {line["ranking"]: line["extra_s"][0] for line in lines}
    assert cost["cleanlab CV"] > lines[0]["fit_s"][0] > 0
    assert "| digits, symmetric, 10% |" in done.stdout
    modified = {path: path.stat().st_mtime_ns for path in keep.glob("*/held_out.npz")}
    assert len(modified) == 4
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {path: path.stat().st_mtime_ns for path in keep.glob("*/held_out.npz")} == modified
    assert "| digits, symmetric, 10% |" in again.stdout


def test_recorded_probabilities_keep_what_is_known_and_spread_the_rest(suspects: ModuleType) -> None:
    signals = {
        "p_label": np.array([[0.1, 0.91]], np.float32),
        "p_max": np.array([[0.5, 0.91]], np.float32),
        "pred": np.array([[3, 1]], np.float32),
    }
    probs = suspects.recorded_probs(signals, np.array([0, 1]))
    np.testing.assert_allclose(probs[0, [0, 3]], [0.1, 0.5], atol=1e-6)
    np.testing.assert_allclose(probs[0, [1, 2, 4, 9]], 0.05, atol=1e-6)
    np.testing.assert_allclose(probs[1], [0.01, 0.91, *[0.01] * 8], atol=1e-6)
