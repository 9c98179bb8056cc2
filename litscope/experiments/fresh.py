"""What a command that makes its runs itself does not take: asked without torch, before a job waits for it."""

from __future__ import annotations

from litscope.config.recipe import Recipe
from litscope.errors import ConfigError


def check_fresh(recipe: Recipe, command: str) -> None:
    """Refuse flags that only make sense for a single run.

    Raises:
        ConfigError: naming the flag.
    """
    for flag, is_given in (
        ("--resume", recipe.training.resume is not None),
        ("--name", recipe.logging.name is not None),
        ("--num-members", recipe.model.num_members > 1 and not recipe.model.archs and recipe.model.model_type is None),
    ):
        if is_given:
            raise ConfigError(f"{flag}: `litscope {command}` makes its runs itself. Leave it out.")
    if recipe.data.num_folds is not None and command == "cv":
        raise ConfigError(f"--num-folds: `litscope cv` takes their number as --folds {recipe.data.num_folds}.")
