"""Everything that a person leaves open, chosen from the data by rules that are printed.

`facts.look` reads a few facts off a data set, `resolve` fills the recipe's None fields from them and
returns one line for each choice, with its reason. What the person gave is never changed. The
rules, with their sources, are in docs/choices.md; this file and `network_choices.py` are their only implementation.

No torch here: the rules are arithmetic on a dozen numbers.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.config.training import LEAST_CANARY_EPOCHS
from litscope.defaults import DEFAULT_PATIENCE, Family, best_of, default_weight_decay, optimizer_family
from litscope.training.choosing.ensemble_choices import (
    check_finetune,
    choose_networks,
    each_alone,
    settle_ensemble,
)
from litscope.training.choosing.facts import SMALL_PIXELS, DataFacts
from litscope.training.choosing.image_choices import choose_images, choose_member_images, fixed_image_size
from litscope.training.choosing.network_choices import (
    LEAST_TUNING_EPOCHS,
    TUNING_CPU_S,
    FindStart,
    HasWeights,
    choose_finetune,
    choose_model,
    is_tuned,
    tuning_epochs,
    usual_body_lr_scale,
)

if TYPE_CHECKING:
    pass

FEW_VALIDATION = 1_000
"""Below this many validation samples accuracy takes few values, and its first best epoch is found by luck."""

MOST_FITTED_EPOCHS = 10
"""Of all of a network whose head was fitted first: more add little."""

RARE = 0.1
"""A binary problem whose rarer class has a smaller share than this is judged by average precision."""


def resolve(
    recipe: Recipe, facts: DataFacts, has_weights: HasWeights | None = None, find_start: FindStart | None = None
) -> tuple[Recipe, list[str]]:
    """Fill in what the recipe leaves open.

    Args:
        recipe: as given; it is not changed.
        facts: from `look`.
        has_weights: asked at most twice; without it, no weights are within reach.
        find_start: finds the weights that a recipe starts from; without it, or for a run that goes on, nothing is known
            of them.

    Returns:
        A recipe in which nothing that training needs is None, and which says what was chosen; a line for each choice.
    """
    chosen = copy.deepcopy(recipe)
    lines: list[str] = []
    named = find_start(recipe) if find_start is not None and recipe.model.weights is not None else None
    if chosen.model.archs:
        choose_networks(chosen, facts, has_weights, lines)
    else:
        choose_model(chosen, facts, has_weights, lines, named)
    settle_ensemble(chosen, facts, lines)
    if chosen.model.archs:
        check_finetune(chosen)
        choose_member_images(chosen, facts, find_start, lines)
    elif facts.kind == "image":
        choose_images(chosen, facts, find_start, lines)
    _choose_batch_size(chosen, facts, lines)
    choose_finetune(chosen, facts, lines)
    _choose_epochs(chosen, facts, lines)
    _choose_optimizer(chosen, facts, lines)
    _choose_loading(chosen, facts)
    _choose_monitor(chosen, facts, lines)
    chosen.check_members()
    chosen.note_chosen(recipe)
    return chosen, lines


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
    if recipe.model.finetune == "head":
        seen, least, most = 100_000, 10, 20
        why = "fine-tuning is short, and an epoch of features takes a moment"
    elif recipe.model.finetune == "lp-ft" and (possible := tuning_epochs(recipe, facts)) >= LEAST_TUNING_EPOCHS:
        why = f"what a CPU core trains in {TUNING_CPU_S:g} s, at most {MOST_FITTED_EPOCHS}"
        return min(possible, MOST_FITTED_EPOCHS), why
    elif is_tuned(recipe):
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
    return _device_batch(recipe) * _sharing_devices(recipe, facts)


def _device_batch(recipe: Recipe) -> int:
    """Samples per optimizer step of one device."""
    return (recipe.data.batch_size or 1) * recipe.training.accumulate_grad_batches


def _sharing_devices(recipe: Recipe, facts: DataFacts) -> int:
    """The devices that share the samples of a step."""
    return facts.num_devices if recipe.hardware.use_distributed_sampler else 1


def _choose_optimizer(recipe: Recipe, facts: DataFacts, lines: list[str]) -> None:
    training = recipe.training
    family = optimizer_family(training.optimizer)
    if recipe.model.member_lr:
        training.lr = max(recipe.model.member_lr)
    if recipe.model.member_weight_decay:
        training.weight_decay = max(recipe.model.member_weight_decay)
    if training.scale_lr != "none" and training.scale_lr_devices is None:
        training.scale_lr_devices = _sharing_devices(recipe, facts)
    if training.lr is None and len(set(recipe.model.archs)) > 1:
        _choose_member_lr(recipe, facts, family, lines)
    if training.lr is None:
        training.lr, why = _learning_rate(recipe, facts, family)
        lines.append(f"learning rate {training.lr:g}: {why}")
    if training.weight_decay is None:
        training.weight_decay = default_weight_decay(training.optimizer)
        lines.append(f"weight decay {training.weight_decay:g}: usual for {training.optimizer}")


def _choose_member_lr(recipe: Recipe, facts: DataFacts, family: Family, lines: list[str]) -> None:
    """Learning rates of several architectures: what each would have alone."""
    rates = [_learning_rate(own, facts, family)[0] for own in each_alone(recipe)]
    if len(set(rates)) == 1:
        return  # the usual line says which
    recipe.model.member_lr, recipe.training.lr = rates, max(rates)
    named = dict.fromkeys(f"{arch} {rate:g}" for arch, rate in zip(recipe.model.member_archs, rates, strict=True))
    lines.append(f"learning rates {', '.join(named)}: what each would have alone")


# Peak learning rate at a reference batch: (lr, batch).
_BASE_LR: dict[Family, dict[str, tuple[float, int]]] = {
    "sgd": {"from scratch": (0.1, 128), "fine-tuning": (0.1, 64), "a fitted head": (0.004, 64), "tables": (0.05, 64)},
    "adamw": {
        "from scratch": (1e-3, 128),
        "fine-tuning": (4e-3, 32),
        "a fitted head": (1.4e-3, 32),
        "tables": (1e-3, 32),
    },
    "lion": {
        "from scratch": (1e-4, 128),
        "fine-tuning": (4e-4, 32),
        "a fitted head": (1.4e-4, 32),
        "tables": (1e-4, 32),
    },
}
_BASE_LR["adam"] = _BASE_LR["adamw"]
_MOST_LR: dict[Family, float] = {"sgd": 0.4, "adamw": 4e-3, "adam": 4e-3, "lion": 4e-4}


def _learning_rate(recipe: Recipe, facts: DataFacts, family: Family) -> tuple[float, str]:
    """The peak learning rate for the batch size, and why. With `--scale-lr` it is that of one device."""
    model = recipe.model
    if facts.kind == "table":
        what = "tables"
    elif is_tuned(recipe):
        what = "a fitted head" if model.finetune == "lp-ft" else "fine-tuning"
    else:
        what = "from scratch"
    base, reference = _BASE_LR[family][what]
    arch = model.arch or next(iter(model.archs), "")
    if what == "from scratch" and fixed_image_size(arch) is not None:
        base /= 2  # transformers from scratch diverge where convolutions do not (DeiT: 5e-4)
    if is_tuned(recipe) and model.body_lr_scale:  # the body's rate is what the weights bear
        base = min(base, usual_body_lr_scale(recipe) * base / model.body_lr_scale)
    if arch == "convnet" and family != "sgd":
        base *= 3  # small, with batch norm throughout: measured on digits and 2,000 images of CIFAR-10
    is_of_one = recipe.training.scale_lr != "none"
    ratio = (_device_batch(recipe) if is_of_one else _effective_batch(recipe, facts)) / reference
    scale, rule = (ratio, "linearly") if family == "sgd" else (math.sqrt(ratio), "by the square root")
    lr = min(base * scale, _MOST_LR[family])
    where = f", for one device, then as --scale-lr {recipe.training.scale_lr} says" if is_of_one else ""
    why = f"{what} with {recipe.training.optimizer}: {base:g} at batch {reference}, scaled {rule}{where}"
    return _two_digits(lr), why


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


def _clamp(x: int, least: int, most: int) -> int:
    return max(least, min(most, x))


def _two_digits(x: float) -> float:
    """Rounded to two significant digits, so that a chosen number looks chosen."""
    return float(f"{x:.1e}")
