"""A search that several processes share: each trains one trial, and what they know of each other lies in one file.

The file, `study.log` in the search's folder, is Optuna's journal: lines that are only appended, under a lock that is a
file too, made by the one operation that NFS promises to be exclusive. A database would not work there. No process waits
for another; the task of a job array that begins late knows what the others found.

A trial is proposed once. One whose process was lost (it was killed, its node died, or the job was requeued) is given
back, and the next process that comes trains the same settings from the first epoch.
"""

from __future__ import annotations

import copy
import io
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from litscope.config.recipe import Recipe
from litscope.console import number_of, say, shell_word
from litscope.errors import ConfigError, Interrupted, RunError
from litscope.experiments.many_runs import folder_for
from litscope.experiments.search_space import Dimension, Pruner
from litscope.experiments.search_workers import Task, check_workers, train_in_workers
from litscope.experiments.study import make_study, sampler, state_of
from litscope.experiments.trials import Trial, TuneResult
from litscope.experiments.tune import RECIPE, Asked, Search, begin, keep_recipe
from litscope.limits import num_cores
from litscope.live.stop_requests import catch_stop_requests
from litscope.rundir import write_text
from litscope.runs import STUDY, TRIALS

if TYPE_CHECKING:
    import optuna

TASK, TRIAL = "task", "trial"
"""Of a trial in the journal: which process has it, and how it ended. One that failed without the latter was lost."""


def join(recipe: Recipe, space: Sequence[str], num_trials: int, pruner: Pruner) -> TuneResult:
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
    asked = begin(recipe, space, num_trials, pruner)
    _open(recipe, folder, "--join")
    shared = Shared(asked, folder)
    shared.give_back()
    if not shared.train_next():
        say(f"tune: all {num_trials} trials of {folder} are taken")
    return shared.written()


def tune_in_workers(
    recipe: Recipe, space: Sequence[str], num_trials: int, pruner: Pruner, num_workers: int
) -> TuneResult:
    """Search as `tune.tune`, in several processes of this machine.

    Args:
        recipe, space, num_trials, pruner: as `tune.tune`.
        num_workers: trials that train at the same time, at most one for each core.

    Raises:
        ConfigError: for too many workers; as `tune.tune`.
        RunError: if the workers die.
        Interrupted: after Ctrl-C or SIGTERM; the trials that are over stay.
    """
    check_workers(num_workers)
    asked = begin(recipe, space, num_trials, pruner)
    with folder_for(recipe, "tune", RECIPE, TRIALS, STUDY) as folder:
        _open(recipe, folder, "--workers")
        shared = Shared(asked, folder)
        shared.give_back(is_alone=True)
        own = copy.deepcopy(recipe)
        own.hardware.num_threads = own.hardware.num_threads or max(1, num_cores() // num_workers)
        own.logging.run_dir = None
        task = Task(own, list(space), num_trials, pruner)
        num_gpus = torch.cuda.device_count() if asked.start.plan.device_type == "cuda" else 0
        threads = number_of(own.hardware.num_threads, "thread")
        say(f"tune: {num_trials} trials, {num_workers} at a time, each in a process with {threads}")
        try:
            with catch_stop_requests():
                while len(shared.over()) < num_trials:
                    before = len(shared.over())
                    train_in_workers(folder, task, num_workers, num_gpus)
                    shared.give_back(is_alone=True)
                    if len(shared.over()) == before:
                        raise RunError(f"The workers in {folder} ended, and no trial is over. They have said why.")
        except (Interrupted, KeyboardInterrupt):
            shared.give_back(is_alone=True)
            shared.written()
            raise Interrupted(
                f"Interrupted after {len(shared.over())} trials, which are in {folder / TRIALS}. "
                f"To go on: the same command with --run-dir {shell_word(folder)}"
            ) from None
        return shared.written()


def take_part(folder: Path, task: Task) -> None:
    """Train trials of a search, as one of its workers, until none is left."""
    with redirect_stderr(io.StringIO()):  # the first process has said it
        asked = begin(task.recipe, task.space, task.num_trials, task.pruner)
    shared = Shared(asked, folder)
    with catch_stop_requests():
        while shared.train_next():
            shared.search.require_alive()
            shared.give_back()


def _open(recipe: Recipe, folder: Path, flag: str) -> None:
    """Make the folder of a search that processes share; it may be one already.

    Raises:
        ConfigError: if the search there was begun otherwise.
    """
    if (folder / TRIALS).exists() and not (folder / STUDY).exists():
        raise ConfigError(f"{flag}: the search in {folder} was begun by one process alone; go on without {flag}.")
    folder.mkdir(parents=True, exist_ok=True)
    keep_recipe(recipe, folder)


class Shared:
    """A search as one of its processes sees it.

    Args:
        asked: what is searched.
        folder: of the search.
    """

    def __init__(self, asked: Asked, folder: Path) -> None:
        self._asked = asked
        self.study = make_study(asked.mode, asked.pruner, asked.num_epochs, _storage(folder))
        self.search = Search(asked, folder, self.study)

    def train_next(self) -> bool:
        """Train the next trial; False if as many as wanted are taken."""
        taken = self._take()
        if taken is None:
            return False
        trial = self.search.train_one(taken.number + 1, taken)
        taken.set_user_attr(TRIAL, vars(trial))
        _tell(self.study, taken.number, trial)
        self.search.tell(trial)
        self.search.trials = self.over()
        return True

    def over(self) -> list[Trial]:
        """The trials that have ended, in their order."""
        found = self.study.get_trials(deepcopy=False)
        return [Trial(**one.user_attrs[TRIAL]) for one in found if TRIAL in one.user_attrs]

    def written(self) -> TuneResult:
        """What is known by now, written down for people and for `tune` in the same folder; with its pictures once the
        search is over.

        Raises:
            NonFiniteLossError: if it is over, and no trial has a value.
        """
        search = self.search
        with _locked(search.folder / TRIALS):
            search.trials = self.over()
            lines = [json.dumps(vars(trial), ensure_ascii=False) for trial in search.trials]
            write_text(search.folder / TRIALS, "".join(f"{line}\n" for line in lines))
            if len(search.trials) >= self._asked.num_trials:
                return search.finish()
            result = search.result()
            if result.ranked:
                search.write_best(result)
            return result

    def give_back(self, is_alone: bool = False) -> None:
        """Give back trials whose processes are gone: those of this machine that have ended, that of this task of a job
        array before it was requeued, and those of an earlier array, which is over before another one may begin. Of
        other processes nobody knows.

        Args:
            is_alone: no process takes a trial just now, so one that says nothing of its process has lost it.
        """
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            task = str(trial.user_attrs.get(TASK, ""))
            if not (_is_lost(task) or (is_alone and not task)):
                continue
            with suppress(RuntimeError, ValueError):  # another process was faster
                if TRIAL in trial.user_attrs:  # it was over, and its process ended before it said so
                    _tell(self.study, trial.number, Trial(**trial.user_attrs[TRIAL]))
                    continue
                self.study.tell(trial.number, state=TrialState.FAIL)
                if trial.params:
                    self.study.enqueue_trial(trial.params)

    def _take(self) -> optuna.Trial | None:
        """The next trial, with its settings; None if there are as many as wanted already."""
        from optuna.trial import TrialState

        taken = self.study.ask()
        taken.set_user_attr(TASK, _task()[1])
        before = [one for one in self.study.get_trials(deepcopy=False) if one.number < taken.number]
        given_back = sum(one.state == TrialState.FAIL and TRIAL not in one.user_attrs for one in before)
        waiting = sum(one.state == TrialState.WAITING for one in before)
        if len(before) - given_back - waiting >= self._asked.num_trials:
            self.study.tell(taken, state=TrialState.FAIL)
            return None
        self.study.sampler = sampler(self._asked.recipe.training.seed, taken.number)
        for dimension in self._asked.dimensions:
            _suggest(taken, dimension)
        return taken


def _tell(study: optuna.Study, number: int, trial: Trial) -> None:
    study.tell(number, trial.value if trial.state == "complete" else None, state=state_of(trial))


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
    return None, f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _is_lost(task: str) -> bool:
    """Whether the process that has a trial, by its name, is gone for certain."""
    if ":" in task:
        host, number, start = [*task.split(":"), ""][:3]
        if host != socket.gethostname() or not number.isdigit():
            return False
        now = _started(int(number))
        return now != start if start else now == ""  # earlier versions did not write when it was started
    job, name = _task()
    return job is not None and (task in ("", name) or not task.startswith(f"{job}_"))


def _started(pid: int) -> str:
    """When a process of this machine was started, in ticks, so that a later one with its number is told apart; "" if
    there is none. Where that cannot be read, "alive"."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass  # another user's
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "alive"


def _suggest(trial: optuna.Trial, dimension: Dimension) -> None:
    name = dimension.field.name
    if dimension.low is None or dimension.high is None:
        trial.suggest_categorical(name, dimension.choices)
    elif dimension.is_whole:
        trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.is_log)
    else:
        trial.suggest_float(name, dimension.low, dimension.high, log=dimension.is_log)
