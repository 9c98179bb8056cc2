"""A job's next start goes on with the run of the one before: the same command, in the same folder. So does a job whose
script a person has submitted again."""

from __future__ import annotations

import copy
from pathlib import Path

from litscope.batch_job import BatchJob, this_job
from litscope.claims import trainer_of
from litscope.config.fields import fields
from litscope.config.flags import build
from litscope.config.presets import Layer, Setting
from litscope.config.recipe import Recipe
from litscope.config.resume import asked_folder
from litscope.console import say, shell_word
from litscope.errors import ConfigError, RunError
from litscope.rundir import RunDir, read_lines
from litscope.runs import is_finished, list_runs
from litscope.starter import Place
from litscope.training.run_folder import make_absolute

OF_THE_RUN = ("logging.run_dir", "logging.name", "training.resume")
"""Settings that say which run it is, and not what it is."""


def as_begun(recipe: Recipe) -> Recipe:
    """The recipe with which a job goes on with a run that an earlier start of it has begun, if it was requeued; or that
    an earlier job of the same script has begun and not finished, if both are on record in the run's folder.

    Where nothing of the kind had begun, it is `recipe`. The run is looked for in the folder that `recipe` names, else
    below runs/. Hardware may be other than it was, for the job may have other nodes.

    Raises:
        RunError: if the named folder holds a run of the job, but one of another recipe.
    """
    job, folder = this_job(), asked_folder(recipe)
    if job is None or (folder is None and recipe.training.resume is not None):
        return recipe
    if job.num_restarts == 0 and (folder is None or recipe.training.resume is not None):
        return recipe
    for run in [RunDir(folder)] if folder is not None else list_runs():
        if not run.is_run() or not _was_begun_by(run, job):
            continue
        then = _going_on(run, recipe)
        differences = _differences(recipe, then)
        if not differences:
            say(f"{job}: going on with {run.path}")
            return then
        if folder is not None:
            raise RunError(
                f"{run.path} holds the run of an earlier start of job {job.id}, with another recipe: "
                f"{', '.join(differences)}. Give another --run-dir, or go on with it: --resume {shell_word(run.path)}."
            )
    return recipe


def as_started_again(recipe: Recipe, place: Place) -> Recipe:
    """The recipe with which processes that torchrun started again go on with the run of their first start.

    Raises:
        ConfigError: if torchrun may start them again, and no folder is named in which they would find the run.
        RunError: if the folder holds a run of another recipe.
    """
    folder = asked_folder(recipe)
    if not (place.may_restart or place.start) or place.starter != "torchrun" or recipe.training.resume is not None:
        return recipe
    if folder is None:
        raise ConfigError(
            "torchrun --max-restarts starts all processes again when one has died. Give --run-dir or --name, so that "
            "they find the run."
        )
    run = RunDir(folder)
    if not place.start or not run.is_run():
        return recipe
    then = _going_on(run, recipe)
    if differences := _differences(recipe, then):
        raise RunError(
            f"{run.path} holds a run of another recipe than torchrun starts again: {', '.join(differences)}. Give "
            f"another --run-dir, or go on with it: --resume {shell_word(run.path)}."
        )
    say(f"torchrun, start {place.start + 1}: going on with {run.path}")
    return then


def _was_begun_by(run: RunDir, job: BatchJob) -> bool:
    """Whether an earlier start of the job has trained the run, or was about to; or another job of the same script, that
    has not finished it.
    """
    lines = [*read_lines(run.attempts), trainer_of(run)]
    starts = [BatchJob(**line["job"]) for line in lines if line.get("job")]
    if any(job.is_later_than(start) for start in starts):
        return True
    of_run = {line.get("job") for line in read_lines(run.jobs)}
    return job.id in of_run and any(start.id in of_run for start in starts) and not is_finished(run)


def _going_on(run: RunDir, recipe: Recipe) -> Recipe:
    """The run's own recipe, on the hardware that `recipe` asks for."""
    folder = str(run.path)
    layer: Layer = {key: Setting(folder, "the requeued job") for key in ("logging.run_dir", "training.resume")}
    for field in fields():
        value = getattr(getattr(recipe, field.group), field.name)
        if field.group == "hardware" and value != field.default:
            layer[field.key] = Setting(value, field.flag)
    return build(layer, metrics=recipe.metrics)


def _differences(recipe: Recipe, then: Recipe) -> list[str]:
    """What `recipe` asks for and the run was not begun with, or the other way round, in words.

    What it leaves open may have been chosen for the run; a value that was given then must be given now.
    """
    asked = copy.deepcopy(recipe)
    make_absolute(asked)
    found = []
    for field in fields():
        now, before = (getattr(getattr(each, field.group), field.name) for each in (asked, then))
        is_left = now in (field.default, "auto")
        is_open = field.group == "hardware" or field.key in OF_THE_RUN or (is_left and field.key in then.chosen)
        if is_open or now == before:
            continue
        if is_left and now in (None, "auto", []):
            found.append(f"{field.flag} {_shown(before)} is missing")
        else:
            found.append(f"{field.flag} {_shown(now)} instead of {_shown(before)}")
    return found


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)
