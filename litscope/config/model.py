"""The `model` section of a recipe: which network, and how many of it. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from litscope.config.section import Section, refuse
from litscope.defaults import network_name
from litscope.fusions import NEEDS_DROPOUT, Rule
from litscope.settings import COUNT, SEED, SHARE, Range, setting

TYPES = ("single", "ensemble")


def _model_type(word: str) -> str | None:
    if word in TYPES:
        return None
    return f"it is one of {', '.join(TYPES)}. An architecture is named by --arch: --arch {word}."


@dataclass
class ModelConfig(Section, group="model"):
    """Which network is trained, and from which weights it starts."""

    arch: str | None = setting(None, "model")
    """Architecture: any timm or torchvision classifier, `convnet` or `whitenet` (small images) or `mlp`. Default:
    chosen from the data."""
    model_type: str | None = setting(None, check=_model_type)
    """single trains one network; ensemble several whole ones at once, each with weights of its own, whose answers
    become one. Default: single, but ensemble with --archs, and where --num-members are whole networks."""
    archs: list[str] = setting([], "architectures", is_for_images=True)
    """Architectures of an ensemble, one for each member (resnet18,resnet34,vit_b_16); of more --num-members they take
    turns. Default: what one network would be."""
    ensemble_strategy: Rule = "mean"
    """How the answers of the members become one: mean, median or vote; or a rule that learns on validation data, at the
    end of a run: weighted, stacked (a temperature each, then weights, then a temperature) or uncertainty_weighted (by
    the scatter of passes with dropout)."""
    hidden: list[int] = setting([], check=COUNT)
    """Widths of the hidden layers of an mlp, from its input on (256,256). Default: 256,256."""
    num_classes: int | None = setting(None, check=Range(least=2))
    """Number of classes; checked against the data. Default: what the data hold."""
    pretrained: bool | None = None
    """Start from pretrained weights. Default: where they help and can be had, else from scratch, said in one line."""
    weights: str | None = setting(None, takes=(os.PathLike,))
    """Weights to start from: a file, a run or a checkpoint of one, or a name at timm (resnet18.a1_in1k), the Hugging
    Face hub (hf-hub:OWNER/NAME) or torchvision (torchvision:ResNet50_Weights.IMAGENET1K_V2). The head is kept where its
    classes are these, or its shape is this one and no names are known."""
    finetune: Literal["auto", "head", "lp-ft", "full"] = "auto"
    """What is trained of a network that starts from weights: head (its last layer, on features that are computed once),
    lp-ft (the last layer first, then all), or full (all at once). Default: chosen from the data and the device."""
    body_lr_scale: float | None = setting(None, check=Range(least=0, most=1))
    """Learning rate of all but the last layer, as a share of --lr. Default: 1 from scratch and with a --lr of
    yours, else chosen."""
    layer_decay: float | None = setting(None, check=Range(above=0, most=1))
    """Learning rate of each layer as a share of that of the layer after it, for networks of timm. Default: 0.75 for
    transformers that start from weights, with a --lr of yours and for others 1."""
    freeze_norms: bool | None = None
    """Keep the running statistics of batch norms as the weights brought them. Default: where a network that starts from
    weights is trained in batches of fewer than 64."""
    feature_views: int = setting(0, check=Range(least=0), is_for_images=True)
    """With --finetune head: views of each training image, augmented as in as many epochs, that training takes turns
    with. 0 trains on the images as they are."""
    task: Literal["multiclass", "binary"] = "multiclass"
    """multiclass (a logit for each class) or binary: of two classes one logit, a sigmoid head; all else sees the two
    logits (0, z)."""
    dropout_rate: float | None = setting(None, check=SHARE)
    """Dropout before the classifier head, in [0, 1). Default: 0; with --ensemble-strategy uncertainty_weighted 0.2."""
    in_channels: int | None = setting(None, check=COUNT, is_for_images=True)
    """Number of image bands; checked against the data. Default: what the data hold."""
    num_members: int = setting(1, check=COUNT)
    """Train this many networks at once, each from weights of its own; what is recorded and predicted is their common
    answer, see --ensemble-strategy. With --finetune head: as many heads over the same features."""
    member_lr: list[float] = setting([], check=Range(above=0))
    """A learning rate for each member; those of an mlp, and heads, then start from the same weights. Default: one for
    all, or of several architectures that of each alone."""
    member_weight_decay: list[float] = setting([], check=Range(least=0))
    """A weight decay for each member; those of an mlp, and heads, then start from the same weights. For adamw. Default:
    one for all."""
    member_image_size: list[int] = setting([], check=COUNT, is_for_images=True)
    """Side of the square that each of several whole networks sees, in pixels; resized on the device from --image-size,
    by default the largest of them. Default: what each would see alone."""
    member_seed: list[int] = setting([], check=SEED)
    """The seed of the first weights of each member. Default: --seed, and the numbers after it."""
    compile: bool = setting(False, "compile-model")
    """Compile the network with torch.compile (needs a C++ compiler)."""

    def check(self) -> None:
        """Check each value, and what members of one network allow."""
        super().check()
        if self.weights is not None and self.pretrained:
            raise refuse("weights", self.weights, "--pretrained asks for other weights. Give one of the two.")
        self._check_archs()
        count = self.count
        for name in ("member_lr", "member_weight_decay", "member_image_size", "member_seed"):
            values = getattr(self, name)
            if values and len(values) != count:
                said = f"--num-members is {count}" if not self.archs else f"there are {count} of them"
                raise refuse(name, values, f"it is one number for each member, and {said}.")
        if self.ensemble_strategy in NEEDS_DROPOUT and self.dropout_rate == 0:
            allowed = (
                f"--ensemble-strategy {self.ensemble_strategy} weights members by how their answers scatter under "
            )
            allowed += "dropout, and without it none does. Leave it out for 0.2, or take another strategy."
            raise refuse("dropout_rate", 0, allowed)
        is_mlp = self.arch is not None and self.arch.lower() == "mlp"
        named = self.archs or ([] if self.arch is None else [self.arch])
        if self.hidden and named and "mlp" not in [arch.lower() for arch in named]:
            raise refuse("hidden", self.hidden, f"it is for --arch mlp, not {self.name}. Leave one out.")
        if self.task == "binary" and self.num_classes not in (None, 2):
            raise refuse("task", self.task, f"it tells two classes apart, and --num-classes is {self.num_classes}.")
        if count == 1:
            return
        if is_mlp and self.weights is not None:
            allowed = "each mlp starts from weights of its own. Leave --weights out."
            raise refuse("num_members", count, allowed)
        if self.is_surely_stacked and self.member_image_size:
            what = "mlps" if is_mlp else "heads"
            raise refuse(
                "member_image_size", self.member_image_size, f"several {what} see the same images. Leave it out."
            )

    def _check_archs(self) -> None:
        """What a list of architectures and the kind of model allow."""
        if not self.archs:
            return
        if self.model_type == "single":
            raise refuse("model_type", "single", f"--archs {','.join(self.archs)} are several. Leave one of them out.")
        if self.arch is not None and set(self.archs) != {self.arch}:
            raise refuse("archs", self.archs, f"--arch {self.arch} names one network. Leave one of them out.")
        if {arch.lower() for arch in self.archs} == {"mlp"}:
            allowed = f"mlps are trained in one stack. Give --arch mlp --num-members {max(self.count, 2)}."
            raise refuse("archs", self.archs, allowed)
        if self.count == 1:
            allowed = f"it is one network. Give --num-members 5 for five of it, or --arch {self.archs[0]} for one."
            raise refuse("archs", self.archs, allowed)
        if self.num_members != 1 and self.num_members < len(self.archs):
            raise refuse("num_members", self.num_members, f"--archs names {len(self.archs)}. Leave one of them out.")
        if self.finetune in ("lp-ft", "head") and len(set(self.archs)) > 1:
            allowed = "the networks of --archs are trained whole. Give --finetune full, or leave it out."
            raise refuse("finetune", self.finetune, allowed)
        if self.weights is not None and len(set(self.archs)) > 1:
            allowed = f"they are of one network, and --archs names {len(set(self.archs))}. Leave one of them out."
            raise refuse("weights", self.weights, allowed)

    @property
    def count(self) -> int:
        """How many networks are trained, as far as it is given; 1 too where an ensemble's number is still to choose."""
        return max(self.num_members, len(self.archs))

    @property
    def member_archs(self) -> list[str]:
        """The architecture of each member of an ensemble of whole networks; empty where it is none."""
        return [self.archs[number % len(self.archs)] for number in range(self.count)] if self.archs else []

    @property
    def name(self) -> str | None:
        """The network by name, or the several by theirs; None where it is not chosen yet."""
        return network_name(self.arch, self.member_archs)

    @property
    def is_surely_stacked(self) -> bool:
        """Whether several members, as far as is given, are layers or heads of one network, and no whole ones."""
        is_mlp = (self.arch or "").lower() == "mlp"
        return not self.archs and (is_mlp or self.finetune == "head")
