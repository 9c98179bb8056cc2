"""Which settings litscope chose itself, what each choice rests on, and when it is made anew.

`recipe.yaml` of a run holds every value, whether a person gave it or `training/choosing/choices.py` chose it, and
`chosen:` says which were chosen. Such a value repeats the run, as long as what it rests on stays; where one of these
settings is given another value (`--config RUN/recipe.yaml --optimizer sgd`, `--resume RUN --epochs 4`), it is chosen
anew. What a person gave never is.
"""

from __future__ import annotations

from collections.abc import Collection

_DATA = (
    "data.dataset",
    "data.train_urls",
    "data.val_urls",
    "data.test_urls",
    "data.data_dir",
    "data.target",
    "data.val_split",
    "data.test_split",
    "data.num_folds",
    "data.fold",
    "data.fold_tests",
)
_START = ("model.arch", "model.archs", "model.pretrained", "model.weights")
_KIND = ("model.model_type", "model.num_members")
_DEVICES = ("hardware.accelerator", "hardware.devices", "hardware.num_nodes")
_BATCH = ("data.batch_size", "training.accumulate_grad_batches")
_SPEED = (*_DEVICES, "model.arch", "data.image_size", "data.batch_size")

RESTS_ON: dict[str, tuple[str, ...]] = {
    "model.arch": (*_DATA, "model.hidden", "model.num_members", "model.pretrained", "model.weights"),
    "model.model_type": (*_DATA, *_START, "model.num_members", "model.finetune"),
    "model.archs": (*_DATA, *_KIND, "model.arch", "model.weights", "model.finetune"),
    "model.num_members": (*_DATA, *_DEVICES, "model.model_type", "model.archs"),
    "model.member_image_size": (*_DATA, *_START, *_KIND, "data.image_size"),
    "model.member_lr": (*_START, *_KIND, *_BATCH, "training.lr", "training.optimizer"),
    "model.dropout_rate": ("model.ensemble_strategy",),
    "model.num_classes": _DATA,
    "model.in_channels": _DATA,
    "model.pretrained": (*_DATA, "model.arch", "model.weights"),
    "model.finetune": (*_DATA, *_START, *_KIND, *_DEVICES, "data.image_size"),
    "model.body_lr_scale": (*_START, "model.finetune", "training.lr"),
    "model.layer_decay": (*_START, "model.finetune", "training.lr"),
    "model.freeze_norms": (*_START, *_BATCH, "model.finetune"),
    "data.image_size": (*_DATA, *_START, "model.member_image_size"),
    "data.crop_pct": (*_DATA, *_START),
    "data.interpolation": (*_DATA, *_START),
    "data.batch_size": (*_DATA, "data.image_size"),
    "data.num_workers": _DATA,
    "data.pin_memory": _DEVICES,
    "training.epochs": (
        *_DATA,
        *_BATCH,
        "model.pretrained",
        "model.weights",
        "model.finetune",
        "data.image_size",
        "training.max_steps",
        "training.limit_train_batches",
        "training.overfit_batches",
    ),
    "training.warmup_epochs": ("training.epochs",),
    "training.lr": (
        *_DATA,
        *_START,
        *_BATCH,
        *_DEVICES,
        "hardware.use_distributed_sampler",
        "model.finetune",
        "model.body_lr_scale",
        "model.member_lr",
        "training.optimizer",
        "training.scale_lr",
    ),
    "training.scale_lr_devices": (*_DEVICES, "hardware.use_distributed_sampler", "training.scale_lr"),
    "training.weight_decay": ("training.optimizer", "model.member_weight_decay"),
    "training.monitor": (*_DATA, "training.limit_val_batches", "training.overfit_batches"),
    "training.mode": ("training.monitor",),
    "training.patience": ("training.early_stopping",),
    "hardware.precision": _SPEED,
    "hardware.channels_last": _SPEED,
    "hardware.num_threads": _SPEED,
}
"""Setting that may be chosen -> the settings by which it is chosen."""

IN_A_RUN: dict[str, tuple[str, ...]] = {
    "model.arch": (),
    "model.model_type": ("model.archs",),
    "model.archs": ("model.arch", *_KIND),
    "model.num_members": ("model.model_type", "model.archs"),
    "model.member_image_size": ("model.archs", *_KIND),
    "model.pretrained": (),
    "model.finetune": (),
    "model.freeze_norms": (),
    "data.image_size": (),
    "data.crop_pct": (),
    "data.interpolation": (),
    "training.epochs": ("training.max_steps",),
    "training.scale_lr_devices": ("training.scale_lr",),
    "hardware.precision": _DEVICES,
    "hardware.channels_last": _DEVICES,
    "hardware.num_threads": _DEVICES,
}
"""The same for a run that goes on, where it is less: its network is there, and how long it trains is known."""


def outdated(chosen: Collection[str], changed: Collection[str], goes_on: bool = False) -> set[str]:
    """The choices that no longer hold, and those that rest on them.

    Args:
        chosen: keys (`training.lr`) of the values that were chosen.
        changed: keys of the settings that have another value than when they were chosen.
        goes_on: the choices are those of a run that goes on from a checkpoint.
    """
    rests_on = {**RESTS_ON, **IN_A_RUN} if goes_on else RESTS_ON
    moved, left = set(changed), set(chosen) - set(changed)
    while new := {key for key in left if moved.intersection(rests_on.get(key, ()))}:
        moved |= new
        left -= new
    return moved - set(changed)
