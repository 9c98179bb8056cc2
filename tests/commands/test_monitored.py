"""The monitored metric, of validation and test samples, wherever a run is shown."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from typing import Any

import pytest
from small_runs import IRIS, small_fit

from litscope.cli import main
from litscope.defaults import monitored
from litscope.training.job import RunResult


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, list[str]]:
    """A run that monitors F1, and the lines that it printed."""
    told = io.StringIO()
    with redirect_stderr(told):
        result = small_fit(tmp_path_factory.mktemp("runs") / "iris", IRIS, test_split=0.2, monitor="val/f1")
    return result, told.getvalue().splitlines()


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_what_is_shown_of_it() -> None:
    metrics = {"val/f1": 0.9, "test/f1": 0.8, "train/f1": 1.0, "val/loss": 0.1, "test/ap": None}
    assert monitored(metrics, "val/f1") == {"val/f1": 0.9, "test/f1": 0.8}
    assert list(monitored(metrics, "train/f1")) == ["train/f1", "val/f1", "test/f1"]
    assert monitored(metrics, "val/ap") == {}
    assert monitored(metrics, None) == {}


def test_a_run_that_trains_and_at_its_end(watched: tuple[RunResult, list[str]]) -> None:
    result, lines = watched
    best = result.metrics
    assert result.summary["monitored"] == {name: best[name] for name in ("val/f1", "test/f1")}
    end = next(line for line in lines if line.startswith("best: "))
    assert end.startswith(f"best: val/f1 {best['val/f1']:.4f}, test/f1 {best['test/f1']:.4f}, test/accuracy ")
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 3
    assert all("  val/f1 " in line for line in epochs)
    shown = ", ".join(f"{name} {best[name]:.4g}" for name in ("val/f1", "test/f1"))
    assert repr(result) == f"RunResult({str(result.run.path)!r}: finished, {shown})"


def test_the_commands(watched: tuple[RunResult, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = watched
    folder, best = str(result.run.path), result.metrics
    table = printed(capsys, "runs", str(result.run.path.parent))
    assert f"val/f1 {best['val/f1']:.4g}, test/f1 {best['test/f1']:.4g}" in table
    (facts,) = json.loads(printed(capsys, "runs", str(result.run.path.parent), "--json"))["result"]
    assert facts["monitored"] == result.summary["monitored"]
    told: dict[str, Any] = json.loads(printed(capsys, "compare", folder, folder, "--json"))["result"]
    assert told["monitored"]["test/f1"] == {"first": best["test/f1"], "second": best["test/f1"], "difference": 0.0}
    assert list(told["monitored"]) == ["val/f1", "test/f1"]
    assert printed(capsys, "compare", folder, folder).split("\n\n")[1].split()[:2] == ["monitored", "first"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_evaluation(watched: tuple[RunResult, list[str]], split: str, capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = watched
    shown = printed(capsys, "evaluate", str(result.run.path), "--split", split)
    assert f"{split}/f1" in shown
    assert f"{result.metrics[f'{split}/f1']:.4f}" in shown
