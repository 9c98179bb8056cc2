"""The commands that train many times or measure, as calls: `litscope.cv`, `litscope.tune`, `litscope.lr_find`.

Like `litscope.fit`, each takes every flag of `litscope fit` as a keyword, with underscores, and gives an object whose
`lines()` are what the command prints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from litscope.config.flags import recipe_from_keywords
from litscope.config.keywords import FitKeywords
from litscope.config.recipe import Recipe
from litscope.config.signature import names_flags
from litscope.errors import ConfigError
from litscope.experiments.cv import cross_validate
from litscope.experiments.cv_result import CvResult
from litscope.experiments.search_space import Pruner
from litscope.experiments.shared_search import tune_in_workers
from litscope.experiments.trials import TuneResult
from litscope.experiments.tune import tune as search_settings
from litscope.training.probes.lr_curve import LrResult
from litscope.training.probes.lr_find import lr_find as sweep


@names_flags
def cv(
    dataset: str | os.PathLike[str] | None = None, *, folds: int = 5, nested: bool = False, **flags: Unpack[FitKeywords]
) -> CvResult:
    """Predict every sample with a network that was not trained on it.

    Args:
        dataset: as `litscope.fit`.
        folds: number of parts of the data; a network is trained for each.
        nested: each network has validation data of its own, by which its best epoch is chosen.
        flags: of `litscope fit`.

    Raises:
        UserError: what the flags or the data do not allow.
        Interrupted: after Ctrl-C or SIGTERM; the folds so far are kept.
    """
    return cross_validate(_recipe(dataset, flags), folds, nested)


@names_flags
def tune(
    dataset: str | os.PathLike[str] | None = None,
    *,
    search: Mapping[str, str | Sequence[Any]] | Sequence[str] = (),
    trials: int = 16,
    pruner: Pruner = "median",
    workers: int = 1,
    **flags: Unpack[FitKeywords],
) -> TuneResult:
    """Train with many settings, and say which are best.

    Args:
        dataset: as `litscope.fit`.
        search: ``{"lr": "1e-4..1e-1", "batch_size": [32, 64]}``, or words of --search; default: lr and weight_decay.
        trials: number of trainings in all.
        pruner: "median" stops a trial that does worse than half of the earlier ones did by that epoch; "halving" and
            "hyperband" let the best third go on, again and again; "none" stops none.
        workers: trials that train at the same time, each in a process of its own with a share of the cores.
        flags: of `litscope fit`; the settings that are not searched.

    Raises:
        MissingExtra: without Optuna.
        UserError: what the flags, the data or the ranges do not allow.
        Interrupted: after Ctrl-C or SIGTERM; the trials so far are kept.
    """
    words = [f"{name}={_range(values)}" for name, values in search.items()] if isinstance(search, Mapping) else search
    if isinstance(words, str):
        raise ConfigError(f"search={words!r}: give a list of such words, or a mapping from names to ranges.")
    recipe = _recipe(dataset, flags)
    if workers != 1:
        return tune_in_workers(recipe, list(words), trials, pruner, workers)
    return search_settings(recipe, list(words), trials, pruner)


@names_flags
def lr_find(
    dataset: str | os.PathLike[str] | None = None,
    *,
    num_sweeps: int = 3,
    num_steps: int = 100,
    lr_min: float | None = None,
    lr_max: float | None = None,
    **flags: Unpack[FitKeywords],
) -> LrResult:
    """Sweep the learning rate, and suggest one: ``lr_find("digits").suggestion``.

    Args:
        dataset: as `litscope.fit`.
        num_sweeps: each with another order of the samples.
        num_steps: of each sweep.
        lr_min, lr_max: default 1e-6 to 1, for sgd 1e-5 to 10.
        flags: of `litscope fit`.

    Raises:
        UserError: what the flags or the data do not allow.
    """
    recipe = _recipe(dataset, flags)
    return sweep(recipe, num_sweeps=num_sweeps, num_steps=num_steps, lr_min=lr_min, lr_max=lr_max)


def _recipe(dataset: str | os.PathLike[str] | None, flags: Mapping[str, Any]) -> Recipe:
    if "metrics" in flags:
        raise ConfigError(
            "metrics= is for litscope.fit and Classifier: what trains many times measures its own. Leave it out."
        )
    words = {**flags, **({} if dataset is None else {"dataset": os.fspath(dataset)})}
    return recipe_from_keywords(**words)


def _range(values: str | Sequence[Any]) -> str:
    """`[32, 64]` as --search writes it: `32,64`."""
    return values if isinstance(values, str) else ",".join(map(str, values))
