"""`litscope bench prune`: arms of the same cost, paired differences, and a verdict that follows from them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from litscope.cli import main
from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError
from litscope.experiments.prune import ArmRun, Difference, PruneResult, bench_prune, random_ratio
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir

LINE = [
    "digits",
    "--arch",
    "convnet",
    "--epochs",
    "5",
    "--batch-size",
    "128",
    "--logger",
    "none",
    "--test-split",
    "0.2",
]


def arm(name: str, seed: int, value: float, num_samples: int = 100, epochs: int = 8) -> ArmRun:
    return ArmRun(name, seed, num_samples, 1.0, 10, epochs, value, {"test/accuracy": value})


def result(ours: list[float], shorter: list[float], metric: str = "test/accuracy") -> PruneResult:
    runs = []
    for seed, (a, b) in enumerate(zip(ours, shorter, strict=True)):
        runs += [arm("full", seed, 0.9), arm("infobatch", seed, a, 70), arm("random", seed, 0.8, 70)]
        runs.append(arm("shorter", seed, b, 70))
    return PruneResult("digits", "infobatch", 0.5, metric, len(ours), tuple(runs))


def test_the_interval_is_student_s_by_hand() -> None:
    """Mean 2, deviation 1, n = 3: t(0.975, 2) is 4.3027."""
    found = Difference.of([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.high - 2.0 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert 2.0 - found.low == pytest.approx(found.high - 2.0)


@pytest.mark.parametrize(
    ("ours", "shorter", "metric", "words"),
    [
        ([0.9, 0.91, 0.92], [0.8, 0.811, 0.82], "test/accuracy", "infobatch beats a shorter schedule"),
        ([0.8, 0.811, 0.82], [0.9, 0.91, 0.92], "test/accuracy", "infobatch is worse than a shorter"),
        ([0.9, 0.8, 0.85], [0.8, 0.9, 0.85], "test/accuracy", "infobatch cannot be told apart from a shorter"),
        ([0.8, 0.811, 0.82], [0.9, 0.91, 0.92], "test/loss", "infobatch beats a shorter schedule"),
    ],
)
def test_the_verdict_follows_from_the_interval(
    ours: list[float], shorter: list[float], metric: str, words: str
) -> None:
    found = result(ours, shorter, metric)
    assert words in found.verdict
    assert "30 % of the samples saved" in found.verdict
    assert found.lines()[-1] == found.verdict


def test_differences_are_paired_by_seed() -> None:
    """The seeds differ by far more than the arms: unpaired, nothing could be said."""
    assert "beats" in result([0.5, 0.7, 0.9], [0.49, 0.691, 0.889]).verdict


def test_random_leaves_out_as_many_in_the_same_epochs() -> None:
    """Eight epochs of 100: the first and the last are whole, so 240 of 600 are left out in the six between."""
    assert random_ratio(arm("full", 0, 0.9, 800), arm("infobatch", 0, 0.9, 560)) == pytest.approx(0.4)


@pytest.mark.slow
def test_a_tiny_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs"
    assert main(["bench", "prune", *LINE, "--seeds", "2", "--json", "--run-dir", str(folder)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
    order = [(run["arm"], run["seed"]) for run in found["runs"]]
    assert order == [(name, seed) for seed in (42, 43) for name in ("full", "infobatch", "random", "shorter")]
    assert found["metric"] == "test/accuracy"
    cost = found["cost"]
    assert cost["full"] == 1
    assert cost["infobatch"] < 0.95
    assert cost["random"] == pytest.approx(cost["infobatch"], abs=0.03)
    assert cost["shorter"] == pytest.approx(cost["infobatch"], abs=0.03)
    for run in found["runs"]:
        rows = epoch_rows(RunDir(folder / f"{run['arm']}-seed{run['seed']}"))
        assert run["num_samples"] == sum(row["num_samples"] for row in rows)
        assert 0 < run["value"] == run["metrics"]["test/accuracy"]
    shorter = epoch_rows(RunDir(folder / "shorter-seed42"))
    assert shorter[-1]["lr"] < 0.1 * shorter[0]["lr"], "its schedule comes to its end"
    assert set(found["minus"]) == {"full", "random", "shorter"}
    for difference in found["minus"].values():
        assert difference["low"] <= difference["mean"] <= difference["high"]
    assert "a shorter schedule of the same cost" in found["verdict"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_steps": 10}, "--max-steps: in `litscope bench prune`, cost"),
        ({"patience": 2}, "--early-stopping: in `litscope bench prune`, cost"),
        ({"name": "x"}, "--name: in `litscope bench prune`, cost"),
        ({"epochs": 2}, "needs 3 epochs or more"),
        ({"mixup": 0.2}, "--prune infobatch: with --mixup"),
    ],
)
def test_arms_that_could_not_be_compared_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench_prune(recipe_from_keywords(dataset="digits", **flags))


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench"]) == 0
    assert main(["bench", "prune", "--help"]) == 0
    assert "usage: litscope bench prune" in capsys.readouterr().out
    assert main(["bench", "prun"]) == 2
    assert "Did you mean 'prune'" in capsys.readouterr().err
    assert main(["bench", "prune", "digits", "--seeds", "1"]) == 2
    assert "an interval needs at least 2" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["bench", "prune", *LINE, "--run-dir", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
