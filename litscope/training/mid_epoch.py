"""Whether a checkpoint inside an epoch can be taken up: said before the run begins, where a fit would say so after.

Another number of processes or another batch size is no hindrance: what the epoch has not drawn is spread over as many
steps as that makes (`data.loader`). Another order is, and so is a limit of batches, which would mean other samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litscope.config.recipe import Recipe
from litscope.data.sampler import steps_left
from litscope.errors import ConfigError
from litscope.models.checkpoint_file import load_checkpoint
from litscope.training.hardware import Plan


def check_mid_epoch(recipe: Recipe, plan: Plan, checkpoint: Path) -> None:
    """Refuse to go on inside an epoch with steps, or an order, that do not let it.

    Args:
        recipe: resolved.

    Raises:
        ConfigError: with what to type.
        RunError: as `load_checkpoint`.
    """
    state = load_checkpoint(checkpoint, mmap=True).get("ClassificationData", {}).get("train", {})
    if not state.get("batches_done"):
        return
    where = f"{checkpoint} lies inside epoch {state['epoch'] + 1}"
    for flag, name, now in (
        ("--seed", "seed", recipe.training.seed),
        ("--sampler", "sampler", recipe.data.sampler),
    ):
        then = state.get(name, "uniform")  # earlier versions knew no other sampler
        if then != now:
            raise ConfigError(
                f"{flag} {now}: {where}, whose order is that of {flag} {then}. Leave it out, or resume from a "
                "checkpoint at the end of an epoch."
            )
    world = plan.world_size if recipe.hardware.use_distributed_sampler else 1
    batch_size = recipe.data.batch_size
    assert batch_size is not None
    if state["samples_per_step"] != batch_size * world:
        _check_steps(recipe, state, world, batch_size, where)


def _check_steps(recipe: Recipe, state: dict[str, Any], world: int, batch_size: int, where: str) -> None:
    then = int(state["samples_per_step"])
    if recipe.training.limit_train_batches not in (None, 1.0):
        same = f"--batch-size {then // world}" if then % world == 0 else "as many devices as then"
        raise ConfigError(
            f"--batch-size {batch_size}: {where}, which --limit-train-batches ends early, and its steps had {then} "
            f"samples; {batch_size} on {world} {'device' if world == 1 else 'devices'} make {batch_size * world}. Give "
            f"{same}, or resume from a checkpoint at the end of an epoch."
        )
    left = len(state["rest"]) if "rest" in state else int(state["num_samples"]) - state["batches_done"] * then
    if not steps_left(left, batch_size, world):
        raise ConfigError(
            f"{where}, of which {left} samples are left: too few for {world} devices. Give fewer --devices, or resume "
            "from a checkpoint at the end of an epoch."
        )
