"""What does not go together with a network that is divided over processes, or whose blocks are computed twice.

Each is refused before data are opened or a folder is made, with the combination that works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.defaults import OPTIMIZERS_OF_TORCH
from litscope.errors import ConfigError

if TYPE_CHECKING:
    from litscope.training.hardware import Plan


def check_combination(recipe: Recipe, plan: Plan) -> None:
    """Refuse what cannot work with the plan's strategy.

    Raises:
        ConfigError: naming the flag, and what to give instead.
    """
    if plan.is_sharded:
        _check_sharded(recipe, plan)
    elif recipe.hardware.cpu_offload:
        raise ConfigError(
            "--cpu-offload: it is for the shares of an fsdp strategy on two GPUs or more. Give --strategy fsdp_full "
            "--accelerator gpu --devices 2 or more, or leave it out."
        )
    if recipe.hardware.activation_checkpointing:
        _check_recomputed(recipe)


def unused_settings(recipe: Recipe, plan: Plan) -> list[str]:
    """Lines about settings of a sharded network that this run does not use, because its network is whole."""
    if plan.is_sharded:
        return []
    wrap, form = recipe.hardware.fsdp_wrap, recipe.training.checkpoint_format
    lines = [] if wrap == "auto" else [f"--fsdp-wrap {wrap}: not used, each process has the whole network"]
    if form == "sharded":
        lines.append("--checkpoint-format sharded: not used, each process has the whole network; checkpoints are full")
    return lines


def _check_sharded(recipe: Recipe, plan: Plan) -> None:
    model, training, hardware, ddp = recipe.model, recipe.training, recipe.hardware, "or --strategy ddp"
    given = hardware.strategy  # "auto" never shards
    if hardware.cpu_offload and plan.device_type != "cuda":
        raise ConfigError(
            f"--cpu-offload: it is for GPUs, and this run computes on {plan.device_type}, where all memory is "
            "the CPU's. Leave it out."
        )
    if hardware.sync_batchnorm:
        raise _not_under(given, "--sync-batchnorm", "give --strategy ddp")
    if hardware.channels_last:
        raise _not_under(given, "--channels-last", f"leave it out (shares of weights are contiguous), {ddp}")
    if model.compile:
        raise _not_under(given, "--compile-model", f"leave it out, {ddp}")
    if model.finetune == "head":
        raise _not_under(
            given, "--finetune head", f"give --finetune full (of a head there is nothing to divide), {ddp}"
        )
    if (several := _several(recipe)) is not None:
        raise _not_under(given, several, f"leave it out, {ddp}")
    if training.optimizer.lower() not in OPTIMIZERS_OF_TORCH:
        names = ", ".join(OPTIMIZERS_OF_TORCH)
        raise refuse(
            "optimizer",
            training.optimizer,
            f"--strategy {given} needs one that changes each number of a weight by itself: {names}. Give one of these, "
            "or --strategy ddp.",
        )
    if recipe.logging.wandb_watch:
        raise _not_under(given, "--wandb-watch", f"leave it out (a process sees its share of the gradients), {ddp}")


def _check_recomputed(recipe: Recipe) -> None:
    for flag, is_given in (
        ("--compile-model", recipe.model.compile),
        ("--finetune head", recipe.model.finetune == "head"),
        (_several(recipe) or "", _several(recipe) is not None),
    ):
        if is_given:
            raise ConfigError(f"--activation-checkpointing does not go together with {flag}. Leave one of the two out.")


def _several(recipe: Recipe) -> str | None:
    """The flag that asks for several networks; None where one is trained."""
    model = recipe.model
    if model.archs:
        return f"--archs {','.join(model.archs)}"
    if model.num_members > 1:
        return f"--num-members {model.num_members}"
    return "--model-type ensemble" if model.model_type == "ensemble" else None


def _not_under(strategy: str, flag: str, instead: str) -> ConfigError:
    return ConfigError(f"{flag} does not work with --strategy {strategy}: {instead}.")
