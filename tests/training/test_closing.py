"""A run that is over: its figures, its summary, and what comes between."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from forked import Forked, finished
from small_runs import IRIS

from litscope.cli import main
from litscope.live.records import read_summary
from litscope.pictures import charts
from litscope.rundir import RunDir
from litscope.training import summary
from litscope.training.loop.recorder import Recorder

PLACES: dict[str, tuple[Any, str]] = {
    "closing": (Recorder, "close"),
    "drawing": (charts, "curves"),
    "summing up": (summary, "hardest_samples"),
}


def _fit(run: Path, place: str, signals: list[int]) -> int:
    """`litscope fit`, which gets these signals in a place."""
    owner, name = PLACES[place]
    inner = getattr(owner, name)

    def interrupted(*arguments: Any, **named: Any) -> Any:
        for number in signals:
            os.kill(os.getpid(), number)
        return inner(*arguments, **named)

    setattr(owner, name, interrupted)
    flags = ["--arch", "mlp", "--epochs", "1", "--accelerator", "cpu", "--logger", "none", "--run-dir", str(run)]
    return main(["fit", IRIS["dataset"], *flags])


@pytest.mark.thorough
@pytest.mark.parametrize("place", PLACES)
def test_a_stop_request_is_answered_and_the_run_completed(place: str, tmp_path: Path) -> None:
    ended = finished(Forked(_fit, tmp_path / "run", place, [signal.SIGINT]))
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "SIGINT: " in ended.stderr
    run = RunDir(tmp_path / "run")
    assert read_summary(run)["status"] == "finished"
    assert sorted(path.name for path in run.figures.iterdir()) == ["confusion.png", "curves.png"]


@pytest.mark.thorough
@pytest.mark.parametrize("place", PLACES)
def test_a_second_one_ends_it_with_a_sentence(place: str, tmp_path: Path) -> None:
    ended = finished(Forked(_fit, tmp_path / "run", place, [signal.SIGTERM, signal.SIGINT]))
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "error: Stopped at once by a second SIGINT; what is written stays." in ended.stderr
    found = read_summary(RunDir(tmp_path / "run"))
    assert (found or {}).get("status") == {"closing": "interrupted", "drawing": "finished"}.get(place)


def _fit_and_die(run: Path) -> None:
    setattr(charts, "curves", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010
    _fit(run, "closing", [])


@pytest.mark.slow
def test_a_run_that_is_killed_while_its_figures_are_drawn_gets_them_when_it_goes_on(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    assert finished(Forked(_fit_and_die, run.path)).returncode == -signal.SIGKILL
    assert read_summary(run) is None, "what has a summary is complete"
    assert main(["fit", "--resume", str(run.path)]) == 0
    assert sorted(path.name for path in run.figures.iterdir()) == ["confusion.png", "curves.png"]


def test_what_is_told_to_be_typed_next_can_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "my run"
    assert _fit(run, "closing", []) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "litscope worst" in line]
    words = shlex.split(told[0].split("(")[0])
    assert words == ["litscope", "worst", str(run)]
    assert main([*words[1:], "--no-sheet"]) == 0
    resume = shlex.split(read_summary(RunDir(run))["resume"])
    assert resume == ["litscope", "fit", "--resume", str(run)]
