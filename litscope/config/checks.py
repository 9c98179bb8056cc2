"""The checks of a recipe: each value's range, and the combinations that cannot work.

`Recipe.check` runs them before anything else; `check_kind`, once the data are open, those that need
to know whether they are images or a table. Whether this machine can do it is `hardware.py`'s question.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from litscope.config.fields import by_key
from litscope.config.recipe import DataConfig, Recipe, max_time_s
from litscope.errors import ConfigError, did_you_mean

METRICS = {
    "loss": "min",
    "accuracy": "max",
    "precision": "max",
    "recall": "max",
    "f1": "max",
    "auroc": "max",
    "ap": "max",
}
"""What a monitor may name after `train/` or `val/` -> its mode."""

MOST = math.inf

LEAST_CANARY_EPOCHS = 5
"""With fewer epochs nothing lies between planting canaries and taking them out."""


LEAST_PRUNED_EPOCHS = 3
"""With fewer epochs none is pruned: the first and the last visit all samples."""


def check(recipe: Recipe) -> None:
    """All checks that need only the recipe.

    Raises:
        ConfigError: for the first one that fails.
    """
    _check_choices(recipe)
    _check_ranges(recipe)
    _check_schedule(recipe)
    _check_monitor(recipe)
    _check_hardware(recipe)
    _check_files(recipe)
    _check_logging(recipe)


def check_kind(recipe: Recipe, kind: Literal["image", "table"]) -> None:
    """Refuse what only images have, when the data are a table.

    Raises:
        ConfigError: naming the flag.
    """
    if kind == "image":
        return
    if recipe.model.arch is not None and recipe.model.arch.lower() != "mlp":
        raise _wrong("model.arch", recipe.model.arch, "the data are a table, and only mlp takes tables", "Use mlp.")
    for key, off in (
        ("training.mixup", 0),
        ("training.cutmix", 0),
        ("data.image_size", None),
        ("model.in_channels", None),
        ("data.cache", None),
        ("hardware.channels_last", None),
        ("data.tta", "none"),
        ("data.crop_padding", None),
    ):
        value = _get(recipe, key)
        if value != off and value is not False:
            raise _wrong(key, value, "the data are a table, and this is for images", "Leave it out.")
    if recipe.data.augment in ("strong", "autoaugment"):
        raise _wrong(
            "data.augment", recipe.data.augment, "the data are a table, and this is for images", "Leave it out."
        )


def _check_choices(recipe: Recipe) -> None:
    """Fixed sets of words, for recipes made in Python."""
    for key, field in by_key().items():
        value = _get(recipe, key)
        for word in value if isinstance(value, list) else [value]:
            if field.choices and word is not None and word not in field.choices:
                raise _wrong(key, word, f"it is {field.expected}", did_you_mean(str(word), field.choices).strip())


def _check_ranges(recipe: Recipe) -> None:
    for key, least, most in (
        ("model.num_classes", 2, MOST),
        ("model.in_channels", 1, MOST),
        ("model.num_members", 1, MOST),
        ("data.num_folds", 2, MOST),
        ("data.fold", 0, MOST),
        ("data.batch_size", 1, MOST),
        ("data.num_workers", 0, MOST),
        ("data.image_size", 1, MOST),
        ("data.crop_padding", 0, MOST),
        ("training.epochs", 1, MOST),
        ("training.max_steps", 1, MOST),
        ("training.weight_decay", 0, MOST),
        ("training.warmup_epochs", 0, MOST),
        ("training.mixup", 0, MOST),
        ("training.cutmix", 0, MOST),
        ("training.accumulate_grad_batches", 1, MOST),
        ("training.steps_per_call", 1, MOST),
        ("training.patience", 1, MOST),
        ("training.min_delta", 0, MOST),
        ("training.save_top_k", -1, MOST),
        ("training.seed", 0, 2**32 - 1),
        ("data.split_seed", 0, 2**32 - 1),
        ("hardware.num_nodes", 1, MOST),
        ("hardware.num_threads", 1, MOST),
        ("logging.log_every_n_steps", 1, MOST),
    ):
        value = _get(recipe, key)
        if value not in (None, "auto") and not (least <= value <= most and math.isfinite(value)):
            raise _wrong(key, value, f"it is {least} or more" if most == MOST else f"it is from {least} to {most}")
    for key in ("model.dropout_rate", "data.val_split", "data.test_split", "training.momentum",
                "training.label_smoothing", "training.ema_decay"):  # fmt: skip
        if not 0 <= _get(recipe, key) < 1:
            raise _wrong(key, _get(recipe, key), "it is at least 0 and less than 1")
    for key in ("training.lr", "training.gradient_clip_val"):
        value = _get(recipe, key)
        if value is not None and not 0 < value < MOST:
            raise _wrong(key, value, "it is more than 0")
    for key in ("training.limit_train_batches", "training.limit_val_batches", "training.limit_test_batches",
                "training.overfit_batches"):  # fmt: skip
        _check_limit(recipe, key)
    _check_members(recipe)
    _check_canaries(recipe)
    _check_pruning(recipe)
    _check_folds(recipe)
    data = recipe.data
    if data.crop_padding is not None and data.augment == "none":
        raise _wrong("data.crop_padding", data.crop_padding, "--augment none crops nothing at random", "Leave one out.")
    if data.val_split + data.test_split >= 1:
        raise _wrong(
            "data.val_split", data.val_split, f"with --test-split {data.test_split} nothing is left to train on"
        )


def _check_folds(recipe: Recipe) -> None:
    data, members = recipe.data, recipe.model.num_members
    if data.num_folds is None:
        if data.fold is not None:
            raise _wrong("data.fold", data.fold, "it is one of --num-folds, which is not given", "Give --num-folds 5.")
        return
    if data.val_split != DataConfig.val_split:
        raise _wrong("data.val_split", data.val_split, "with --num-folds a fold validates", "Leave one out.")
    if data.fold is not None and data.fold >= data.num_folds:
        raise _wrong("data.fold", data.fold, f"with --num-folds {data.num_folds} it is from 0 to {data.num_folds - 1}")
    if data.fold is None and members != data.num_folds:
        allowed = "without --fold each of as many --num-members leaves one out"
        raise _wrong("data.num_folds", data.num_folds, allowed, "Give --fold, or see `litscope cv`.")
    if data.fold is None and recipe.training.mixup:
        allowed = "--mixup would blend a sample into others that its member trains on"
        raise _wrong("data.num_folds", data.num_folds, allowed, "Give --fold, or leave --mixup out.")


def _check_member_settings(recipe: Recipe) -> None:
    model, training = recipe.model, recipe.training
    for key, base, least in (
        ("model.member_lr", "training.lr", "more than 0"),
        ("model.member_weight_decay", "training.weight_decay", "0 or more"),
    ):
        values = _get(recipe, key)
        if not values:
            continue
        if len(values) != model.num_members:
            raise _wrong(key, _shown(values), f"these are {len(values)} numbers for --num-members {model.num_members}")
        for value in values:
            if not (math.isfinite(value) and (value > 0 or (value == 0 and least == "0 or more"))):
                raise _wrong(key, _shown(values), f"each is {least}")
        if _get(recipe, base) not in (None, max(values)):
            flag = by_key()[base].flag
            raise _wrong(key, _shown(values), f"{flag} {_get(recipe, base):g} is not the largest", f"Leave {flag} out.")
    if model.member_weight_decay and training.optimizer.lower() != "adamw":
        allowed = f"with --optimizer {training.optimizer} the decay is a part of the gradient; it is for adamw"
        raise _wrong("model.member_weight_decay", _shown(model.member_weight_decay), allowed)


def _shown(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _check_members(recipe: Recipe) -> None:
    count = recipe.model.num_members
    _check_member_settings(recipe)
    if count == 1:
        return
    if recipe.model.arch not in (None, "mlp"):
        raise _wrong("model.num_members", count, f"it is for --arch mlp, not {recipe.model.arch}", "Leave one out.")
    if recipe.model.weights is not None:
        raise _wrong("model.num_members", count, "each member starts from weights of its own", "Leave --weights out.")
    from litscope.models.optim import FROM_TORCH  # torch with it, which nothing else here needs

    if recipe.training.optimizer.lower() not in FROM_TORCH:
        allowed = f"each member must be changed as it would be alone, which {', '.join(FROM_TORCH)} do"
        raise _wrong("model.num_members", count, allowed, f"Leave --optimizer {recipe.training.optimizer} out.")
    if recipe.training.gradient_clip_val is not None:
        allowed = "--gradient-clip-val clips one norm over all of them, so a member would depend on the others"
        raise _wrong("model.num_members", count, allowed, "Leave one out.")


def _check_canaries(recipe: Recipe) -> None:
    share, epochs = recipe.training.canaries, recipe.training.epochs
    if not 0 <= share < 0.5:
        raise _wrong("training.canaries", share, "it is at least 0 and less than 0.5", "0.02 is usual.")
    if share and not recipe.logging.ledger:
        raise _wrong("training.canaries", share, "without the ledger there is no ranking to measure")
    if share and epochs is not None and epochs < LEAST_CANARY_EPOCHS:
        raise _wrong("training.canaries", share, f"it needs at least {LEAST_CANARY_EPOCHS} epochs, not {epochs}")


def _check_pruning(recipe: Recipe) -> None:
    training = recipe.training
    if training.prune_ratio is not None and not 0 < training.prune_ratio < 1:
        raise _wrong("training.prune_ratio", training.prune_ratio, "it is more than 0 and less than 1")
    if training.prune == "none":
        if training.prune_ratio is not None:
            raise _wrong("training.prune_ratio", training.prune_ratio, "nothing is pruned", "Give --prune infobatch.")
        return
    for key in ("training.mixup", "training.cutmix"):
        if _get(recipe, key):
            allowed = f"with {by_key()[key].flag} images are blended, and no sample has a loss of its own"
            raise _wrong("training.prune", training.prune, allowed, "Give one of the two.")
    if training.overfit_batches:
        raise _wrong("training.prune", training.prune, "--overfit-batches trains on the same few samples in each epoch")
    if training.epochs is None and training.max_steps is not None:
        allowed = "the last eighth of the epochs visits all samples, so their number must be known"
        raise _wrong("training.prune", training.prune, allowed, "Give --epochs beside --max-steps.")
    if training.epochs is not None and training.epochs < LEAST_PRUNED_EPOCHS:
        allowed = f"the first and the last epoch visit all samples, so it needs {LEAST_PRUNED_EPOCHS} epochs or more"
        raise _wrong("training.prune", training.prune, f"{allowed}, not {training.epochs}")


def _check_limit(recipe: Recipe, key: str) -> None:
    """A count of batches, or a share. Only validation and test may be off (0)."""
    value = _get(recipe, key)
    if value is None:
        return
    may_be_off = key in ("training.limit_val_batches", "training.limit_test_batches")
    if isinstance(value, float) and not (0 <= value <= 1):
        raise _wrong(key, value, "a decimal is a share, at most 1.0; a number of batches is whole (10)")
    if value < 0 or (value == 0 and not may_be_off):
        raise _wrong(key, value, "it is a share (0.5) or a number of batches (10)")


def _check_schedule(recipe: Recipe) -> None:
    training = recipe.training
    if training.max_time is not None:
        max_time_s(training.max_time)
    warmup, epochs = training.warmup_epochs, training.epochs
    if warmup is not None and epochs is not None and warmup >= epochs:
        raise _wrong("training.warmup_epochs", warmup, f"it is less than --epochs {epochs}")


def _check_monitor(recipe: Recipe) -> None:
    """A monitor that will exist, and a mode that fits it. The test set never decides anything."""
    monitor, mode = recipe.training.monitor, recipe.training.mode
    if monitor is None:
        return
    known = [f"{split}/{metric}" for split in ("val", "train") for metric in METRICS]
    if monitor.startswith("test/"):
        raise _wrong("training.monitor", monitor, "the test set decides nothing during training", "Use val/...")
    if monitor not in known:
        close = did_you_mean(re.sub(r"^(val|train)_", r"\1/", monitor), known).strip()
        raise _wrong("training.monitor", monitor, f"it is one of {', '.join(known)}", close)
    best = METRICS[monitor.split("/")[1]]
    if mode not in (None, best):
        raise _wrong("training.mode", mode, f"{monitor} is best at its {best}imum", "Leave --mode out.")


def _check_hardware(recipe: Recipe) -> None:
    """Words and syntax only; `hardware.plan` asks the machine."""
    from litscope.training.hardware import ACCELERATORS, STRATEGIES

    hardware = recipe.hardware
    _check_word("hardware.accelerator", hardware.accelerator, ACCELERATORS)
    _check_word("hardware.strategy", hardware.strategy, STRATEGIES)
    if not re.fullmatch(r"auto|-1|[1-9]\d*|\d+(,\d+)*,?", hardware.devices) or hardware.devices == "0":
        allowed = "it is a number of devices (2), their numbers (0,3; only the first: 0,), or auto"
        raise _wrong("hardware.devices", hardware.devices, allowed)


def _check_files(recipe: Recipe) -> None:
    weights, class_weights = recipe.model.weights, recipe.training.class_weights
    if weights is not None and recipe.training.resume is None and not Path(weights).is_file():
        raise _wrong("model.weights", weights, "there is no such file")
    if weights is not None and recipe.model.pretrained:
        raise _wrong("model.weights", weights, "--pretrained asks for other weights", "Give one of the two.")
    if class_weights not in ("none", "balanced") and not Path(class_weights).is_file():
        close = did_you_mean(class_weights, ["none", "balanced"]).strip()
        raise _wrong("training.class_weights", class_weights, "neither none, nor balanced, nor an existing file", close)
    for key in ("data.cache_dir", "training.checkpoint_dir", "logging.log_dir", "logging.run_dir"):
        folder = _get(recipe, key)
        if folder is not None and not can_be_folder(folder):
            raise _wrong(key, repr(folder), "it is a folder, or the name of one that can be made; a file is in the way")


def can_be_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder, or has no file in its way to become one."""
    if not os.fspath(path):
        return False
    return next(place for place in (Path(path), *Path(path).absolute().parents) if place.exists()).is_dir()


def _check_logging(recipe: Recipe) -> None:
    logging = recipe.logging
    if "none" in logging.logger and len(set(logging.logger)) > 1:
        raise _wrong("logging.logger", ",".join(logging.logger), "none stands alone")
    if logging.wandb_log_model and logging.wandb_mode == "offline":
        raise _wrong(
            "logging.wandb_log_model", "true", "an offline run uploads nothing", "Leave out --wandb-mode offline."
        )
    if (logging.name is not None and not re.fullmatch(r"[^/\\\0]+", logging.name)) or logging.name in (".", ".."):
        raise _wrong(
            "logging.name", logging.name, "it is the name of a folder below runs/", "For a path use --run-dir."
        )


def _check_word(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise _wrong(key, value, f"it is one of {', '.join(allowed)}", did_you_mean(value, allowed).strip())


def _get(recipe: Recipe, key: str) -> Any:
    group, name = key.split(".")
    return getattr(getattr(recipe, group), name)


def _wrong(key: str, value: Any, allowed: str, next_step: str = "") -> ConfigError:
    return ConfigError(f"{by_key()[key].flag} {value}: {allowed}.{' ' + next_step if next_step else ''}")
