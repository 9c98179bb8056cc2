"""The global batch: what several devices make of a recipe that is written for one. No torch.

A step takes `batch_size` samples on each device, `accumulate_grad_batches` times, so more devices mean larger and fewer
steps. Whether the rate follows is `--scale-lr`'s to say. `recipe.training.lr` is always the rate of one device; what
trains is `rate_factor` times that.
"""

from __future__ import annotations

import math

from litscope.config.recipe import Recipe
from litscope.console import number_of
from litscope.data.sampler import num_steps


def rate_factor(recipe: Recipe) -> float:
    """By what the learning rates of a resolved recipe are multiplied."""
    training = recipe.training
    devices = training.scale_lr_devices or 1
    return {"none": 1.0, "linear": float(devices), "sqrt": math.sqrt(devices)}[training.scale_lr]


def global_batch(recipe: Recipe, world_size: int) -> int:
    """Samples of an optimizer step, over all devices."""
    devices = world_size if recipe.hardware.use_distributed_sampler else 1
    return (recipe.data.batch_size or 1) * recipe.training.accumulate_grad_batches * devices


def steps_per_epoch(recipe: Recipe, num_samples: int, world_size: int) -> int:
    """Optimizer steps of an epoch of so many samples."""
    training, devices = recipe.training, world_size if recipe.hardware.use_distributed_sampler else 1
    batches = num_steps(num_samples, recipe.data.batch_size or 1, devices)
    limit = training.overfit_batches or training.limit_train_batches
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return math.ceil(batches / training.accumulate_grad_batches)


def global_batch_line(recipe: Recipe, num_samples: int, world_size: int) -> str:
    """What several devices change, in a line: the batch, the steps of an epoch, the rate.

    Args:
        recipe: resolved.
        num_samples: of an epoch.
        world_size: how many devices there are.
    """
    training = recipe.training
    if not recipe.hardware.use_distributed_sampler:
        return (
            f"{world_size} devices that each see all samples (--no-use-distributed-sampler): the steps are those of one"
        )
    accumulated = training.accumulate_grad_batches
    parts = (
        f"{recipe.data.batch_size} x {world_size} devices{f' x {accumulated} accumulated' if accumulated > 1 else ''}"
    )
    steps, alone = (steps_per_epoch(recipe, num_samples, count) for count in (world_size, 1))
    of_one = f"{steps:,} of {alone:,} steps an epoch" if steps < alone else f"{number_of(steps, 'step')} an epoch"
    return f"global batch {global_batch(recipe, world_size)} = {parts}; {of_one}; {_rate(recipe)}"


def _rate(recipe: Recipe) -> str:
    training, factor = recipe.training, rate_factor(recipe)
    rate = f"{training.lr:g}"
    if training.scale_lr != "none":
        return f"lr {rate} x {factor:.4g} = {(training.lr or 0) * factor:.4g} (--scale-lr {training.scale_lr})"
    if "training.lr" in recipe.chosen:
        return f"lr {rate}, chosen for this batch"
    return f"lr {rate}, as on one device (--scale-lr linear or sqrt)"
