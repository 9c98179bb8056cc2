"""ClassifierKeywords: the keywords of `litscope.Classifier`, for type checkers.

Written by `scripts/keywords.py` from the tables of settings; to change it, change those.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, TypedDict


class ClassifierKeywords(TypedDict, total=False):
    """The fields of `ClassifierSettings` but `arch`, and their further names."""

    model: str | None
    """The same as `arch`."""
    pretrained: bool | None
    """True for the hub's weights or an error, None for the hub's weights where they can be had."""
    weights: str | os.PathLike[str] | None
    """Weights to start from instead: a file, a checkpoint of ours, or a name at timm, torchvision or the Hugging
    Face hub (see `networks.sources`). Their head is kept where it tells the same classes apart, or has the same
    shape and no names are known; else it starts anew.
    """
    finetune: Literal["full", "lp-ft", "head"]
    """What is trained of a network that starts from weights: all of it; the head first, then all; or the head alone."""
    body_lr_scale: float
    """The rate of everything but the head, as a share of `lr`."""
    layer_decay: float
    """Each layer's share of the rate of the layer after it; see `optim.param_groups`."""
    freeze_norms: bool
    """Batch norms keep the running statistics of the weights that the network starts from."""
    task: Literal["multiclass", "binary"]
    """What the head answers with: a logit for each class, or for two classes one logit z, the log-odds of the
    second. What is recorded, measured and returned then are the two logits (0, z), whose softmax is the sigmoid of
    z.
    """
    dropout_rate: float
    """Rate of the dropout before the head."""
    stem: Literal["standard", "small", "medium"] | None
    """The stem for small images; None chooses by the image size."""
    channels_last: bool | None
    """Memory format of images and weights. Default: where the network takes it."""
    activation_checkpointing: bool
    """Compute the inside of each repeated block again in the backward pass; see `recomputed`."""
    compile: bool
    """Compile the network when training starts."""
    compile_model: bool
    """The same as `compile`."""
    hidden: Sequence[int] | None
    """Widths of the hidden layers of an `mlp`. Default: 256, 256."""
    archs: Sequence[str] | None
    """The M architectures of an ensemble of whole networks, instead of `arch` (see `networks.net_members`)."""
    architectures: Sequence[str] | None
    """The same as `archs`."""
    joined: list[dict[str, Any]] | None
    """Networks that were trained apart, instead of `arch`: a record of each (see `models.joined`)."""
    ensemble_strategy: Literal["mean", "median", "vote", "weighted", "uncertainty_weighted", "stacked"]
    """How the answers of several members become one, see `networks.fusion`. What a rule learns, it learns at the end
    of a run.
    """
    num_members: int
    """M above 1 trains M networks at once, each with weights of its own: those of `archs`, else M MLPs (see
    `members`); what is recorded, measured and predicted is their common answer.
    """
    member_lr: Sequence[float] | None
    """A rate for each of the M members; `lr` is then the largest of them. Default: `lr` for all."""
    member_weight_decay: Sequence[float] | None
    """A weight decay for each of the M members; `weight_decay` is then the largest. Default: `weight_decay` for all."""
    member_image_size: Sequence[int] | None
    """The side at which each of M whole networks sees its images, in pixels. Default: `image_size` for all."""
    member_seed: Sequence[int] | None
    """The seed of the first weights of each member. Default: the seed of the process, and the numbers after it."""
    same_start: bool
    """All members start from the same weights, instead of each from its own."""
    tta: Literal["none", "flip", "shift"]
    """The views of an image that `test_step` and `predict_step` take; see `tta.views`."""
    test_time_augmentation: Literal["none", "flip", "shift"]
    """The same as `tta`."""
    lr: float
    """The rate at the schedule's peak."""
    learning_rate: float
    """The same as `lr`."""
    optimizer: str
    """See `optim.build_optimizer`, also for the next two."""
    weight_decay: float | None
    """Default: what is usual for the optimizer."""
    momentum: float
    """Momentum of sgd and rmsprop; the first beta of the Adam family."""
    scheduler_type: Literal["cosine", "onecycle", "step", "plateau", "constant"]
    """See `schedule.factor`."""
    scheduler: Literal["cosine", "onecycle", "step", "plateau", "constant"]
    """The same as `scheduler_type`."""
    warmup_epochs: float | None
    """Default: a twentieth of the run, at most five epochs."""
    label_smoothing: float
    """See `losses.ClassificationLoss`, also for the next two."""
    class_weights: Sequence[float] | None
    """One number per class."""
    loss: Literal["cross_entropy", "focal"]
    """The focal loss gives less weight to samples that the network is already sure of."""
    focal_gamma: float | None
    """How strongly it does so; 0 is cross-entropy. Default: 2."""
    logit_adjustment: float
    """Tau of the logit-adjusted loss; see `losses.ClassificationLoss`. 0 is off."""
    robust: Literal["none", "gce", "elr", "small_loss"]
    """What is done about labels that cannot be trusted: a generalised cross-entropy, or early-learning
    regularisation (see `losses`). `small_loss` is the data's to do (`data.small_loss`) and changes no loss here.
    """
    gce_q: float | None
    """q of the generalised cross-entropy: near 0 it is cross-entropy, at 1 the mean absolute error. Default: 0.7."""
    elr_lambda: float | None
    """Strength of early-learning regularisation. Default: 3."""
    elr_beta: float | None
    """Share of the past in its running targets. Default: 0.7."""
    monitor: str | None
    """The metric that the plateau schedule watches. Default: val/loss, or train/loss without validation."""
    mode: Literal["min", "max"] | None
    """Whether the monitor should fall or rise. Default: follows from its name."""
    num_classes: int | None
    """C, at least 2."""
    in_channels: int | None
    """Channels of an image."""
    image_size: int | None
    """Side of the square image, in pixels."""
    num_features: int | None
    """Features of a row of a table."""
    mean: Sequence[float] | Sequence[Sequence[float]] | None
    """One number per channel (of values in [0, 1]) or feature, or M such lists where the members see different
    samples; the network sees (x - mean) / std. Weights default to the normalisation that they were trained with.
    """
    std: Sequence[float] | Sequence[Sequence[float]] | None
    """The deviation, in the same form as `mean`."""
    member_stem: Sequence[str] | None
    """The stem of each of M whole networks. Default: chosen by its image size."""
