"""What a recipe asks that its checkpoint, its data or what was brought along do not allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as L
import numpy as np
from torchmetrics import Metric

from litscope.config.recipe import Recipe
from litscope.config.resume import asked_for, run_settings
from litscope.console import number_of, shell_word
from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import Manifest
from litscope.data.transforms import SMALL
from litscope.defaults import is_defined
from litscope.errors import ConfigError, DataError, RunError
from litscope.lightning_internals import epochs_in
from litscope.models.checkpoint_file import load_checkpoint
from litscope.rundir import RunDir
from litscope.training import build
from litscope.training.calibrating import check_calibration
from litscope.training.fusing import check_fusion
from litscope.training.hardware import Plan


def check_callbacks(callbacks: Sequence[L.Callback]) -> None:
    """Refuse callbacks that Lightning would ignore.

    Raises:
        ConfigError: saying which.
    """
    for callback in callbacks:
        if not isinstance(callback, L.Callback):
            raise ConfigError(
                f"callbacks: {type(callback).__name__} is not a lightning.pytorch.Callback. (The package "
                "pytorch_lightning has classes of its own that do not fit: import from lightning.pytorch.)"
            )


def check_metrics(recipe: Recipe, metrics: Mapping[str, Metric]) -> tuple[Recipe, list[str]]:
    """Refuse a monitor that nobody brought. Other metrics that a recipe names and nobody brought are left out.

    Returns:
        The recipe without those; a line that says so.

    Raises:
        ConfigError: saying how they are brought.
    """
    missing = [name for name in recipe.metrics if name not in metrics]
    if not missing:
        return recipe, []
    again = f"litscope.fit(..., metrics={{{', '.join(f'{name!r}: ...' for name in missing)}}})"
    monitor = recipe.training.monitor or ""
    if monitor.rpartition("/")[2] in missing:
        raise ConfigError(
            f"--monitor {monitor}: it was brought by a call in Python, and a recipe holds its name alone. Bring it "
            f"again, {again}, or give another --monitor."
        )
    kept = {name: best for name, best in recipe.metrics.items() if name in metrics}
    line = f"no longer measured: {', '.join(missing)}, which a call in Python brought; to measure it, {again}"
    return replace(recipe, metrics=kept), [line]


def check_length(recipe: Recipe, checkpoint: Path) -> int:
    """Refuse a checkpoint beyond the last epoch. Lightning would do so too late, when the run's recipe is rewritten.

    Returns:
        The epochs that are done.

    Raises:
        ConfigError: with the epochs or the steps that are done.
        RunError: as `load_checkpoint`.
    """
    training, state = recipe.training, load_checkpoint(checkpoint, mmap=True)
    done, steps = epochs_in(state), int(state.get("global_step", 0))
    if training.epochs is not None and training.epochs < done:
        raise ConfigError(
            f"--epochs {training.epochs}: {checkpoint} has {number_of(done, 'epoch')} behind it, and they count. "
            f"Give at least as many, or start a new run from its weights: --weights {shell_word(checkpoint)}."
        )
    if training.max_steps is not None and training.max_steps < steps:
        raise ConfigError(
            f"--max-steps {training.max_steps}: {checkpoint} has {number_of(steps, 'step')} behind it, and they count. "
            f"Give at least as many, or start a new run from its weights: --weights {shell_word(checkpoint)}."
        )
    return done


def check_classes(recipe: Recipe, classes: Sequence[str]) -> None:
    """Refuse to go on with a run whose network tells other classes apart than the data have.

    Args:
        classes: of the data.

    Raises:
        RunError: naming the classes of the run, and those that came or went.
    """
    if recipe.training.resume is None:
        return
    _, folder = asked_for(recipe.training.resume, recipe.logging.run_dir, recipe.logging.name)
    if folder is None or not RunDir(folder).manifest.exists():
        return
    then = Manifest.read(RunDir(folder).manifest).classes
    if set(then) == set(classes) and list(then) != list(classes):
        raise RunError(
            f"The run {folder} was trained on {_listed(then)}, in this order; now it is {_listed(classes)}. A run goes "
            "on with the order that it began with: leave --positive-class out."
        )
    came, went = ([name for name in one if name not in other] for one, other in ((classes, then), (then, classes)))
    if not came and not went:
        return
    changes = [f"now also hold {_listed(came)}"] if came else []
    changes += [f"{'and ' if came else ''}no longer hold {_listed(went)}"] if went else []
    raise RunError(
        f"The run {folder} was trained on {_listed(then)}; the data {' '.join(changes)}. A run goes on with the "
        f"classes that it began with. Give those data, or start a new run with "
        f"its recipe: --config {shell_word(RunDir(folder).recipe)}."
    )


def check_start(recipe: Recipe) -> None:
    """Refuse weights to start from, where a checkpoint brings its own.

    Raises:
        ConfigError: naming the flag.
    """
    resume, model = recipe.training.resume, recipe.model
    if resume is None or not (model.weights or model.pretrained):
        return
    _, folder = asked_for(resume, recipe.logging.run_dir, recipe.logging.name)
    began = {} if folder is None else run_settings(folder).sections
    weights, pretrained = (began[key].value if key in began else None for key in ("model.weights", "model.pretrained"))
    if model.weights and (weights is None or Path(model.weights).resolve() != Path(weights).resolve()):
        flag = f"--weights {model.weights}"
    elif model.pretrained and folder is not None and not pretrained:
        flag = "--pretrained"
    else:
        return
    raise ConfigError(f"{flag}: --resume {resume} takes the weights of its checkpoint. Give one of the two.")


def _listed(names: Sequence[str], most: int = 5) -> str:
    """`cat, dog`, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_against_data(recipe: Recipe, plan: Plan, data: ClassificationData) -> None:
    """Refuse a recipe that asks for what these data do not have.

    Args:
        recipe: resolved.
        data: opened.

    Raises:
        ConfigError: naming the flag.
        DataError: if there are fewer training samples than devices, of which each takes a part.
    """
    _check_count("--num-classes", recipe.model.num_classes, data.num_classes, "classes")
    if recipe.model.task == "binary" and data.num_classes != 2:
        raise ConfigError(
            f"--task binary: it tells two classes apart, and the data have {data.num_classes}. Leave it out."
        )
    if data.kind == "image":
        _check_count("--in-channels", recipe.model.in_channels, data.in_channels, "channels")
        _check_views(recipe, data)
    check_calibration(recipe, data)
    check_fusion(recipe, data)
    if recipe.model.finetune == "head" and recipe.training.cutmix:
        raise ConfigError("--cutmix cuts patches out of images, and --finetune head trains on features: use --mixup.")
    _check_monitor(recipe, data)
    build.class_weights(recipe.training.class_weights, data)
    if recipe.hardware.use_distributed_sampler and len(data.train_ids) < plan.world_size:
        raise DataError(f"{len(data.train_ids)} training samples cannot be shared by {plan.world_size} devices.")


def _check_count(flag: str, given: int | None, found: int, what: str) -> None:
    if given is not None and given != found:
        raise ConfigError(f"{flag} {given}: the data have {found} {what}. Leave {flag} out to take what they have.")


def _check_views(recipe: Recipe, data: ClassificationData) -> None:
    """Refuse what the recipe does with images that these images do not allow."""
    tta, padding = recipe.data.tta, recipe.data.crop_padding
    if tta != "none" and not data.flips:
        raise ConfigError(f"--tta {tta}: it mirrors images, and these are of characters. Leave it out.")
    if padding is None:
        return
    side = data.manifest.encoding["stored_size"]
    if side > SMALL:
        raise ConfigError(
            f"--crop-padding {padding}: the images are {side} pixels wide, and those of more than {SMALL} are cropped "
            "without padding. Leave it out."
        )
    if padding >= side:
        raise ConfigError(f"--crop-padding {padding}: the images are {side} pixels wide; give at most {side - 1}.")


def _check_monitor(recipe: Recipe, data: ClassificationData) -> None:
    """Refuse a validation metric as monitor if there is no validation, and a metric that is undefined there."""
    training, monitor = recipe.training, recipe.training.monitor
    if monitor is None:
        return
    is_val = monitor.startswith("val/")
    has_val = bool(len(data.val_ids) or training.overfit_batches) and training.limit_val_batches != 0
    if is_val and not has_val:
        raise ConfigError(
            f"--monitor {monitor}: there is no validation. Use train/loss, or give validation samples "
            "(a --val-split above 0, a --limit-val-batches other than 0)."
        )
    ids = data.val_ids if is_val and not training.overfit_batches else data.train_ids
    counts = np.bincount(data.manifest.labels[ids], minlength=data.num_classes)
    metric = monitor.rpartition("/")[2]
    if is_defined(metric, counts.tolist()):
        return
    absent = [name for name, count in zip(data.classes, counts, strict=True) if not count]
    phase = "validation" if is_val else "training"
    raise ConfigError(
        f"--monitor {monitor}: the {phase} samples hold none of {_listed(absent)}, so {metric} is undefined in every "
        f"epoch. Use {monitor.replace(metric, 'loss')}, or give a split with samples of each class (--val-split, "
        "--split-seed)."
    )
