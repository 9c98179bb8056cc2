"""ClassifierSettings: all that a classifier is told, in three parts: its network, its training, and the facts that the
data decide.

The keywords of `Classifier` are these fields; so are a checkpoint's hyperparameters, as plain JSON values. A recipe's
fields of the same names are handed over by name. To add a setting, add a field here, with its range and its other
names beside it. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from litscope.defaults import network_name
from litscope.errors import ConfigError
from litscope.fusions import Rule
from litscope.settings import COUNT, NOT_NEGATIVE, PART, SEED, SHARE, Range, setting, settle

Kind = Literal["cosine", "onecycle", "step", "plateau", "constant"]
Stem = Literal["standard", "small", "medium"]
Tta = Literal["none", "flip", "shift"]
Finetune = Literal["full", "lp-ft", "head"]
Task = Literal["multiclass", "binary"]
Robust = Literal["none", "gce", "elr", "small_loss"]


@dataclass(frozen=True)
class ClassifierSettings:
    """What a classifier is made of and how it trains. Construction turns the values into plain ones and checks them.

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
    """Weights to start from instead: a file, a checkpoint of ours, or a name at timm, torchvision or the Hugging Face
    hub (see `networks.sources`). Their head is kept where it tells the same classes apart, or has the same shape and
    no names are known; else it starts anew."""
    finetune: Finetune = "full"
    """What is trained of a network that starts from weights: all of it; the head first, then all; or the head alone."""
    body_lr_scale: float = setting(1.0, check=Range(least=0, most=1))
    """The rate of everything but the head, as a share of `lr`."""
    layer_decay: float = setting(1.0, check=Range(above=0, most=1))
    """Each layer's share of the rate of the layer after it; see `optim.param_groups`."""
    freeze_norms: bool = False
    """Batch norms keep the running statistics of the weights that the network starts from."""
    task: Task = "multiclass"
    """What the head answers with: a logit for each class, or for two classes one logit z, the log-odds of the second.
    What is recorded, measured and returned then are the two logits (0, z), whose softmax is the sigmoid of z."""
    dropout_rate: float = setting(0.0, check=SHARE)
    """Rate of the dropout before the head."""
    stem: Stem | None = None
    """The stem for small images; None chooses by the image size."""
    channels_last: bool | None = None
    """Memory format of images and weights. Default: where the network takes it."""
    activation_checkpointing: bool = False
    """Compute the inside of each repeated block again in the backward pass; see `recomputed`."""
    compile: bool = setting(False, "compile-model")
    """Compile the network when training starts."""
    hidden: Sequence[int] | None = setting(None, check=COUNT)
    """Widths of the hidden layers of an `mlp`. Default: 256, 256."""
    archs: Sequence[str] | None = setting(None, "architectures")
    """The M architectures of an ensemble of whole networks, instead of `arch` (see `networks.net_members`)."""
    joined: list[dict[str, Any]] | None = None
    """Networks that were trained apart, instead of `arch`: a record of each (see `models.joined`)."""
    ensemble_strategy: Rule = "mean"
    """How the answers of several members become one, see `networks.fusion`. What a rule learns, it learns at the end of
    a run."""
    num_members: int = setting(1, check=COUNT)
    """M above 1 trains M networks at once, each with weights of its own: those of `archs`, else M MLPs (see `members`);
    what is recorded, measured and predicted is their common answer."""
    member_lr: Sequence[float] | None = setting(None, check=Range(above=0))
    """A rate for each of the M members; `lr` is then the largest of them. Default: `lr` for all."""
    member_weight_decay: Sequence[float] | None = setting(None, check=NOT_NEGATIVE)
    """A weight decay for each of the M members; `weight_decay` is then the largest. Default: `weight_decay` for all."""
    member_image_size: Sequence[int] | None = setting(None, check=COUNT)
    """The side at which each of M whole networks sees its images, in pixels. Default: `image_size` for all."""
    member_seed: Sequence[int] | None = setting(None, check=SEED)
    """The seed of the first weights of each member. Default: the seed of the process, and the numbers after it."""
    same_start: bool = False
    """All members start from the same weights, instead of each from its own."""
    tta: Tta = setting("none", "test-time-augmentation")
    """The views of an image that `test_step` and `predict_step` take; see `tta.views`."""

    # ---- its training --------------------------------------------------------------------------
    lr: float = setting(1e-3, "learning-rate", check=NOT_NEGATIVE)
    """The rate at the schedule's peak."""
    optimizer: str = "adamw"
    """See `optim.build_optimizer`, also for the next two."""
    weight_decay: float | None = setting(None, check=NOT_NEGATIVE)
    """Default: what is usual for the optimizer."""
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
    """The focal loss gives less weight to samples that the network is already sure of."""
    focal_gamma: float | None = setting(None, check=NOT_NEGATIVE)
    """How strongly it does so; 0 is cross-entropy. Default: 2."""
    logit_adjustment: float = setting(0.0, check=NOT_NEGATIVE)
    """Tau of the logit-adjusted loss; see `losses.ClassificationLoss`. 0 is off."""
    robust: Robust = "none"
    """What is done about labels that cannot be trusted: a generalised cross-entropy, or early-learning regularisation
    (see `losses`). `small_loss` is the data's to do (`data.small_loss`) and changes no loss here."""
    gce_q: float | None = setting(None, check=PART)
    """q of the generalised cross-entropy: near 0 it is cross-entropy, at 1 the mean absolute error. Default: 0.7."""
    elr_lambda: float | None = setting(None, check=NOT_NEGATIVE)
    """Strength of early-learning regularisation. Default: 3."""
    elr_beta: float | None = setting(None, check=SHARE)
    """Share of the past in its running targets. Default: 0.7."""
    monitor: str | None = None
    """The metric that the plateau schedule watches. Default: val/loss, or train/loss without validation."""
    mode: Literal["min", "max"] | None = None
    """Whether the monitor should fall or rise. Default: follows from its name."""

    # ---- facts, which are taken from the datamodule where they are not given -------------------
    num_classes: int | None = None
    """C, at least 2."""
    in_channels: int | None = None
    """Channels of an image."""
    image_size: int | None = None
    """Side of the square image, in pixels."""
    num_features: int | None = None
    """Features of a row of a table."""
    mean: Sequence[float] | Sequence[Sequence[float]] | None = None
    """One number per channel (of values in [0, 1]) or feature, or M such lists where the members see different samples;
    the network sees (x - mean) / std. Weights default to the normalisation that they were trained with."""
    std: Sequence[float] | Sequence[Sequence[float]] | None = None
    """The deviation, in the same form as `mean`."""
    member_stem: Sequence[str] | None = None
    """The stem of each of M whole networks. Default: chosen by its image size."""

    def __post_init__(self) -> None:
        settle(self)
        if self.archs and self.num_members == 1:
            object.__setattr__(self, "num_members", len(self.archs))
        if self.archs is not None and (len(self.archs) != self.num_members or self.num_members < 2):
            raise ConfigError(
                f"archs={self.archs}: it is one architecture for each member, two or more, and num_members is "
                f"{self.num_members}."
            )
        if self.task == "binary" and self.num_classes not in (None, 2):
            raise ConfigError(f"task='binary': it tells two classes apart, and num_classes is {self.num_classes}.")
        if self.robust == "elr" and self.num_members > 1:
            raise ConfigError(
                f"robust='elr': it keeps what one network says of each sample, and num_members is {self.num_members}."
            )
        for name in ("member_lr", "member_weight_decay", "member_image_size", "member_seed", "member_stem"):
            values = getattr(self, name)
            if values is not None and len(values) != self.num_members:
                raise ConfigError(
                    f"{name}={values}: it is one number for each member, and num_members is {self.num_members}."
                )
        if self.member_image_size is not None and self.archs is None:
            raise ConfigError(
                f"member_image_size={self.member_image_size}: it is for whole networks, named by archs; members of "
                "one network see the same images."
            )

    @property
    def name(self) -> str | None:
        """The network by name, or the several by theirs; None where it is not known yet."""
        if self.joined is not None:
            return network_name(None, [str(record["settings"].get("arch") or "ensemble") for record in self.joined])
        return network_name(self.arch, self.archs)

    @property
    def num_outputs(self) -> int | None:
        """How many numbers the network itself answers with for a sample."""
        return 1 if self.task == "binary" else self.num_classes
