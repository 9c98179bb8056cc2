"""Settings: what people may change while a run trains, and the recipe with which such a run goes on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from litscope.config.recipe import Recipe
from litscope.defaults import DEFAULT_PATIENCE, default_weight_decay
from litscope.ledger.journal.actions import decide


@dataclass(frozen=True)
class Settings:
    """The values of `set`, as they hold for a run.

    Attributes:
        lr: a rate in place of the schedule's, or None.
        epochs: None without a limit.
        early_stopping: whether it is on.
    """

    lr: float | None
    lr_scale: float
    weight_decay: float
    epochs: int | None
    patience: int
    early_stopping: bool
    batch_size: int

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> Settings:
        """Those of a resolved recipe."""
        training = recipe.training
        decay = training.weight_decay
        return cls(
            lr=None,
            lr_scale=1.0,
            weight_decay=default_weight_decay(training.optimizer) if decay is None else decay,
            epochs=training.epochs,
            patience=training.patience or DEFAULT_PATIENCE,
            early_stopping=training.early_stopping,
            batch_size=recipe.data.batch_size or 64,
        )

    def with_(self, changes: Mapping[str, Any]) -> Settings:
        """With what `Decisions.settings` say. Patience alone turns early stopping on, as in a recipe."""
        implied = {"early_stopping": True} if "patience" in changes else {}
        return replace(self, **{**implied, **changes})


def facts_of(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint keeps of the recipe, to tell later what was asked for in another way since."""
    training, data = recipe.training, recipe.data
    plan = [training.max_steps, training.warmup_epochs, training.accumulate_grad_batches, training.limit_train_batches]
    return {"settings": asdict(Settings.of_recipe(recipe)), "plan": [training.epochs, data.batch_size, *plan]}


def limits_of(recipe: Recipe) -> dict[str, Any]:
    """What ends a run, beside its early stopping's patience: a checkpoint keeps it, as `facts_of`."""
    training = recipe.training
    return {name: getattr(training, name) for name in ("epochs", "max_steps", "max_time", "min_delta")}


def endings_of(recipe: Recipe) -> dict[str, Any]:
    """All that ends a run: what had begun to end when a checkpoint was written ends, unless this has changed since."""
    training = recipe.training
    return {**limits_of(recipe), "early_stopping": training.early_stopping, "patience": training.patience}


def resumed(recipe: Recipe, state: Mapping[str, Any]) -> Recipe:
    """The recipe with which a run goes on: with the settings that were changed while it ran.

    What is asked for in another way than then (`litscope fit --resume RUN --epochs 40`) wins.

    Args:
        recipe: resolved, as asked for now.
        state: of `Steering`, from the checkpoint; empty without one.
    """
    if not state.get("applied"):
        return recipe
    then = Settings(**state["asked"]["settings"])
    changed = asdict(then.with_(decide(state["applied"]).settings)) | {"batch_size": state["live"]["batch_size"]}
    asked, result = asdict(Settings.of_recipe(recipe)), copy.deepcopy(recipe)
    for name in ("epochs", "patience", "early_stopping", "weight_decay", "batch_size"):
        if asked[name] == asdict(then)[name] != changed[name]:
            setattr(result.data if name == "batch_size" else result.training, name, changed[name])
    return result
