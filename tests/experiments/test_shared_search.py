"""`litscope tune --join`: processes share a search through one file, and no trial is lost or trained twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from litscope.config.flags import recipe_from_keywords
from litscope.config.recipe import Recipe
from litscope.errors import ConfigError
from litscope.experiments import shared_search
from litscope.experiments.shared_search import join
from litscope.experiments.study import MEDIAN_OF
from litscope.experiments.trials import TuneResult
from litscope.experiments.tune import tune
from litscope.rundir import read_lines

SPACE = ["lr=1e-3..1e-1", "batch_size=16,32"]


def recipe(folder: Path | None) -> Recipe:
    place = {} if folder is None else {"run_dir": str(folder)}
    return recipe_from_keywords(dataset="iris", epochs=1, logger=["none"], accelerator="cpu", **place)


def take_part(folder: Path, trials: int = 2) -> TuneResult:
    return join(recipe(folder), SPACE, trials, "median")


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


def as_task(monkeypatch: pytest.MonkeyPatch, job: int, task: int) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", str(job))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))


@pytest.mark.slow
def test_each_process_trains_the_next_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = take_part(tmp_path), take_part(tmp_path)
    assert [trial.number for trial in first.trials] == [1]
    assert [trial.number for trial in second.trials] == [1, 2]
    assert second.trials[0].settings["lr"] != second.trials[1].settings["lr"], "each has chance of its own"
    assert [line["run"] for line in read_lines(tmp_path / "trials.jsonl")] == [trial.run for trial in second.trials]
    assert second.config.is_file()
    capsys.readouterr()
    assert take_part(tmp_path).trials == second.trials
    assert "all 2 trials" in capsys.readouterr().err
    alone = tune(recipe(tmp_path), SPACE, 2)
    assert alone.trials == second.trials, "the command without --join shows what they found"
    with pytest.raises(ConfigError, match="2 of 3 trials are over"):
        tune(recipe(tmp_path), SPACE, 3)


@pytest.mark.slow
def test_a_trial_is_stopped_that_is_behind_those_of_other_processes(tmp_path: Path) -> None:
    """A rate of 1e-8 learns nothing, and five others are over by then: the median is theirs."""

    def join_in() -> TuneResult:
        given = recipe_from_keywords(
            dataset="iris", epochs=5, logger=["none"], accelerator="cpu", run_dir=str(tmp_path)
        )
        return join(given, ["lr=1e-2,1e-8"], MEDIAN_OF + 1, "median")

    join_in()
    study = optuna.load_study(study_name=None, storage=shared_search._storage(tmp_path))
    for lr in [1e-2] * (MEDIAN_OF - 1) + [1e-8]:
        study.enqueue_trial({"lr": lr})
        found = join_in()
    assert [trial.stopped_after for trial in found.trials] == [None] * MEDIAN_OF + [2]
    assert found.trials[-1].settings["lr"] == 1e-8


@pytest.mark.slow
def test_a_trial_whose_process_was_lost_is_trained_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once because the same task is requeued, once because an earlier array is over."""
    lost: list[dict[str, Any]] = []

    def die(_search: object, _number: int, asked: Any) -> None:
        lost.append(dict(asked.params))
        raise KeyboardInterrupt

    for job, task in ((7, 1), (7, 1), (8, 1)):
        as_task(monkeypatch, job, task)
        with monkeypatch.context() as patch:
            patch.setattr(shared_search.Search, "train_one", die)
            with pytest.raises(KeyboardInterrupt):
                take_part(tmp_path)
    assert lost[0] == lost[1] == lost[2], "the settings wait until somebody has trained them"
    as_task(monkeypatch, 9, 1)
    assert [trial.settings for trial in take_part(tmp_path, 1).trials] == [lost[0]]


@pytest.mark.slow
def test_a_trial_of_a_task_that_runs_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_search: object, _number: int, _asked: Any) -> None:
        raise KeyboardInterrupt

    as_task(monkeypatch, 7, 1)
    with monkeypatch.context() as patch:
        patch.setattr(shared_search.Search, "train_one", leave)
        with pytest.raises(KeyboardInterrupt):
            take_part(tmp_path)
    as_task(monkeypatch, 7, 2)
    assert [trial.number for trial in take_part(tmp_path).trials] == [2]


def test_a_search_needs_a_folder_and_one_way(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--join: name the folder"):
        join(recipe(None), SPACE, 2, "median")
    (tmp_path / "trials.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="begun by one process alone"):
        take_part(tmp_path)
