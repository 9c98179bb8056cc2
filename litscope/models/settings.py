"""ClassifierSettings: all that a classifier is told, in three parts: its network, its training, and the facts that the
data decide.

The keywords of `Classifier` are these fields; so are a checkpoint's hyperparameters, as plain JSON values. A recipe's
fields of the same names are handed over by name. A further setting is one more field here, with its range and its
further names beside it. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from litscope.errors import ConfigError
from litscope.settings import COUNT, NOT_NEGATIVE, SHARE, Range, setting, settle

Kind = Literal["cosine", "onecycle", "step", "plateau", "constant"]
Stem = Literal["standard", "small", "medium"]
Tta = Literal["none", "flip", "shift"]


@dataclass(frozen=True)
class ClassifierSettings:
    """What a classifier is made of and how it trains. Values are made plain and checked when it is made.

    Raises:
        ConfigError: for a value out of range.
    """

    arch: str | None = setting(None, "model")
    """Any timm or torchvision classifier, `convnet`, `whitenet` or `mlp`. Default: resnet18, for tables mlp."""

    _: KW_ONLY

    # ---- the network ---------------------------------------------------------------------------
    pretrained: bool | None = False
    """True for the hub's weights or an error, None for the hub's weights where they can be had."""
    weights: str | os.PathLike[str] | None = None
    """A local weights file to start from; the head is left out where its shape differs."""
    dropout_rate: float = setting(0.0, check=SHARE)
    """Before the head."""
    stem: Stem | None = None
    """The stem for small images; None chooses by the image size."""
    channels_last: bool | None = None
    """Memory format of images and weights. Default: where the network takes it."""
    compile: bool = setting(False, "compile-model")
    """Compile the network when training starts."""
    hidden: Sequence[int] | None = setting(None, check=COUNT)
    """Widths of the hidden layers of an `mlp`. Default: 256, 256."""
    num_members: int = setting(1, check=COUNT)
    """M above 1 trains M MLPs at once, each with weights of its own; what is recorded, measured and predicted is their
    mean probability (see `members`)."""
    member_lr: Sequence[float] | None = setting(None, check=Range(above=0))
    """M rates, of members that differ in them; `lr` is then the largest."""
    member_weight_decay: Sequence[float] | None = setting(None, check=NOT_NEGATIVE)
    """M weight decays, of members that differ in them; `weight_decay` is then the largest."""
    same_start: bool = False
    """Members start from the same weights, not each from its own."""
    tta: Tta = setting("none", "test-time-augmentation")
    """The views of an image that `test_step` and `predict_step` take; see `tta.views`."""

    # ---- its training --------------------------------------------------------------------------
    lr: float = setting(1e-3, "learning-rate", check=NOT_NEGATIVE)
    """The rate at the schedule's peak."""
    optimizer: str = "adamw"
    """See `optim.build_optimizer`, also for the next two."""
    weight_decay: float | None = setting(None, check=NOT_NEGATIVE)
    """Default: the optimizer's."""
    momentum: float = setting(0.9, check=SHARE)
    """Momentum of sgd and rmsprop; the first beta of the Adam family."""
    scheduler_type: Kind = setting("cosine", "scheduler")
    """See `schedule.factor`."""
    warmup_epochs: float | None = setting(None, check=NOT_NEGATIVE)
    """Default: a twentieth of the run, at most five epochs."""
    label_smoothing: float = setting(0.0, check=SHARE)
    """See `losses.ClassificationLoss`, also for the next two."""
    class_weights: Sequence[float] | None = setting(None, check=NOT_NEGATIVE)
    """One number per class."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """What is minimised."""
    monitor: str | None = None
    """The metric that the plateau schedule watches. Default: val/loss, or train/loss without validation."""
    mode: Literal["min", "max"] | None = None
    """Whether the monitor should fall or rise. Default: follows from its name."""

    # ---- facts, which are taken from the datamodule where they are not given -------------------
    num_classes: int | None = None
    """C."""
    in_channels: int | None = None
    """Channels of an image."""
    image_size: int | None = None
    """Side of the square image, in pixels."""
    num_features: int | None = None
    """Features of a row of a table."""
    mean: Sequence[float] | Sequence[Sequence[float]] | None = None
    """One number per channel (of values in [0, 1]) or feature, or M lists of these, of members that see other samples;
    the network sees (x - mean) / std. Pretrained weights default to the normalisation that they were trained with."""
    std: Sequence[float] | Sequence[Sequence[float]] | None = None
    """As `mean`."""

    def __post_init__(self) -> None:
        settle(self)
        for name in ("member_lr", "member_weight_decay"):
            values = getattr(self, name)
            if values is not None and len(values) != self.num_members:
                raise ConfigError(
                    f"{name}={values}: these are {len(values)} numbers for num_members={self.num_members}."
                )
