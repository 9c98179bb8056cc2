"""The networks of an ensemble, and what each of them would have alone: rules that are printed. No torch.

An ensemble of whole networks begins as a recipe with `archs`. Each member is chosen for as a run of its own would be,
from a copy of the recipe that names one architecture (`alone`); what all members share (batch, epochs, augmentation)
follows from the whole.
"""

from __future__ import annotations

import copy

from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.errors import ConfigError
from litscope.fusions import NEEDS_DROPOUT
from litscope.training.choosing.facts import DataFacts
from litscope.training.choosing.network_choices import HasWeights, choose_model, is_tuned

MEMBERS = 5
"""Of an ensemble whose number nobody gave: the first steps of a deep ensemble bring most (Lakshminarayanan et al.
2017)."""

CPU_MEMBERS = 3
"""The same for images on a CPU, which computes one after the other."""

DROPOUT_RATE = 0.2
"""Where the fusion needs dropout, and nobody gave a rate."""


def choose_networks(recipe: Recipe, facts: DataFacts, has_weights: HasWeights | None, lines: list[str]) -> None:
    """The architectures of an ensemble, and whether its members start from pretrained weights; a line for each choice.

    Args:
        recipe: asks for an ensemble by `archs`.
    """
    model = recipe.model
    members = [alone(recipe, arch) for arch in dict.fromkeys(model.archs)]
    told: list[str] = []
    for member in members:
        own: list[str] = []
        choose_model(member, facts, has_weights, own)
        told += [f"{member.model.arch} {line}" if len(members) > 1 else line for line in own]
    model.num_classes, model.in_channels = members[0].model.num_classes, members[0].model.in_channels
    if model.pretrained is None:
        model.pretrained = all(member.model.pretrained for member in members)
        if not model.pretrained and any(member.model.pretrained for member in members):
            left = ", ".join(str(member.model.arch) for member in members if not member.model.pretrained)
            told = [f"from scratch: members start from weights all or none, and {left} would not"]
    lines += told


def settle_ensemble(recipe: Recipe, facts: DataFacts, lines: list[str]) -> None:
    """Whether the run trains one network or an ensemble, once its network is chosen, and how many.

    Raises:
        ConfigError: for members or a strategy that there cannot be.
    """
    model = recipe.model
    if not model.archs and _are_whole(recipe, facts):
        assert model.arch is not None
        model.archs = [model.arch]
    is_ensemble = bool(model.archs) or model.model_type == "ensemble"
    if is_ensemble and model.count == 1:
        model.num_members = CPU_MEMBERS if facts.kind == "image" and facts.device == "cpu" else MEMBERS
        why = "few, on a CPU" if model.num_members == CPU_MEMBERS else "more add little"
        lines.append(f"{model.num_members} members: {why}; --num-members gives another number")
    model.num_members = model.count
    if model.model_type is None:
        model.model_type = "ensemble" if is_ensemble else "single"
    if model.num_members == 1 and model.ensemble_strategy != "mean":
        allowed = "it makes the answers of several networks one, and this is one. Give --model-type ensemble too."
        raise refuse("ensemble_strategy", model.ensemble_strategy, allowed)
    if len(set(model.archs)) == 1 and not model.weights and not model.pretrained and model.model_type == "ensemble":
        lines.append(f"members differ in their first weights: seeds {_seeds(recipe)}")
    if model.ensemble_strategy in NEEDS_DROPOUT and model.dropout_rate is None:
        model.dropout_rate = DROPOUT_RATE
        lines.append(f"dropout rate {DROPOUT_RATE}: {model.ensemble_strategy} weighs members by what dropout moves")
    model.dropout_rate = model.dropout_rate or 0.0


def each_alone(recipe: Recipe) -> list[Recipe]:
    """The recipe of each member, as a run of its own; members of one architecture have the same object."""
    of_arch = {arch: alone(recipe, arch) for arch in recipe.model.archs}
    return [of_arch[arch] for arch in recipe.model.member_archs]


def alone(recipe: Recipe, arch: str) -> Recipe:
    """The recipe of a run that trains one of the networks."""
    own = copy.deepcopy(recipe)
    own.model.arch, own.model.archs, own.model.num_members, own.model.model_type = arch, [], 1, "single"
    own.model.member_lr, own.model.member_weight_decay, own.model.member_image_size = [], [], []
    return own


def _are_whole(recipe: Recipe, facts: DataFacts) -> bool:
    """Whether the members of a recipe that names one network are whole networks, and neither mlps nor heads.

    Raises:
        ConfigError: if it says single, and they would be.
    """
    model = recipe.model
    if facts.kind == "table" or (model.arch or "").lower() == "mlp" or model.finetune == "head":
        return False
    if model.model_type == "ensemble":
        return True
    if model.num_members == 1 or (is_tuned(recipe) and model.finetune == "auto"):
        return False
    if model.model_type == "single":
        allowed = f"whole networks of {model.arch} are an ensemble. Leave --model-type single out."
        raise refuse("num_members", model.num_members, allowed)
    return True


def check_finetune(recipe: Recipe) -> None:
    """Refuse for whole networks what is done to the features of one.

    Raises:
        ConfigError: naming the flag.
    """
    if recipe.model.finetune == "lp-ft":
        raise ConfigError(
            "--finetune lp-ft: it fits one head to the features of one network, and the members of an ensemble are "
            "whole networks. Give --finetune full, or --finetune head for several heads over one body."
        )


def _seeds(recipe: Recipe) -> str:
    model, first = recipe.model, recipe.training.seed
    return ", ".join(map(str, model.member_seed or range(first, first + model.num_members)))
