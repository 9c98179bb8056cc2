"""`litscope bench prune`: is training on fewer samples worth more than simply training for less time?

For each seed there are four runs, one after the other, so that a machine whose speed drifts slows all arms alike:

    full      every sample in every epoch
    method    pruned (`data.pruning`)
    random    the same number of samples left out in the same epochs, chosen at random
    shorter   every sample, but only as many steps as the pruned run's cost allows, with a schedule of that length

Cost is the number of samples trained on. Arms of one seed have the same splits, first weights and settings. Each is
judged by its last weights, not by the best of many validations, of which a longer run has more.
"""

from __future__ import annotations

import copy
import math
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.config.recipe import Recipe
from litscope.console import say, table_lines
from litscope.data.pruning import DEFAULT_RATIO, num_whole_at_end
from litscope.defaults import direction
from litscope.errors import ConfigError
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir
from litscope.starter import refuse_company
from litscope.training.fit import run_recipe

LEAST_SEEDS = 2
CONFIDENCE = 0.95


@dataclass(frozen=True)
class ArmRun:
    """One run.

    Attributes:
        num_samples: samples trained on, each visit counted.
        wall_s: seconds of the whole run, validation and evaluation included.
        value: the metric of the last epoch's weights.
        metrics: all metrics of these weights.
        epochs: how many epochs the run had.
    """

    arm: str
    seed: int
    num_samples: int
    wall_s: float
    global_step: int
    epochs: int
    value: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """Method minus another arm, paired by seed, in the metric's unit; positive is better for the method.

    Attributes:
        low, high: Student's interval of the mean, at `CONFIDENCE`.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Difference:
        """Work out mean and interval from the differences of each seed, at least two."""
        from scipy.stats import t

        mean, n = statistics.fmean(values), len(values)
        half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)
        return cls(mean, mean - half, mean + half)

    def shown(self, scale: float) -> str:
        """The difference in words: `+0.12 (95 % interval -0.30 to +0.54)`."""
        mean, low, high = (scale * x for x in (self.mean, self.low, self.high))
        return f"{mean:+.2f} ({CONFIDENCE:.0%} interval {low:+.2f} to {high:+.2f})".replace("%", " %")


@dataclass(frozen=True)
class PruneResult:
    """What `bench_prune` found.

    Attributes:
        metric: `test/accuracy`, or `val/accuracy` where there is no test set.
        runs: in the order in which they ran.
    """

    dataset: str
    method: str
    ratio: float
    metric: str
    num_seeds: int
    runs: tuple[ArmRun, ...]

    @property
    def arms(self) -> list[str]:
        """The names of the arms: all samples, the method, its random control, and the shorter schedule."""
        return ["full", self.method, *(["random"] if self.method != "random" else []), "shorter"]

    def of(self, arm: str) -> list[ArmRun]:
        """An arm's runs, by seed."""
        return sorted((run for run in self.runs if run.arm == arm), key=lambda run: run.seed)

    def against(self, arm: str) -> Difference:
        """The method minus this arm."""
        sign = 1 if direction(self.metric) == "max" else -1
        pairs = zip(self.of(self.method), self.of(arm), strict=True)
        return Difference.of([sign * (ours.value - theirs.value) for ours, theirs in pairs])

    def cost(self, arm: str) -> float:
        """Number of samples that an arm trained on, as a share of the full arm's."""
        return sum(r.num_samples for r in self.of(arm)) / sum(r.num_samples for r in self.of("full"))

    @property
    def _unit(self) -> tuple[float, str]:
        return (1, "") if self.metric.endswith("/loss") else (100, " points")

    @property
    def verdict(self) -> str:
        """One sentence: whether the method beats a shorter schedule of the same cost."""
        found = self.against("shorter")
        scale, unit = self._unit
        how = (
            "beats" if found.low > 0
            else "is worse than" if found.high < 0
            else "cannot be told apart from"
        )  # fmt: skip
        return (
            f"{self.method} {how} a shorter schedule of the same cost on {self.dataset}: {self.metric} "
            f"{found.shown(scale)}{unit}, positive is better, over {self.num_seeds} seeds, with "
            f"{100 * (1 - self.cost(self.method)):.0f} % of the samples saved."
        )

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        scale, unit = self._unit
        rows = []
        for arm in self.arms:
            runs = self.of(arm)
            values = [scale * run.value for run in runs]
            samples, wall_s = (
                statistics.fmean(x) for x in zip(*((r.num_samples, r.wall_s) for r in runs), strict=True)
            )
            figures = (f"{statistics.fmean(values):.3f}", f"{statistics.stdev(values):.3f}", f"{samples:,.0f}")
            rows.append([arm, *figures, f"{self.cost(arm):.1%}", f"{wall_s:.1f}"])
        head = ["arm", self.metric, "sd", "samples", "of full", "wall s"]
        lines = [f"{self.dataset}, prune ratio {self.ratio:g}, {self.num_seeds} seeds"]
        lines += table_lines(head, rows, right=head[1:])
        lines += [f"{self.method} minus {arm}: {self.against(arm).shown(scale)}{unit}" for arm in self._others]
        return [*lines, self.verdict]

    @property
    def _others(self) -> list[str]:
        return [arm for arm in self.arms if arm != self.method]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {
            "dataset": self.dataset,
            "method": self.method,
            "ratio": self.ratio,
            "metric": self.metric,
            "num_seeds": self.num_seeds,
            "cost": {arm: self.cost(arm) for arm in self.arms},
            "minus": {arm: vars(self.against(arm)) for arm in self._others},
            "runs": [vars(run) for run in self.runs],
            "verdict": self.verdict,
        }


def bench_prune(recipe: Recipe, num_seeds: int = 3) -> PruneResult:
    """Train all arms with `num_seeds` seeds.

    Args:
        recipe: as for `fit`; its prune is the method ("none" means infobatch), its seed the first one, its run_dir
            the folder in which the runs are kept (default: they are deleted).

    Raises:
        ConfigError: for settings that make the arms incomparable, or a method that prunes nothing.
        UserError: whatever `fit` would refuse.
    """
    refuse_company("litscope bench prune")
    recipe = _prepared(recipe, num_seeds)
    method = recipe.training.prune
    ratio = DEFAULT_RATIO if recipe.training.prune_ratio is None else recipe.training.prune_ratio
    runs: list[ArmRun] = []
    metric = None
    with _folder(recipe) as folder:
        for k in range(num_seeds):
            seed = recipe.training.seed + k

            def train(arm: str, seed: int = seed, **changes: Any) -> ArmRun:
                nonlocal metric
                say(f"bench prune: {arm}, seed {seed}")
                changed = copy.deepcopy(recipe)
                for name, value in {"prune": "none", "prune_ratio": None, "seed": seed, **changes}.items():
                    setattr(changed.training, name, value)
                changed.logging.run_dir = str(folder / f"{arm}-seed{seed}")
                result = run_recipe(changed)
                metric = metric or _metric(recipe, result.summary)
                run = _arm_run(arm, seed, result.run, result.summary, metric)
                runs.append(run)
                return run

            full = train("full")
            pruned = train(method, prune=method, prune_ratio=ratio)
            if pruned.num_samples >= full.num_samples:
                raise ConfigError(f"--prune {method} left nothing out in {pruned.epochs} epochs; give more --epochs.")
            if method != "random":
                train("random", prune="random", prune_ratio=random_ratio(full, pruned))
            # As many steps, each of a whole epoch's mean size, as make up the pruned run's cost.
            train("shorter", max_steps=max(1, round(full.global_step * pruned.num_samples / full.num_samples)))
    assert metric is not None
    return PruneResult(str(recipe.data.origin), method, ratio, metric, num_seeds, tuple(runs))


def random_ratio(full: ArmRun, pruned: ArmRun) -> float:
    """The ratio with which --prune random leaves out as many samples as `pruned` did, in the same epochs."""
    num_pruned_epochs = pruned.epochs - 1 - num_whole_at_end(pruned.epochs)
    return (full.num_samples - pruned.num_samples) / (num_pruned_epochs * full.num_samples / full.epochs)


def _prepared(recipe: Recipe, num_seeds: int) -> Recipe:
    """The recipe of all arms: one split, last weights, no early end."""
    training = recipe.training
    if num_seeds < LEAST_SEEDS:
        raise ConfigError(f"--seeds {num_seeds}: an interval needs at least {LEAST_SEEDS}.")
    for flag, is_given in (
        ("--resume", training.resume is not None),
        ("--early-stopping", training.early_stopping),
        ("--max-steps", training.max_steps is not None),
        ("--max-time", training.max_time is not None),
        ("--name", recipe.logging.name is not None),
    ):
        if is_given:
            raise ConfigError(f"{flag}: in `litscope bench prune`, cost alone decides how long each arm is.")
    changed = copy.deepcopy(recipe)
    if training.prune == "none":
        changed.training.prune = "infobatch"
    changed.training.save_top_k, changed.training.save_last = 0, False
    changed.data.split_seed = training.seed if recipe.data.split_seed is None else recipe.data.split_seed
    changed.logging.progress = False
    changed.check()
    return changed


@contextmanager
def _folder(recipe: Recipe) -> Iterator[Path]:
    if recipe.logging.run_dir is not None:
        folder = Path(recipe.logging.run_dir)
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"--run-dir {folder}: the folder is not empty; the runs of the bench need a folder of their own."
            )
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="litscope-bench-") as name:
        yield Path(name)


def _metric(recipe: Recipe, summary: dict[str, Any]) -> str:
    """The metric that judges the arms: the monitor that was asked for, else what suits the data, else accuracy."""
    given = recipe.training.monitor
    name = (given or summary["monitor"] or "").partition("/")[2]
    if given is None and name not in ("ap", "auroc", "f1"):
        name = "accuracy"
    return f"{'test' if summary['num_samples']['test'] else 'val'}/{name}"


def _arm_run(arm: str, seed: int, run: RunDir, summary: dict[str, Any], metric: str) -> ArmRun:
    rows = epoch_rows(run)
    found = {**summary["metrics"]["final"], **summary["metrics"]["best"]} if metric.startswith("test/") else {}
    metrics = {name: value for name, value in found.items() if name.startswith("test/")}
    metrics |= summary["metrics"]["final"]
    if metric not in metrics:
        raise ConfigError(f"There is no {metric} to judge by: give a --val-split or a --test-split above 0.")
    return ArmRun(
        arm,
        seed,
        num_samples=sum(row["num_samples"] for row in rows),
        wall_s=summary["wall_s"],
        global_step=summary["global_step"],
        epochs=len(rows),
        value=metrics[metric],
        metrics=metrics,
    )
