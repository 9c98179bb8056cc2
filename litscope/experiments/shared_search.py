"""A search that several processes share: each trains one trial, and what they know of each other lies in one file.

The file, `study.log` in the search's folder, is Optuna's journal: lines that are only appended, under a lock that is a
file too, made by the one operation that NFS promises to be exclusive. A database would not work there. No process waits
for another; the task of a job array that begins late knows what the others found.

A trial is proposed once. One whose process was lost (its node died, or the job was requeued) is given back, and the
next process that comes trains the same settings from the first epoch.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from litscope.config.recipe import Recipe
from litscope.console import say
from litscope.errors import ConfigError
from litscope.experiments.search_space import Dimension
from litscope.experiments.trials import Trial, TuneResult
from litscope.experiments.tune import Asked, Search, begin, optuna_study, sampler, state_of
from litscope.rundir import write_text
from litscope.runs import STUDY, TRIALS

if TYPE_CHECKING:
    import optuna

TASK, TRIAL = "task", "trial"
"""Of a trial in the journal: which process has it, and how it ended. One that failed without the latter was lost."""


def join(recipe: Recipe, space: Sequence[str], num_trials: int, pruner: str) -> TuneResult:
    """Train the next trial of the search in the recipe's run_dir, beside other processes.

    Args:
        recipe, space, num_trials, pruner: as `tune.tune`, the same in all processes.

    Returns:
        What is known by now.

    Raises:
        ConfigError: without a run_dir; whatever `tune` would refuse.
    """
    if recipe.logging.run_dir is None:
        raise ConfigError("--join: name the folder of the search with --run-dir, on a disk that the processes share.")
    folder = Path(recipe.logging.run_dir)
    if (folder / TRIALS).exists() and not (folder / STUDY).exists():
        raise ConfigError(f"--join: the search in {folder} was begun by one process alone; go on without --join.")
    asked = begin(recipe, space, num_trials, pruner)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna_study(asked, sampler(asked), _storage(folder))
    _give_back(study)
    search = Search(asked, folder, study)
    taken = _take(study, asked)
    if taken is None:
        say(f"tune: all {num_trials} trials of {folder} are taken")
    else:
        trial = search.train_one(taken.number + 1, taken)
        taken.set_user_attr(TRIAL, vars(trial))
        state = state_of(trial)
        study.tell(taken, trial.value if state.name == "COMPLETE" else None, state=state)
        search.tell(trial)
    with _locked(folder / TRIALS):
        search.trials = _over(study)
        _write(search)
    return search.result()


def _storage(folder: Path) -> optuna.storages.BaseStorage:
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

    path = str(folder / STUDY)
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A block in which no other process writes this file, on a network disk too."""
    from optuna.storages.journal import JournalFileOpenLock

    lock = JournalFileOpenLock(str(path))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _task() -> tuple[str | None, str]:
    """The job array that this process belongs to, if it does, and its name among all processes of the search."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    if job:
        return job, f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return None, f"{socket.gethostname()}:{os.getpid()}"


def _give_back(study: optuna.Study) -> None:
    """Give back trials whose processes are gone: that of this task before it was requeued, and those of an earlier
    job array, which is over before another one may begin. Of other processes nobody knows."""
    job, name = _task()
    if job is None:
        return
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        task = str(trial.user_attrs.get(TASK, name))
        if task != name and (":" in task or task.startswith(f"{job}_")):
            continue
        with suppress(RuntimeError, ValueError):  # another process was faster
            study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)


def _take(study: optuna.Study, asked: Asked) -> optuna.Trial | None:
    """The next trial, with its settings; None if there are as many as wanted already."""
    from optuna.trial import TrialState

    taken = study.ask()
    taken.set_user_attr(TASK, _task()[1])
    before = [one for one in study.get_trials(deepcopy=False) if one.number < taken.number]
    given_back = sum(one.state == TrialState.FAIL and TRIAL not in one.user_attrs for one in before)
    waiting = sum(one.state == TrialState.WAITING for one in before)
    if len(before) - given_back - waiting >= asked.num_trials:
        study.tell(taken, state=TrialState.FAIL)
        return None
    study.sampler = sampler(asked, taken.number)
    for dimension in asked.dimensions:
        _suggest(taken, dimension)
    return taken


def _suggest(trial: optuna.Trial, dimension: Dimension) -> None:
    name = dimension.field.name
    if dimension.low is None or dimension.high is None:
        trial.suggest_categorical(name, dimension.choices)
    elif dimension.is_whole:
        trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.is_log)
    else:
        trial.suggest_float(name, dimension.low, dimension.high, log=dimension.is_log)


def _over(study: optuna.Study) -> list[Trial]:
    """The trials that have ended, in their order."""
    return [Trial(**one.user_attrs[TRIAL]) for one in study.get_trials(deepcopy=False) if TRIAL in one.user_attrs]


def _write(search: Search) -> None:
    """Write down what is over, for people and for `tune` in the same folder."""
    lines = [json.dumps(vars(trial), ensure_ascii=False) for trial in search.trials]
    write_text(search.folder / TRIALS, "".join(f"{line}\n" for line in lines))
    result = search.result()
    if result.ranked:
        search.write_best(result)
