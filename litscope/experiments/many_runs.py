"""What searches and cross-validations share: they train one recipe many times, in a single run where possible.

An MLP on a table, or a head on features, is so small that several train in the time of one, as members of one run
(`models.networks.members`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litscope.claims import held
from litscope.config.recipe import Recipe
from litscope.config.strategies import SHARDED, strategy_meant
from litscope.defaults import OPTIMIZERS_OF_TORCH
from litscope.errors import ConfigError
from litscope.rundir import RunDir
from litscope.runs import claim_folder
from litscope.training.prepare import Prepared, prepare, seeded_classifier


def prepared(recipe: Recipe) -> Prepared:
    """What `fit` would train: the recipe with what is chosen for its data, and the actions to start with.

    Raises:
        UserError: whatever `fit` would refuse.
    """
    start = prepare(recipe)
    seeded_classifier(start)
    return start


def why_apart(chosen: Recipe) -> str | None:
    """What stands against training several networks of a resolved recipe as members of one run, or None."""
    training = chosen.training
    is_head = chosen.model.finetune == "head"
    if chosen.model.count > 1:
        return "each is several networks already"
    if chosen.model.arch != "mlp" and not is_head:
        return f"{chosen.model.arch} is no mlp, and all of it is trained"
    if strategy_meant(chosen.hardware.strategy)[0] in SHARDED:
        return f"--strategy {chosen.hardware.strategy} divides one network at a time"
    if training.optimizer.lower() not in OPTIMIZERS_OF_TORCH:
        return f"{training.optimizer} looks at all members together"
    if training.gradient_clip_val is not None:
        return "--gradient-clip-val would clip one norm over all"
    if training.early_stopping or training.scheduler_type == "plateau":
        return "when to stop or to slow down is decided for each alone"
    if chosen.model.weights is not None and not is_head:
        return "the weights come from a file"
    if training.robust in ("elr", "small_loss"):
        return f"--robust {training.robust} follows what one network says of each sample"
    return None


def as_members(recipe: Recipe, chosen: Recipe, count: int) -> None:
    """Have a recipe train several networks in one run: of an MLP, or the heads of one body.

    Args:
        recipe: changed in place.
        chosen: the same, resolved.
    """
    recipe.model.num_members = count
    if chosen.model.finetune == "head":
        recipe.model.finetune = "head"
    else:
        recipe.model.arch = "mlp"


@contextmanager
def folder_for(recipe: Recipe, command: str, *goes_on: str) -> Iterator[Path]:
    """The folder for everything that a command writes, --run-dir or runs/COMMAND-N, for this process alone.

    Args:
        goes_on: files of which one means that an earlier call wrote the folder, and the command goes on there.

    Raises:
        ConfigError: if it holds something else.
        RunError: if another process writes there now.
    """
    if recipe.logging.run_dir is None:
        folder = claim_folder(command, numbers_first=True)
    else:
        folder = Path(recipe.logging.run_dir)
        is_taken = folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())
        if is_taken and not any((folder / name).exists() for name in goes_on):
            raise ConfigError(
                f"--run-dir {folder}: the folder is not empty; `litscope {command}` needs a folder of its own."
            )
        folder.mkdir(parents=True, exist_ok=True)
    with held(RunDir(folder), "Wait for it, or give another --run-dir."):
        yield folder
