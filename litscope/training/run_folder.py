"""The folder of a run, before the first step: made for a new run, checked for one that goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

from litscope.config.flags import build
from litscope.config.recipe import Recipe
from litscope.config.yamlfile import dump
from litscope.console import say
from litscope.curation.carry import carry, read_actions
from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import Manifest
from litscope.data.sources.named import NAMES
from litscope.errors import ConfigError, RunError
from litscope.ledger.journal.actions import Action, submit
from litscope.live import environment
from litscope.rundir import RunDir, begin_attempt, write_json, write_text
from litscope.runs import RUNS
from litscope.training.job import RunResult
from litscope.training.loop.checkpoints import load_checkpoint
from litscope.training.summary import read_summary


def finished(run: RunDir, recipe: Recipe, checkpoint: Path | None) -> RunResult | None:
    """The result of a run that ended as this recipe wants it to end; None if there is more to train."""
    done = read_summary(run)
    if done is None or done["status"] != "finished" or checkpoint is None or not done["checkpoints"]["last"]:
        return None
    if checkpoint.resolve() != Path(done["checkpoints"]["last"]).resolve():
        return None
    then = build({}, [run.recipe]).training
    now = recipe.training
    limits = ("epochs", "max_steps", "max_time", "early_stopping", "patience", "min_delta")
    if any(getattr(then, name) != getattr(now, name) for name in limits):
        return None
    say(f"{run.path} is already finished ({done['epochs']} epochs). To train longer, give more --epochs.")
    return RunResult(run, done)


def check_epochs(epochs: int | None, checkpoint: Path) -> None:
    """Refuse a checkpoint beyond the last epoch: Lightning would, but only when the run's recipe is rewritten.

    Raises:
        ConfigError: with the epochs that are done.
        RunError: as `load_checkpoint`.
    """
    loops = load_checkpoint(checkpoint, mmap=True).get("loops")
    done = loops["fit_loop"]["epoch_progress"]["current"]["processed"] if loops else 0
    if epochs is not None and epochs < done:
        raise ConfigError(
            f"--epochs {epochs}: {checkpoint} has {done} epochs behind it, and they count. Give at least as many, or "
            f"start a new run from its weights: --weights {checkpoint}."
        )


def open_run(recipe: Recipe, folder: Path | None, data: ClassificationData, is_first: bool) -> RunDir:
    """The folder of a new run, or of the one that goes on; made by the first process only."""
    if not is_first:
        path = folder or recipe.logging.run_dir or (RUNS / recipe.logging.name if recipe.logging.name else None)
        if path is None:
            raise ConfigError("--num-nodes: give --run-dir (on a shared disk), so that all machines use one folder.")
        return RunDir(path)
    if folder is not None:
        run = RunDir.open(folder)
        _check_manifest(run, data.manifest)
        run.summary.unlink(missing_ok=True)  # it tells the end of an earlier attempt
        return run
    return RunDir.create(recipe.logging.run_dir or RUNS / (recipe.logging.name or _new_name(recipe, data)))


def _new_name(recipe: Recipe, data: ClassificationData) -> str:
    """Data set, model and a number that is free."""
    stem = f"{data.source.name}-{recipe.model.arch}".replace("/", "_")
    number = 1
    while (RUNS / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def _check_manifest(run: RunDir, manifest: Manifest) -> None:
    """A run goes on only with the samples it began with: else ids, labels and splits would mean something else."""
    if run.manifest.exists():
        then = Manifest.read(run.manifest)
        columns = ["sample_id", "key", "label", "split"]
        if then.classes == manifest.classes and then.table.select(columns).equals(manifest.table.select(columns)):
            return
        raise RunError(
            f"The data are not those that {run.path} was trained on ({len(then)} samples then, {len(manifest)} now; "
            "or other labels or splits). Give the same data and the same split flags, or start a new run from its "
            "weights: --weights, or --resume with a new --run-dir."
        )


def carried_actions(recipe: Recipe, manifest: Manifest) -> list[Action]:
    """The decisions with which a new run starts, said in a line; none without --actions.

    Raises:
        ConfigError, RunError: if they cannot be read, or name a class that is not there.
    """
    where = recipe.data.actions
    if where is None:
        return []
    actions, line = carry(read_actions(where), manifest, where)
    say(line)
    return actions


PATHS = (
    "data.data_dir",
    "data.actions",
    "data.cache_dir",
    "model.weights",
    "training.checkpoint_dir",
    "logging.log_dir",
)


def _make_absolute(recipe: Recipe) -> None:
    """Write paths whole, so that the run can be evaluated and resumed from any directory."""
    keys = list(PATHS)
    if recipe.data.dataset not in NAMES:
        keys.append("data.dataset")
    if recipe.training.class_weights not in ("none", "balanced"):
        keys.append("training.class_weights")
    for key in keys:
        section, name = key.split(".")
        part = getattr(recipe, section)
        if getattr(part, name) is not None:
            setattr(part, name, str(Path(getattr(part, name)).resolve()))


def begin(
    run: RunDir, recipe: Recipe, data: ClassificationData, checkpoint: Path | None, actions: Iterable[Action] = ()
) -> int:
    """Write down what the run is made of, the actions with which it starts, and the number of this attempt."""
    step = load_checkpoint(checkpoint, mmap=True)["global_step"] if checkpoint is not None else 0
    kept = copy.deepcopy(recipe)
    kept.logging.name = kept.logging.run_dir = kept.training.resume = None  # so that --config repeats the run
    _make_absolute(kept)
    if not run.manifest.exists():
        data.manifest.write(run.manifest)
    write_json(run.environment, environment.describe(recipe.training.seed))
    write_text(run.recipe, dump(kept))
    run.epoch_metrics.touch()  # it is there and holds no line: no epoch is whole yet
    run.actions.touch()
    for action in actions:
        submit(run, action)
    return begin_attempt(run, int(step), str(checkpoint) if checkpoint is not None else None)
