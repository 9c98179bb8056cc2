"""How images are shown to a network, or to each of several: their side in pixels, and the way there. No torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from litscope.config.recipe import Recipe
from litscope.training.choosing.ensemble_choices import each_alone
from litscope.training.choosing.facts import DataFacts
from litscope.training.choosing.network_choices import FindStart, affordable_size, is_tuned

if TYPE_CHECKING:
    from litscope.models.networks.preprocessing import Preprocessing

LEAST_CPU_PIXELS, CPU_PIXELS = 128, 160
"""Where weights saw larger images, a CPU shows them a size between these, near the shorter side."""


def choose_images(recipe: Recipe, facts: DataFacts, find_start: FindStart | None, lines: list[str]) -> None:
    """How images are shown to a network."""
    start = find_start(recipe) if find_start is not None and is_tuned(recipe) else None
    seen = None if start is None else start.preprocessing
    _choose_image_size(recipe, facts, None if seen is None else seen.image_size, lines)
    if start is not None:
        _choose_preprocessing(recipe, seen, lines)


def choose_member_images(recipe: Recipe, facts: DataFacts, find_start: FindStart | None, lines: list[str]) -> None:
    """How images are shown to the members of an ensemble: to each at the size that it would see alone, from a batch
    of the largest."""
    data, model = recipe.data, recipe.model
    members = each_alone(recipe)
    for own in {id(member): member for member in members}.values():
        choose_images(own, facts, find_start, [])
    sizes = model.member_image_size or [member.data.image_size or 1 for member in members]
    are_same = len(set(sizes)) == 1
    if not model.member_image_size and not are_same:
        model.member_image_size = sizes
    ways = {(member.data.crop_pct, member.data.interpolation) for member in members}
    if len(ways) == 1:
        data.crop_pct, data.interpolation = ways.pop()
    else:
        lines.append("images as usual: the weights of the members saw them prepared in several ways")
    if data.image_size is None:
        named = dict.fromkeys(f"{arch} {size}" for arch, size in zip(model.member_archs, sizes, strict=True))
        data.image_size = max(sizes)
        how = "what each would see alone" if are_same else f"the largest of {', '.join(named)}, resized for each"
        lines.append(f"image size {data.image_size}: {how}")


def _choose_preprocessing(recipe: Recipe, seen: Preprocessing | None, lines: list[str]) -> None:
    """Show images to a network as its weights saw them, and say so; what a person gave stays, and that is said too."""
    data, channels = recipe.data, recipe.model.in_channels or 3
    if seen is None:
        lines.append(f"images as usual: {recipe.model.weights} does not say how its own were prepared")
        return
    other = [
        f"--{name.replace('_', '-')} {given:g}" if isinstance(given, float) else f"--{name} {given}"
        for name in ("crop_pct", "interpolation")
        if (given := getattr(data, name)) not in (None, getattr(seen, name))
    ]
    if data.crop_pct is None:
        data.crop_pct = seen.crop_pct
    if data.interpolation is None:
        data.interpolation = seen.interpolation
    own = seen.mean is not None and seen.normalization(channels)[0] is None
    notes = [f"here {' and '.join(other)}"] if other else []
    notes += [f"of {channels} bands the data's own mean and deviation"] if own else []
    lines.append("; ".join([seen.line(), *notes]))


def _choose_image_size(recipe: Recipe, facts: DataFacts, seen: int | None, lines: list[str]) -> None:
    """The side of the square that the network sees.

    Args:
        seen: the side that its weights saw, where they say so.
    """
    if recipe.data.image_size is not None:
        return
    fixed = fixed_image_size(recipe.model.arch or "")
    tuned = is_tuned(recipe)
    if fixed is not None:
        size, why = seen or fixed, f"{recipe.model.arch} is built for it"
    elif facts.is_thumbnail and not tuned:
        size, why = max(facts.height or 1, facts.width or 1), "the images' own size"
    elif tuned and seen is not None:
        size, why = seen, "what the weights saw"
        if facts.device == "cpu":
            usual = min(seen, CPU_PIXELS, max(LEAST_CPU_PIXELS, _round_up(facts.short_side, 32)))
            size = affordable_size(recipe, facts, usual, seen)
        if size < seen:
            why = f"less than the {seen} that the weights saw, for speed on a CPU; --image-size {seen} is theirs"
    elif tuned:
        full = 224 if facts.device != "cpu" else 160
        size = min(full, max(128, _round_up(facts.short_side, 32)))
        why = "near what the pretrained network saw" if size < 224 else "what the pretrained network saw"
    else:
        full = 96 if facts.device == "cpu" else 128 if facts.num_train < 50_000 else 224
        size = min(full, _round_up(facts.short_side, 32))
        why = f"enough for {facts.num_train:,} images from scratch" if size == full else "the images' own size"
    recipe.data.image_size = size
    lines.append(f"image size {size}: {why}")


def fixed_image_size(arch: str) -> int | None:
    """The input size of architectures that accept one size only, else None. A size in the name counts."""
    if not re.match(
        r"(vit|deit|beit|eva|swin|cait|xcit|maxvit|maxxvit|coat|mvit|twins|pit|tnt|volo|mixer|gmlp|resmlp)", arch
    ):
        return None
    named = [int(n) for n in re.findall(r"_(\d{3})(?=_|\.|$)", arch) if int(n) % 14 == 0 or int(n) % 16 == 0]
    return named[-1] if named else (256 if arch.startswith("swinv2") else 224)


def _round_up(x: int, step: int) -> int:
    return max(step, -(-x // step) * step)
