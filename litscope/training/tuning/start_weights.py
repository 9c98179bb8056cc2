"""The weights that a run starts from: what `--weights` names, or those that a library has for the architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from litscope.config.recipe import Recipe
from litscope.config.resume import checkpoint_of
from litscope.config.section import refuse
from litscope.errors import ModelError
from litscope.models.networks.sources import OTHER_WEIGHTS, WeightsSource, find_weights, weights_of
from litscope.rundir import RunDir
from litscope.runs import RUNS


def with_checkpoint(recipe: Recipe) -> Recipe:
    """The recipe with the best checkpoint of the run that `--weights` names by its folder, or by its name below runs/.

    Raises:
        ConfigError: for a folder that is no run.
        RunError: if the run has no best checkpoint.
    """
    weights = recipe.model.weights
    if weights is None or Path(weights).is_file():
        return recipe
    run = next((run for run in (RunDir(weights), RunDir(RUNS / weights)) if run.is_run()), None)
    if run is None and Path(weights).is_dir():
        raise refuse("weights", weights, "it is a folder, and no run. Give a run, or a file of weights.")
    if run is None:
        return recipe
    return replace(recipe, model=replace(recipe.model, weights=str(checkpoint_of(run, "best"))))


def starting_weights(recipe: Recipe, *, ask: bool = True) -> WeightsSource | None:
    """The weights that a recipe starts from, as `choices.resolve` asks for them."""
    model = recipe.model
    if model.weights is not None:
        return find_weights(model.weights, model.arch, ask=ask)
    return weights_of(model.arch) if model.pretrained and model.arch is not None else None


def check_reach(recipe: Recipe) -> None:
    """Refuse weights of a name that cannot be had, before the data are opened.

    Raises:
        ModelError: saying why, and what to do instead.
    """
    source = starting_weights(recipe) if recipe.model.weights is not None else None
    if source is not None and (problem := source.problem()) is not None:
        raise ModelError(f"--weights {recipe.model.weights}: they cannot be had: {problem}. {OTHER_WEIGHTS}")
