"""Everything that a person leaves open, chosen from the data by rules that are printed.

`look` reads a few facts off a data set, `resolve` fills the recipe's None fields from them and
returns one line for each choice, with its reason. What the person gave is never changed. The
rules, with their sources, are in docs/choices.md; this file is their only implementation.

No torch here: the rules are arithmetic on a dozen numbers.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.config.training import LEAST_CANARY_EPOCHS
from litscope.data.sources.source import Source
from litscope.data.stored import sample_sizes
from litscope.defaults import DEFAULT_PATIENCE, Family, best_of, default_weight_decay, optimizer_family
from litscope.limits import memory_bytes, num_cores

SMALL_PIXELS = 64
"""Images whose longer side is at most this are thumbnails: they keep their size and train from scratch."""

FEW_IMAGES = 10_000
"""Below this many training images, colour thumbnails too start from pretrained weights."""

FEW_VALIDATION = 1_000
"""Below this many validation samples accuracy takes few values, and its first best epoch is found by luck."""

HasWeights = Callable[[str], str | None]
"""Architecture -> None if its pretrained weights are within reach, else the reason why not."""

RARE = 0.1
"""A binary problem whose rarer class has a smaller share than this is judged by average precision."""


@dataclass(frozen=True)
class DataFacts:
    """What the rules look at.

    Attributes:
        class_counts: labelled training samples per class, in the order of the classes.
        val_counts: likewise of the validation samples; empty where nobody counted them.
        height, width: median over a sample of the training images, in pixels; None for tables.
        in_memory: the data are one array already (tables, idx files, digits).
        device: "cpu", "cuda" or "mps".
        num_devices: training processes, on all machines.
        epochs_done: of the checkpoint that the run goes on from.
        memory_bytes: memory that this process may use.
    """

    kind: Literal["image", "table"]
    num_train: int
    num_val: int
    class_counts: tuple[int, ...]
    height: int | None = None
    width: int | None = None
    channels: int | None = None
    num_features: int | None = None
    in_memory: bool = False
    device: str = "cpu"
    num_devices: int = 1
    num_cores: int = 1
    memory_bytes: int = 8 * 2**30
    val_counts: tuple[int, ...] = ()
    epochs_done: int = 0

    @property
    def num_classes(self) -> int:
        """Number of classes, with those that have no training sample."""
        return len(self.class_counts)

    @property
    def is_thumbnail(self) -> bool:
        """Images so small that they are used as they are."""
        return max(self.height or 0, self.width or 0) <= SMALL_PIXELS

    @property
    def short_side(self) -> int:
        """The median image's shorter side, in pixels."""
        return min(self.height or 0, self.width or 0)


def look(source: Source, *, device: str = "cpu", num_devices: int = 1, epochs_done: int = 0) -> DataFacts:
    """The facts of an opened data set.

    Args:
        source: a `data.sources.Source` (manifest, reader, kind); it holds a labelled training sample.
        device: "cpu", "cuda" or "mps", from `hardware.plan`.
        num_devices: training processes on all machines.
        epochs_done: of the checkpoint that the run goes on from.

    Raises:
        DataError: if no image can be read.
    """
    manifest, reader = source.manifest, source.reader
    train_ids, val_ids = manifest.ids("train"), manifest.ids("val")
    counts, val_counts = (
        tuple(int(n) for n in np.bincount(manifest.labels[ids], minlength=manifest.num_classes))
        for ids in (train_ids, val_ids)
    )
    height = width = None
    if source.kind == "image":
        height, width = (int(side) for side in np.median(sample_sizes(reader, train_ids), axis=0))
    return DataFacts(
        kind=source.kind,
        num_train=len(train_ids),
        num_val=len(val_ids),
        class_counts=counts,
        val_counts=val_counts,
        height=height,
        width=width,
        channels=reader.channels if source.kind == "image" else None,
        num_features=reader.channels if source.kind == "table" else None,
        in_memory=reader.array is not None,
        device=device,
        num_devices=num_devices,
        epochs_done=epochs_done,
        num_cores=num_cores(),
        memory_bytes=memory_bytes(),
    )


def resolve(recipe: Recipe, facts: DataFacts, has_weights: HasWeights | None = None) -> tuple[Recipe, list[str]]:
    """Fill in what the recipe leaves open.

    Args:
        recipe: as given; it is not changed.
        facts: from `look`.
        has_weights: asked at most once; without it, no weights are within reach.

    Returns:
        A recipe in which nothing that training needs is None, and which says what was chosen; a line for each choice.
    """
    chosen = copy.deepcopy(recipe)
    lines: list[str] = []
    _choose_model(chosen, facts, has_weights, lines)
    if facts.kind == "image":
        _choose_image_size(chosen, facts, lines)
    _choose_batch_size(chosen, facts, lines)
    _choose_epochs(chosen, facts, lines)
    _choose_optimizer(chosen, facts, lines)
    _choose_loading(chosen, facts)
    _choose_monitor(chosen, facts, lines)
    chosen.note_chosen(recipe)
    return chosen, lines


def _choose_model(recipe: Recipe, facts: DataFacts, has_weights: HasWeights | None, lines: list[str]) -> None:
    model = recipe.model
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
    if model.pretrained is None:
        model.pretrained, reason = _want_pretrained(recipe, facts, has_weights)
        start = "pretrained weights" if model.pretrained else "from scratch"
        lines.append(f"{start}: {reason}")
    if model.arch is None:
        model.arch, reason = _architecture(bool(model.pretrained) or model.weights is not None, facts)
        lines.insert(0, f"model {model.arch}: {reason}")


def _want_pretrained(recipe: Recipe, facts: DataFacts, has_weights: HasWeights | None) -> tuple[bool, str]:
    """Whether to start from pretrained weights, and why."""
    if recipe.model.weights is not None:
        return False, f"the weights come from {recipe.model.weights}"
    arch = recipe.model.arch or _architecture(True, facts)[0]
    if arch in ("convnet", "mlp", "whitenet"):
        return False, f"there are no pretrained weights for {arch}"
    if facts.is_thumbnail and (facts.channels != 3 or facts.num_train >= FEW_IMAGES):
        size = f"of {facts.width}x{facts.height} pixels"
        what = (
            f"{facts.num_train:,} thumbnails {size}" if facts.channels == 3 else f"images {size} that are not in colour"
        )
        return False, f"{what} are enough to learn from"
    problem = has_weights(arch) if has_weights is not None else "none were looked for"
    if problem is not None:
        return False, f"no pretrained weights of {arch} can be had ({problem})"
    return True, f"{arch}, trained on ImageNet, saves data and time on {facts.num_train:,} images"


def _architecture(pretrained: bool, facts: DataFacts) -> tuple[str, str]:
    """The network for these images, and why."""
    accelerated = facts.device != "cpu"
    if pretrained:
        if accelerated:
            return "convnext_tiny", "it fine-tunes best for its cost on a GPU"
        return "resnet18", "the lightest network that fine-tunes well; this is a CPU"
    if not accelerated:
        return "convnet", "a CPU trains no larger one from scratch in reasonable time"
    if facts.is_thumbnail and facts.channels == 1:
        return "convnet", f"enough for gray images of {facts.width}x{facts.height} pixels"
    if not facts.is_thumbnail and facts.num_train >= 50_000:
        return "resnet50", f"{facts.num_train:,} images can fill it"
    return "resnet18", f"a small network for {facts.num_train:,} images from scratch"


def _choose_image_size(recipe: Recipe, facts: DataFacts, lines: list[str]) -> None:
    if recipe.data.image_size is not None:
        return
    fixed = _fixed_image_size(recipe.model.arch or "")
    tuned = bool(recipe.model.pretrained) or recipe.model.weights is not None
    if fixed is not None:
        size, why = fixed, f"{recipe.model.arch} is built for it"
    elif facts.is_thumbnail and not tuned:
        size, why = max(facts.height or 1, facts.width or 1), "the images' own size"
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


def _fixed_image_size(arch: str) -> int | None:
    """The input size of architectures that accept one size only, else None. A size in the name counts."""
    if not re.match(
        r"(vit|deit|beit|eva|swin|cait|xcit|maxvit|maxxvit|coat|mvit|twins|pit|tnt|volo|mixer|gmlp|resmlp)", arch
    ):
        return None
    named = [int(n) for n in re.findall(r"_(\d{3})(?=_|\.|$)", arch) if int(n) % 14 == 0 or int(n) % 16 == 0]
    return named[-1] if named else (256 if arch.startswith("swinv2") else 224)


def _choose_batch_size(recipe: Recipe, facts: DataFacts, lines: list[str]) -> None:
    if recipe.data.batch_size is not None:
        return
    if facts.kind == "table":
        size = _clamp(_power_of_two(math.sqrt(facts.num_train)), 16, 1024)
        why = f"near the square root of {facts.num_train:,} rows"
    else:
        most = _largest_image_batch(recipe, facts)
        size = _clamp(_power_of_two(facts.num_train / 16, down=True), 16, most)
        few = "sixteen steps an epoch or more" if facts.num_train >= 16 * size else "smaller ones train unsteadily"
        why = few if size < most else f"usual for {recipe.data.image_size}-pixel images"
    recipe.data.batch_size = size
    lines.append(f"batch size {size}: {why}")


def _largest_image_batch(recipe: Recipe, facts: DataFacts) -> int:
    """128 for thumbnails; for photographs 64 on a GPU and 32 on a CPU."""
    if (recipe.data.image_size or 224) <= SMALL_PIXELS:
        return 128
    return 64 if facts.device != "cpu" else 32


def _choose_epochs(recipe: Recipe, facts: DataFacts, lines: list[str]) -> None:
    training = recipe.training
    if training.epochs is None:
        if training.max_steps is not None:
            epochs = max(1, math.ceil(training.max_steps / _steps_per_epoch(recipe, facts)))
            why = f"what --max-steps {training.max_steps} comes to"
        else:
            epochs, why = _epochs(recipe, facts)
        if training.canaries and epochs < LEAST_CANARY_EPOCHS:
            if training.max_steps is not None:
                found = f"and --max-steps {training.max_steps} comes to {epochs}."
                needed = f"it needs at least {LEAST_CANARY_EPOCHS} epochs, {found}"
                raise refuse("canaries", training.canaries, needed)
            epochs, why = LEAST_CANARY_EPOCHS, "with fewer no --canaries could be planted and taken out again"
        if epochs < facts.epochs_done:
            epochs, why = facts.epochs_done, "they are done already"
        training.epochs = epochs
        lines.append(f"epochs {epochs}: {why}")
    if training.warmup_epochs is None:
        training.warmup_epochs = round(min(5.0, training.epochs / 20), 4)


def _epochs(recipe: Recipe, facts: DataFacts) -> tuple[int, str]:
    """Passes over the training data, and why."""
    n = facts.num_train
    if facts.kind == "table":
        steps = 4000
        epochs = _clamp(round(steps / _steps_per_epoch(recipe, facts)), 10, 100)
        return epochs, f"about {steps:,} steps, at least 10 and at most 100 epochs"
    if recipe.model.pretrained or recipe.model.weights is not None:
        seen, least, most = 20_000, 4, 20
        why = "fine-tuning is short"
    elif facts.device == "cpu":
        seen, least, most = 300_000, 5, 60
        why = "from scratch on a CPU"
    else:
        seen, least, most = 1_500_000, 30, 120
        why = "from scratch"
    return _clamp(round(seen / n), least, most), f"{why}: about {seen:,} images seen, {least} to {most} epochs"


def _steps_per_epoch(recipe: Recipe, facts: DataFacts) -> int:
    """Optimizer steps of one epoch, with --limit-train-batches or --overfit-batches those that are left."""
    steps = max(1, math.ceil(facts.num_train / _effective_batch(recipe, facts)))
    training = recipe.training
    limit = training.overfit_batches or training.limit_train_batches
    if limit is None:
        return steps
    batches = limit if isinstance(limit, int) else int(limit * steps * training.accumulate_grad_batches)
    return max(1, min(steps, math.ceil(batches / training.accumulate_grad_batches)))


def _effective_batch(recipe: Recipe, facts: DataFacts) -> int:
    """Samples per optimizer step, over all devices."""
    devices = facts.num_devices if recipe.hardware.use_distributed_sampler else 1
    return (recipe.data.batch_size or 1) * recipe.training.accumulate_grad_batches * devices


def _choose_optimizer(recipe: Recipe, facts: DataFacts, lines: list[str]) -> None:
    training = recipe.training
    family = optimizer_family(training.optimizer)
    if recipe.model.member_lr:
        training.lr = max(recipe.model.member_lr)
    if recipe.model.member_weight_decay:
        training.weight_decay = max(recipe.model.member_weight_decay)
    if training.lr is None:
        training.lr, why = _learning_rate(recipe, facts, family)
        lines.append(f"learning rate {training.lr:g}: {why}")
    if training.weight_decay is None:
        training.weight_decay = default_weight_decay(training.optimizer)
        lines.append(f"weight decay {training.weight_decay:g}: usual for {training.optimizer}")


# Peak learning rate at a reference batch: (from scratch, fine-tuned, table), each (lr, batch).
_BASE_LR: dict[Family, tuple[tuple[float, int], tuple[float, int], tuple[float, int]]] = {
    "sgd": ((0.1, 128), (0.01, 64), (0.05, 64)),
    "adamw": ((1e-3, 128), (1e-4, 32), (1e-3, 32)),
    "adam": ((1e-3, 128), (1e-4, 32), (1e-3, 32)),
    "lion": ((1e-4, 128), (1e-5, 32), (1e-4, 32)),
}
_MOST_LR: dict[Family, float] = {"sgd": 0.4, "adamw": 4e-3, "adam": 4e-3, "lion": 4e-4}


def _learning_rate(recipe: Recipe, facts: DataFacts, family: Family) -> tuple[float, str]:
    """The peak learning rate for the batch size, and why."""
    tuned = bool(recipe.model.pretrained) or recipe.model.weights is not None
    which = 2 if facts.kind == "table" else int(tuned)
    base, reference = _BASE_LR[family][which]
    if which == 0 and _fixed_image_size(recipe.model.arch or "") is not None:
        base /= 2  # transformers from scratch diverge where convolutions do not (DeiT: 5e-4)
    if recipe.model.arch == "convnet" and family != "sgd":
        base *= 3  # small, with batch norm throughout: measured on digits and 2,000 images of CIFAR-10
    ratio = _effective_batch(recipe, facts) / reference
    scale, rule = (ratio, "linearly") if family == "sgd" else (math.sqrt(ratio), "by the square root")
    lr = min(base * scale, _MOST_LR[family])
    what = ("from scratch", "fine-tuning", "tables")[which]
    return _two_digits(lr), f"{what} with {recipe.training.optimizer}: {base:g} at batch {reference}, scaled {rule}"


def _choose_loading(recipe: Recipe, facts: DataFacts) -> None:
    data = recipe.data
    if data.num_workers is None:
        data.num_workers = 0 if facts.in_memory else min(facts.num_cores, 16)
    if data.pin_memory is None:
        data.pin_memory = facts.device == "cuda"


def _choose_monitor(recipe: Recipe, facts: DataFacts, lines: list[str]) -> None:
    training = recipe.training
    if training.monitor is None:
        training.monitor, why = _monitor(facts)
        if training.limit_val_batches == 0:
            training.monitor, why = "train/loss", "--limit-val-batches 0 leaves no validation"
        lines.append(f"monitor {training.monitor}: {why}")
    if training.mode is None:
        training.mode = best_of(training.monitor, recipe.metrics)
    if training.patience is not None:
        training.early_stopping = True
    elif training.early_stopping:
        training.patience = DEFAULT_PATIENCE


def _monitor(facts: DataFacts) -> tuple[str, str]:
    """The metric that decides the best checkpoint, and why."""
    if facts.num_val == 0:
        return "train/loss", "there is no validation data"
    if facts.num_classes == 2:
        share = facts.class_counts[1] / sum(facts.class_counts)
        if min(share, 1 - share) < RARE and 0 in facts.val_counts:
            return "val/loss", "a class is rare, and validation holds no sample of one"
        if share < RARE:
            return "val/ap", f"the positive class is rare ({share:.1%}), so accuracy hardly tells models apart"
        if share > 1 - RARE:
            return "val/auroc", f"the first class is rare ({1 - share:.1%}), so accuracy hardly tells models apart"
    if facts.num_val < FEW_VALIDATION:
        return "val/loss", f"accuracy is coarse on {facts.num_val:,} validation samples"
    return "val/accuracy", "the share of right answers on the validation data"


def _power_of_two(x: float, down: bool = False) -> int:
    """The nearest power of two (in the logarithm), or the next one below."""
    exponent = math.log2(max(x, 1.0))
    return int(2 ** (math.floor(exponent) if down else round(exponent)))


def _round_up(x: int, step: int) -> int:
    return max(step, math.ceil(x / step) * step)


def _clamp(x: int, least: int, most: int) -> int:
    return max(least, min(most, x))


def _two_digits(x: float) -> float:
    """Rounded to two significant digits, so that a chosen number looks chosen."""
    return float(f"{x:.1e}")
