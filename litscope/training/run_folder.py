"""The folder of a run, before the first step: made for a new run, checked for one that goes on."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from litscope.addresses import absolute
from litscope.attempts import begin_attempt
from litscope.config.flags import recipe_of_run
from litscope.config.recipe import Recipe
from litscope.config.resume import asked_folder, resolve_resume
from litscope.config.training import TrainingConfig, max_time_s
from litscope.config.yamlfile import dump
from litscope.console import number_of, say
from litscope.data.content import UNCHECKED, match
from litscope.data.manifest import Manifest
from litscope.data.sources.names import NAMES
from litscope.errors import ConfigError, RunError
from litscope.launch.places import rank_of_process
from litscope.ledger.journal.actions import submit
from litscope.lightning_internals import is_early_stopped_in
from litscope.live import environment
from litscope.live.records import read_summary
from litscope.models.checkpoint_file import load_checkpoint
from litscope.rundir import RunDir, write_json, write_text
from litscope.runs import claim_folder
from litscope.starter import place_of
from litscope.training.hardware import Plan
from litscope.training.job import RunResult
from litscope.training.loop.checkpoints import KEY, supersede
from litscope.training.loop.early_stopping import TO_TRAIN_ON
from litscope.training.prepare import Prepared
from litscope.training.summary import checkpoint_folder

_ADVICE = (
    "Give the same data and the same split flags, or start a new run from its weights: --weights, or --resume with a "
    "new --run-dir."
)


def finished(recipe: Recipe) -> RunResult | None:
    """The result of the run that a recipe goes on with, where it ended as the recipe wants it to end; else None.

    Raises:
        RunError: if there is no such run or checkpoint.
    """
    checkpoint, folder, _ = resolve_resume(recipe)
    if checkpoint is None or folder is None:
        return None
    run = RunDir(folder)
    done = read_summary(run)
    if done is None or done["status"] != "finished" or not done["checkpoints"]["last"]:
        return None
    then, now = recipe_of_run(run.path), recipe.training
    last = checkpoint_folder(then, run) / Path(done["checkpoints"]["last"]).name  # the run may have moved since
    if checkpoint.resolve() != last.resolve():
        return None
    asks_otherwise = any(getattr(then.training, name) != getattr(now, name) for name in LIMITS)
    is_length_same = (then.training.epochs, then.training.max_steps) == (now.epochs, now.max_steps)
    state = load_checkpoint(checkpoint, mmap=True)
    reached = _limit_reached(now, done, state.get(KEY, {}).get("elapsed_s", 0.0))
    if asks_otherwise and not (is_length_same and reached == "--epochs"):
        if reached == "--max-steps":
            raise ConfigError(f"{run.path} has done its --max-steps {now.max_steps}. Give more --max-steps too.")
        if reached == "--max-time":
            say(
                f"{run.path} has trained for its --max-time {now.max_time}, so it ends at once. "
                "Give more --max-time too."
            )
        return None
    if reached is None and is_early_stopped_in(state):
        why = f"early stopping ended it; {TO_TRAIN_ON}"
    else:
        why = f"to train longer, give more {reached or '--epochs'}"
    say(f"{run.path} is already finished ({number_of(done['epochs'], 'epoch')}): {why}.")
    return RunResult(run, done)


LIMITS = ("epochs", "max_steps", "max_time", "early_stopping", "patience", "min_delta")
"""What ends a run."""


def _limit_reached(training: TrainingConfig, done: dict[str, Any], elapsed_s: float) -> str | None:
    """The flag of the limit that a finished run has reached.

    Args:
        training: what is asked for now.
        done: the run's summary.
        elapsed_s: seconds that it trained.
    """
    if training.max_steps is not None and done["global_step"] >= training.max_steps:
        return "--max-steps"
    if training.epochs is not None and done["epochs"] >= training.epochs:
        return "--epochs"
    return "--max-time" if training.max_time and elapsed_s >= max_time_s(training.max_time) else None


def check_name(recipe: Recipe) -> None:
    """Refuse a folder that is named for a new run and holds another, before data are opened and networks are tried.

    Raises:
        RunError: if it does.
    """
    if (path := asked_folder(recipe)) is not None:
        RunDir(path).check_free()


def check_folder(recipe: Recipe, folder: Path | None, manifest: Manifest, plan: Plan) -> None:
    """Refuse a folder in which the run cannot be written.

    Args:
        folder: of the run that goes on; None for a new run.
        manifest: of the opened data.

    Raises:
        ConfigError: if several machines would not use one folder.
        RunError: if the folder of a new run holds another one, or the data are not those of the run that goes on.
    """
    if folder is not None:
        check_data(RunDir.open(folder), manifest, _ADVICE)
        return
    path = asked_folder(recipe)
    is_first = rank_of_process(plan.num_nodes) == 0
    if path is None and place_of() is None and (plan.num_nodes > 1 or not is_first):
        raise ConfigError("--num-nodes: give --run-dir (on a shared disk), so that all machines use one folder.")
    if path is not None and is_first:  # the others may find what the first one has begun
        RunDir(path).check_free()


def open_run(start: Prepared, is_first: bool) -> RunDir:
    """The folder of a new run, or of the one that goes on, which `check_folder` allows; made by the first process only.

    Raises:
        RunError: if another process has begun a run there meanwhile.
    """
    recipe, folder, data = start.recipe, start.folder, start.data
    path = folder or asked_folder(recipe)
    if not is_first:
        assert path is not None
        return RunDir(path)
    if folder is not None:
        return RunDir.open(folder)
    if path is not None:
        return RunDir.create(path)
    return RunDir.create(claim_folder(f"{data.source.name}-{recipe.model.name}", numbers_first=True))


def abandon(run: RunDir, start: Prepared) -> None:
    """Remove the folder that was made for a run which does not begin. One that a person named stays, and is free."""
    if start.folder is None and asked_folder(start.recipe) is None:
        shutil.rmtree(run.path)


def check_data(run: RunDir, now: Manifest, advice: str) -> None:
    """Refuse data that are not those that a run began with: ids, labels and splits would mean something else.

    Args:
        run: an open run.
        now: its data as they are now, with their contents.
        advice: what to do instead, a sentence.

    Raises:
        RunError: saying what has changed.
    """
    if not run.manifest.exists():
        return
    then = Manifest.read(run.manifest)
    found = match(now, then)
    is_graded_alike = then.grades.equals(now.grades)
    if found.is_same and then.classes == now.classes and np.array_equal(then.splits, now.splits) and is_graded_alike:
        if not found.is_checked:
            say(f"{run.path}: {UNCHECKED}")
        return
    what = found.differences() or ("other labels or splits" if is_graded_alike else "other soft labels")
    raise RunError(
        f"The data are not those that {run.path} was trained on ({len(then)} samples then, {len(now)} now: {what}). "
        f"{advice}"
    )


PATHS = (
    "data.data_dir",
    "data.actions",
    "data.image_root",
    "data.cache_dir",
    "model.weights",
    "training.checkpoint_dir",
    "logging.log_dir",
)


def make_absolute(recipe: Recipe) -> None:
    """Write paths whole, so that the run can be evaluated and resumed from any directory."""
    keys = list(PATHS)
    data = recipe.data
    for name in ("dataset", "train_urls", "val_urls", "test_urls"):
        given = getattr(data, name)
        if given is not None and given not in NAMES:
            setattr(data, name, absolute(given))
    if recipe.training.class_weights not in ("none", "balanced"):
        keys.append("training.class_weights")
    if recipe.model.weights is not None and not Path(recipe.model.weights).exists():
        keys.remove("model.weights")  # a name, not a file
    for key in keys:
        section, name = key.split(".")
        part = getattr(recipe, section)
        if getattr(part, name) is not None:
            setattr(part, name, str(Path(getattr(part, name)).resolve()))


def begin(run: RunDir, start: Prepared) -> int:
    """Write down what the run is made of, the actions with which it starts, and the number of this attempt.

    A folder is a run from the moment when it has a recipe, so that comes after all that a new run is made of. What a
    start that was killed before had left there is replaced; of actions, the same ones twice say nothing else.

    The caller holds the run (`claims.held`): before that, nothing may change in a folder that another process may
    use.
    """
    checkpoint, recipe = start.checkpoint, start.asked
    step = load_checkpoint(checkpoint, mmap=True)["global_step"] if checkpoint is not None else 0
    kept = copy.deepcopy(recipe)
    kept.logging.name = kept.logging.run_dir = kept.training.resume = None  # so that --config repeats the run
    make_absolute(kept)
    run.summary.unlink(missing_ok=True)  # it tells the end of an earlier attempt
    if start.folder is None or not run.manifest.exists():
        start.data.manifest.write(run.manifest)
    run.epoch_metrics.touch()  # it is there and holds no line: no epoch is whole yet
    run.actions.touch()
    for action in start.actions:
        submit(run, action)
    write_json(run.environment, environment.describe(recipe.training.seed))
    write_text(run.recipe, dump(kept))
    if checkpoint is not None and start.folder is not None:
        supersede(checkpoint_folder(recipe, run), checkpoint)
    return begin_attempt(run, int(step), str(checkpoint) if checkpoint is not None else None)
