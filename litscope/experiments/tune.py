"""`litscope tune`: train with many settings, and say which are best. Optuna proposes, litscope trains.

If the settings are learning rate and weight decay of an MLP, or of a head on features, `AT_ONCE` of them train in one
run as its members (`models.networks.members`), each as it would alone, on the same batches and from the same weights.
That costs little more than one training. Everything else trains one after the other. A trial is judged by the monitored
metric of its best epoch on the validation data; the test data stay unseen.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from litscope.config.recipe import Recipe
from litscope.config.yamlfile import dump
from litscope.console import say, shell_word
from litscope.defaults import optimizer_family
from litscope.errors import ConfigError, Interrupted, MissingExtra, NonFiniteLossError
from litscope.experiments.fresh import check_fresh
from litscope.experiments.many_runs import as_members, folder_for, prepared, why_apart
from litscope.experiments.reruns import EpochLines, train_aside
from litscope.experiments.search_space import Dimension, check_search, default_space, parse_space, put
from litscope.experiments.trials import Trial, TuneResult
from litscope.live.records import epoch_rows
from litscope.live.stop_requests import catch_stop_requests
from litscope.rundir import RunDir, append_line, read_lines, write_text
from litscope.runs import STUDY, TRIALS, claim_folder
from litscope.starter import refuse_company
from litscope.training.prepare import Prepared

if TYPE_CHECKING:
    import optuna

AT_ONCE = 8
"""How many settings train as members of one run."""

MEDIAN_OF = 5
"""How many trials must be complete before one is stopped early."""

MEMBER_SETTINGS = ("lr", "weight_decay")
MEMBER_METRICS = ("val/accuracy", "val/loss")


def tune(
    recipe: Recipe, space: Sequence[str] = (), num_trials: int = 16, pruner: Literal["median", "none"] = "median"
) -> TuneResult:
    """Search for the settings with which a recipe trains best.

    Args:
        recipe: as for `fit`; its run_dir is the folder for everything (default: runs/tune-N). Given the folder of an
            earlier search, that one goes on, and its trials count.
        space: `lr=1e-4..1e-1`, `batch_size=32,64` (see `search_space`); default: learning rate and weight decay.
        num_trials: number of trials in all.
        pruner: "median" stops a trial if its best metric so far is worse than the median that the completed
            trials had after as many epochs. It only works for trials that train one by one and equally long.

    Raises:
        ConfigError: for an invalid space, or data without a validation set.
        MissingExtra: without Optuna.
        Interrupted: after Ctrl-C or SIGTERM; the trials so far stay in trials.jsonl.
        UserError: whatever `fit` would refuse.
    """
    asked = begin(recipe, space, num_trials, pruner)
    study = optuna_study(asked, sampler(asked), None)
    with folder_for(recipe, "tune", TRIALS) as folder:
        require_alone(folder, num_trials)
        search = Search(asked, folder, study)
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
        pruner: "median" or "none".
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


def sampler(asked: Asked, number: int = 0) -> optuna.samplers.BaseSampler:
    """What proposes settings: the first ones by chance, the others by Optuna's TPE.

    Args:
        number: of the trial, where each has a sampler of its own, so that no two propose the same by chance.
    """
    import optuna

    return optuna.samplers.TPESampler(seed=asked.recipe.training.seed + number, n_startup_trials=AT_ONCE)


def optuna_study(
    asked: Asked, proposes: optuna.samplers.BaseSampler, storage: optuna.storages.BaseStorage | None
) -> optuna.Study:
    """Optuna's record of the trials, new or the one that a storage holds."""
    import optuna

    return optuna.create_study(
        direction="maximize" if asked.mode == "max" else "minimize",
        sampler=proposes,
        pruner=_pruner(asked.pruner, asked.num_epochs),
        storage=storage,
        study_name=None if storage is None else "tune",
        load_if_exists=storage is not None,
    )


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
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted(
                f"Interrupted after {len(self.trials)} trials, which are in {self.folder / TRIALS}. "
                f"To go on: the same command with --run-dir {shell_word(self.folder)}"
            ) from None
        result = self.result()
        if not result.ranked:
            raise NonFiniteLossError(
                f"{self.metric} or the loss was NaN or infinite in all {self.num_trials} trials. Search smaller rates, "
                "or give a --monitor that is defined."
            )
        self.write_best(result)
        return result

    def result(self) -> TuneResult:
        """What is known by now."""
        return TuneResult(str(self.recipe.data.origin), self.metric, self.mode, tuple(self.trials), self.folder)

    def write_best(self, result: TuneResult) -> None:
        """Write the recipe with the best settings."""
        best = copy.deepcopy(self.recipe)
        put(best, result.ranked[0].settings)
        best.logging.run_dir = None
        write_text(result.config, dump(best))

    def take_up(self) -> None:
        """Go on with the trials of an earlier search in the same folder."""
        import optuna

        earlier = [Trial(**line) for line in read_lines(self.folder / TRIALS)]
        sharing = Counter(trial.run for trial in earlier)
        for trial in earlier:
            run = RunDir(self.folder / Path(trial.run).name)  # the folder may have moved since
            values = self._values(run, self.metric) if sharing[trial.run] == 1 else {}
            try:
                self.study.add_trial(
                    optuna.trial.create_trial(
                        state=state_of(trial),
                        params=trial.settings,
                        distributions=self._distributions,
                        value=None if trial.stopped_after is not None else trial.value,
                        intermediate_values=values,
                    )
                )
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
        import optuna

        asked = [self.study.ask(self._distributions) for _ in range(count)]
        for one, trial in zip(asked, self._train(asked), strict=True):
            state = state_of(trial)
            self.study.tell(one, trial.value if state == optuna.trial.TrialState.COMPLETE else None, state=state)
            append_line(self.folder / TRIALS, vars(trial), durable=True)
            self.trials.append(trial)
            self.tell(trial)

    def tell(self, trial: Trial) -> None:
        """Say how a trial ended."""
        value = (
            f"no value: {self.metric} or the loss is not a number"
            if trial.value is None
            else f"{self.metric} {trial.value:.4f}"
        )
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
        return [self.train_one(number, one) for number, one in enumerate(asked, len(self.trials) + 1)]

    def train_one(self, number: int, asked: optuna.Trial) -> Trial:
        """Train with the settings of one trial."""
        began, settings = time.monotonic(), dict(asked.params)
        recipe = copy.deepcopy(self.recipe)
        put(recipe, settings)
        recipe.check()
        folder = claim_folder(f"trial-{number:03d}", self.folder)
        lines = EpochLines(self._title(number), self.metric, settings.get("epochs", self.num_epochs))
        value = stopped_after = None

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

        with suppress(NonFiniteLossError):  # this is a result too: the caller reports it, and tells the sampler
            value = self._value(train_aside(recipe, folder, self.start.actions, on_epoch=on_epoch), self.metric)
        return Trial(number, settings, value, str(folder), round(time.monotonic() - began, 3), stopped_after)

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
            "To train the next one beside the others: --join. To submit what is missing: --launcher slurm."
        )


def _pruner(name: str, num_epochs: int | None) -> optuna.pruners.BasePruner:
    """The median rule of Golovin et al. 2017 ("Google Vizier", section 3.2.2) for trials of one length, or none."""
    import optuna

    if name == "none" or num_epochs is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(MEDIAN_OF, n_warmup_steps=max(1, num_epochs // 5))


def state_of(trial: Trial) -> optuna.trial.TrialState:
    """How a trial ended, in Optuna's terms."""
    from optuna.trial import TrialState

    if trial.value is None:
        return TrialState.FAIL
    return TrialState.COMPLETE if trial.stopped_after is None else TrialState.PRUNED


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
