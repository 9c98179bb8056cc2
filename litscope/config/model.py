"""The `model` section of a recipe: which network, and how many of it. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from litscope.config.section import Section, refuse
from litscope.settings import COUNT, SHARE, Range, setting


def _model_type(word: str) -> str | None:
    if word == "single":
        return None
    if word == "ensemble":
        return "ensembles of whole networks cannot be trained yet; --num-members 5 trains five MLPs at once."
    return f"it is single. An architecture is named by --arch: --arch {word}."


@dataclass
class ModelConfig(Section, group="model"):
    """Which network is trained, and from which weights it starts."""

    arch: str | None = setting(None, "model")
    """Architecture: any timm or torchvision classifier, `convnet` or `whitenet` (small images) or `mlp`. Default:
    chosen from the data."""
    model_type: str = setting("single", check=_model_type)
    """single: one network is trained."""
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
    dropout_rate: float = setting(0.0, check=SHARE)
    """Dropout before the classifier head, in [0, 1)."""
    in_channels: int | None = setting(None, check=COUNT, is_for_images=True)
    """Number of image bands; checked against the data. Default: what the data hold."""
    num_members: int = setting(1, check=COUNT)
    """Train this many networks at once, each from weights of its own; what is recorded and predicted is their mean
    probability. For mlp, and for --finetune head: as many heads over the same features."""
    member_lr: list[float] = setting([], check=Range(above=0))
    """A learning rate for each of --num-members, which then start from the same weights. Default: one for all."""
    member_weight_decay: list[float] = setting([], check=Range(least=0))
    """A weight decay for each of --num-members, which then start from the same weights; for adamw. Default: one for
    all."""
    compile: bool = setting(False, "compile-model")
    """Compile the network with torch.compile (needs a C++ compiler)."""

    def check(self) -> None:
        """Check each value, and what members of one network allow."""
        super().check()
        if self.weights is not None and self.pretrained:
            raise refuse("weights", self.weights, "--pretrained asks for other weights. Give one of the two.")
        for name in ("member_lr", "member_weight_decay"):
            values = getattr(self, name)
            if values and len(values) != self.num_members:
                raise refuse(
                    name, values, f"it is one number for each member, and --num-members is {self.num_members}."
                )
        is_mlp = self.arch is not None and self.arch.lower() == "mlp"
        if self.hidden and self.arch is not None and not is_mlp:
            raise refuse("hidden", self.hidden, f"it is for --arch mlp, not {self.arch}. Leave one out.")
        if self.num_members == 1:
            return
        if self.arch is not None and not is_mlp and self.finetune in ("lp-ft", "full"):
            allowed = "whole networks are not trained at once, only their heads (--finetune head). Leave one out."
            raise refuse("num_members", self.num_members, allowed)
        if is_mlp and self.weights is not None:
            allowed = "each mlp starts from weights of its own. Leave --weights out."
            raise refuse("num_members", self.num_members, allowed)
