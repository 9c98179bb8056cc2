"""`litscope tune`: train with many settings, and say which are best. Optuna proposes, litscope trains.

If the settings are learning rate and weight decay of an MLP, or of a head on features, `AT_ONCE` of them train in one
run as its members (`models.networks.members`), each as it would alone, on the same batches and from the same weights.
That costs little more than one training. Everything else trains one after the other, or in several processes
(`shared_search`). A trial is judged by the monitored metric of its best epoch on the validation data; the test data
stay unseen.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from litscope.config.flags import build
from litscope.config.recipe import Recipe
from litscope.config.yamlfile import dump
from litscope.console import one_line, say, shell_word
from litscope.defaults import optimizer_family
from litscope.errors import (
    ConfigError,
    Interrupted,
    LitscopeError,
    MissingExtra,
    NonFiniteLossError,
    RunError,
    Superseded,
)
from litscope.experiments.fresh import check_fresh
from litscope.experiments.many_runs import as_members, folder_for, prepared, why_apart
from litscope.experiments.reruns import EpochLines, train_aside
from litscope.experiments.search_report import report
from litscope.experiments.search_space import Dimension, Pruner, check_search, default_space, parse_space, put
from litscope.experiments.study import NUM_RANDOM, make_study, sampler, state_of, tell_again
from litscope.experiments.trials import NO_VALUE, Trial, TuneResult
from litscope.live.records import epoch_rows
from litscope.live.stop_requests import catch_stop_requests
from litscope.rundir import RunDir, append_line, read_lines, write_text
from litscope.runs import STUDY, TRIALS, claim_folder
from litscope.starter import refuse_company
from litscope.training.prepare import Prepared

if TYPE_CHECKING:
    import optuna

AT_ONCE = NUM_RANDOM
"""How many settings train as members of one run."""

LEAST_ALIVE = 3
"""If so many trials fail by an error before any has a value, the search ends: others would fail as well."""

RECIPE = "tune.yaml"
"""In the folder of a search: what it searches around."""

FAILURES = (LitscopeError, torch.OutOfMemoryError, MemoryError)
"""What one trial may die of while the search goes on. Whatever else is raised is no matter of settings."""

MEMBER_SETTINGS = ("lr", "weight_decay")
MEMBER_METRICS = ("val/accuracy", "val/loss")


def tune(recipe: Recipe, space: Sequence[str] = (), num_trials: int = 16, pruner: Pruner = "median") -> TuneResult:
    """Search for the settings with which a recipe trains best.

    Args:
        recipe: as for `fit`; its run_dir is the folder for everything (default: runs/tune-N). Given the folder of an
            earlier search, that one goes on, and its trials count.
        space: `lr=1e-4..1e-1`, `batch_size=32,64` (see `search_space`); default: learning rate and weight decay.
        num_trials: number of trials in all.
        pruner: "median" stops a trial if its best metric so far is worse than the median that the completed
            trials had after as many epochs; "halving" and "hyperband" let the best third go on, again and again. They
            only work for trials that train one by one and equally long.

    Raises:
        ConfigError: for an invalid space, or data without a validation set.
        MissingExtra: without Optuna.
        Interrupted: after Ctrl-C or SIGTERM; the trials so far stay in trials.jsonl.
        UserError: whatever `fit` would refuse.
    """
    asked = begin(recipe, space, num_trials, pruner)
    with folder_for(recipe, "tune", RECIPE, TRIALS) as folder:
        require_alone(folder, num_trials)
        keep_recipe(recipe, folder)
        search = Search(asked, folder, make_study(asked.mode, pruner, asked.num_epochs))
        search.take_up()
        return search.search()


@dataclass(frozen=True)
class Asked:
    """What is searched, before the first trial.

    Attributes:
        recipe: as it was given.
        start: the run of the recipe as it stands; it never begins.
        dimensions: what varies.
        metric, mode: the metric that judges, and whether "min" or "max" is better.
        reason: why settings cannot train as members of one run; None if they can.
        num_trials: number of trials in all.
        num_epochs: epochs of each trial; None if that is searched, or not known.
        pruner: one of `search_space.PRUNERS`.
    """

    recipe: Recipe
    start: Prepared
    dimensions: Sequence[Dimension]
    metric: str
    mode: str
    reason: str | None
    num_trials: int
    num_epochs: int | None
    pruner: str


def begin(recipe: Recipe, space: Sequence[str], num_trials: int, pruner: str) -> Asked:
    """Check what is to be searched, open the data and choose what was left open; arguments and errors as `tune`."""
    check_search(list(space), num_trials, pruner)
    refuse_company("litscope tune")
    check_fresh(recipe, "tune")
    family = optimizer_family(recipe.training.optimizer)
    dimensions = parse_space(list(space)) if space else default_space(family)
    try:
        import optuna
    except ImportError:
        raise MissingExtra("optuna", "tune", "litscope tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = prepared(recipe)
    chosen = start.recipe
    say(*start.notes)
    metric, mode = str(chosen.training.monitor), str(chosen.training.mode)
    if not metric.startswith("val/"):
        raise ConfigError(f"Trials are judged on validation data, and the monitor is {metric}. Give a --val-split.")
    num_epochs = None if any(d.field.name == "epochs" for d in dimensions) else chosen.training.epochs
    reason = _why_one_by_one(chosen, dimensions)
    return Asked(recipe, start, dimensions, metric, mode, reason, num_trials, num_epochs, pruner)


def keep_recipe(recipe: Recipe, folder: Path) -> None:
    """Write down what is searched around; a later call in the folder must bring the same, wherever it computes.

    Raises:
        ConfigError: if the folder holds a search around another recipe.
    """
    kept = copy.deepcopy(recipe)
    kept.logging.run_dir = None
    kept.hardware.accelerator, kept.hardware.num_threads = "auto", None  # a job's differ from those of the asker
    text, file = dump(kept), folder / RECIPE
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"--run-dir {folder} holds a search with other settings, which {file} has. Give the same flags but for "
            "--trials, or another folder."
        )
    if not file.exists():
        write_text(file, text)


class Search:
    """The state of a search.

    Args:
        asked: what is searched.
        folder: for everything that it writes.
        study: Optuna's record of the trials.

    Attributes:
        trials: the trials that are over.
    """

    def __init__(self, asked: Asked, folder: Path, study: optuna.Study) -> None:
        self.recipe, self.start, self.metric, self.mode = asked.recipe, asked.start, asked.metric, asked.mode
        self.num_trials, self.num_epochs = asked.num_trials, asked.num_epochs
        self.folder, self.study = folder, study
        self.is_at_once = asked.reason is None
        self.trials: list[Trial] = []
        self._reason = asked.reason
        self._space = asked.dimensions
        self._distributions = {dimension.field.name: dimension.distribution for dimension in asked.dimensions}
        self._best: Callable[[list[float]], float] = max if self.mode == "max" else min

    def search(self) -> TuneResult:
        """Train until there are as many trials as wanted, and write down the best; errors as `tune`."""
        how = f"one by one: {self._reason}" if self._reason else f"{AT_ONCE} at once"
        say(f"tune: {self.num_trials} trials, {how}")
        try:
            with catch_stop_requests():
                while (left := self.num_trials - len(self.trials)) > 0:
                    self.round(min(left, AT_ONCE) if self.is_at_once else 1)
                    self.require_alive()
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted(
                f"Interrupted after {len(self.trials)} trials, which are in {self.folder / TRIALS}. "
                f"To go on: the same command with --run-dir {shell_word(self.folder)}"
            ) from None
        return self.finish()

    def require_alive(self) -> None:
        """End a search whose first trials all failed by an error.

        Raises:
            RunError: with the error of the last.
        """
        errors = [trial.reason for trial in self.trials if trial.reason is not None]
        if len(self.trials) == len(errors) == LEAST_ALIVE:
            raise RunError(
                f"The first {LEAST_ALIVE} trials failed, so nothing more is tried. The last one: {errors[-1]}"
            )

    def finish(self) -> TuneResult:
        """Write down the best, the pictures and the page.

        Raises:
            NonFiniteLossError: if no trial has a value.
        """
        result = self.result()
        if not result.ranked:
            reasons = [trial.reason for trial in self.trials if trial.reason is not None]
            last = f" The last one failed: {reasons[-1]}" if reasons else ""
            raise NonFiniteLossError(
                f"{self.metric} or the loss was NaN or infinite in all {len(self.trials)} trials. Search smaller "
                f"rates, or give a --monitor that is defined.{last}"
            )
        self.write_best(result)
        return report(result, self._space, self.recipe.training.seed)

    def result(self) -> TuneResult:
        """What is known by now."""
        return TuneResult(str(self.recipe.data.origin), self.metric, self.mode, tuple(self.trials), self.folder)

    def write_best(self, result: TuneResult) -> None:
        """Write the recipe with the best settings. Of a trial that trained alone, it also says how it was computed, so
        that it repeats to the bit.
        """
        best, trial = copy.deepcopy(self.recipe), result.ranked[0]
        put(best, trial.settings)
        run = self._run_of(trial)
        if run.is_run() and Counter(one.run for one in self.trials)[trial.run] == 1:
            how = build({}, [run.recipe]).hardware
            for name in ("precision", "channels_last", "num_threads"):
                setattr(best.hardware, name, getattr(how, name))
        best.logging.run_dir = None
        write_text(result.config, dump(best))

    def _run_of(self, trial: Trial) -> RunDir:
        return RunDir(self.folder / Path(trial.run).name)  # the folder may have moved since

    def take_up(self) -> None:
        """Go on with the trials of an earlier search in the same folder."""
        earlier = [Trial(**line) for line in read_lines(self.folder / TRIALS)]
        sharing = Counter(trial.run for trial in earlier)
        for trial in earlier:
            values = self._values(self._run_of(trial), self.metric) if sharing[trial.run] == 1 else {}
            try:
                tell_again(self.study, trial, values, self._space)
            except ValueError as error:
                raise ConfigError(
                    f"--run-dir {self.folder} holds a search over another space ({error}). "
                    "Give the same --search, or another folder."
                ) from None
            self.trials.append(trial)
        if self.trials:
            say(f"tune: {len(self.trials)} trials are in {self.folder} already, and count")

    def round(self, count: int) -> None:
        """Train with the next settings."""
        self.study.sampler = sampler(self.recipe.training.seed, len(self.trials))
        asked = [self.study.ask(self._distributions) for _ in range(count)]
        for one, trial in zip(asked, self._train(asked), strict=True):
            self.study.tell(one, trial.value if trial.state == "complete" else None, state=state_of(trial))
            append_line(self.folder / TRIALS, vars(trial), durable=True)
            self.trials.append(trial)
            self.tell(trial)

    def tell(self, trial: Trial) -> None:
        """Say how a trial ended."""
        value = f"failed: {trial.reason or NO_VALUE}" if trial.value is None else f"{self.metric} {trial.value:.4f}"
        value += "" if trial.stopped_after is None else f", stopped after {trial.stopped_after} epochs"
        say(f"{self._title(trial.number)}: {trial.words}: {value} ({trial.wall_s:.1f} s)")

    def _title(self, number: int) -> str:
        return f"trial {number}/{self.num_trials}"

    def _train(self, asked: list[optuna.Trial]) -> list[Trial]:
        """Train with the settings of each, together where possible."""
        if len(asked) > 1:
            try:
                return self._train_together([dict(one.params) for one in asked])
            except NonFiniteLossError:
                say("tune: the loss of one of these settings is not a number; they train one by one")
            except (Interrupted, Superseded):
                raise
            except FAILURES as error:
                say(f"tune: {_words_of(error)}; they train one by one")
        return [self.train_one(number, one) for number, one in enumerate(asked, len(self.trials) + 1)]

    def train_one(self, number: int, asked: optuna.Trial) -> Trial:
        """Train with the settings of one trial."""
        began, settings = time.monotonic(), dict(asked.params)
        folder = claim_folder(f"trial-{number:03d}", self.folder)
        lines = EpochLines(self._title(number), self.metric, settings.get("epochs", self.num_epochs))
        value = stopped_after = reason = None

        def on_epoch(row: Mapping[str, Any]) -> bool:
            nonlocal stopped_after
            lines(row)
            epoch = row["epoch"]
            if row.get(self.metric) is None or epoch + 1 == self.num_epochs:
                return False
            asked.report(row[self.metric], epoch)
            if asked.should_prune():
                stopped_after = epoch + 1
            return stopped_after is not None

        try:  # a failure is a result too: the caller reports it, and tells the sampler
            recipe = copy.deepcopy(self.recipe)
            put(recipe, settings)
            recipe.check()
            value = self._value(train_aside(recipe, folder, self.start.actions, on_epoch=on_epoch), self.metric)
        except NonFiniteLossError:
            pass
        except (Interrupted, Superseded):
            raise
        except FAILURES as error:
            reason = _words_of(error)
        return Trial(number, settings, value, str(folder), round(time.monotonic() - began, 3), stopped_after, reason)

    def _train_together(self, settings: list[dict[str, Any]]) -> list[Trial]:
        began = time.monotonic()
        recipe = copy.deepcopy(self.recipe)
        as_members(recipe, self.start.recipe, len(settings))
        for name in settings[0]:
            put(recipe, {f"member_{name}": [own[name] for own in settings], name: None})
        recipe.logging.ledger = (
            False  # these would be about the mean of networks that have nothing to do with each other
        )
        first = len(self.trials) + 1
        run = train_aside(recipe, claim_folder(f"trials-{first:03d}", self.folder), self.start.actions)
        wall_s = round((time.monotonic() - began) / len(settings), 3)
        return [
            Trial(first + i, own, self._value(run, f"{self.metric}_member_{i}"), str(run.path), wall_s)
            for i, own in enumerate(settings)
        ]

    def _value(self, run: RunDir, name: str) -> float | None:
        """A metric's best value over the epochs; None where it never was a finite number."""
        values = list(self._values(run, name).values())
        return self._best(values) if values else None

    def _values(self, run: RunDir, name: str) -> dict[int, float]:
        """A metric by epoch, where it was a finite number."""
        return {row["epoch"]: row[name] for row in epoch_rows(run) if row.get(name) is not None}


def require_alone(folder: Path, num_trials: int) -> None:
    """Refuse to go on alone with a search that several processes share, unless all its trials are over.

    Raises:
        ConfigError: saying how it goes on.
    """
    num_over = len(read_lines(folder / TRIALS))
    if (folder / STUDY).exists() and num_over < num_trials:
        raise ConfigError(
            f"--run-dir {folder}: several processes share this search; {num_over} of {num_trials} trials are over. "
            "To go on on this machine: --workers N. To train the next one beside the others: --join. To submit what is "
            "missing: --launcher slurm."
        )


def _words_of(error: Exception) -> str:
    """An error in one line."""
    return one_line(str(error).strip() or type(error).__name__)


def _why_one_by_one(chosen: Recipe, dimensions: Sequence[Dimension]) -> str | None:
    """What stands against training settings as members of one run, or None."""
    names = [dimension.field.name for dimension in dimensions]
    if reason := why_apart(chosen):
        return reason
    if other := [name for name in names if name not in MEMBER_SETTINGS]:
        return f"networks that differ in {other[0]} cannot share a run"
    if "weight_decay" in names and chosen.training.optimizer.lower() != "adamw":
        return f"with {chosen.training.optimizer} the decay is a part of the gradient"
    if chosen.training.monitor not in MEMBER_METRICS:
        return f"{chosen.training.monitor} is not measured of each member"
    return None
