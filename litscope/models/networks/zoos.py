"""The two zoos: a network of timm or torchvision for any number of classes and channels, with its weights or without.

They raise what they like, and so do the clients that download for them; whoever calls puts a sentence around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from litscope.models.networks.heads import DropoutLinear, zero_head
from litscope.models.networks.packaged import packaged_file, read_packaged
from litscope.models.networks.sources import WeightsSource
from litscope.models.networks.stems import conv_like, replace_part
from litscope.models.networks.weights import load_state, read_weights
from litscope.models.settings import Stem


@dataclass
class Backbone:
    """A network that is ready to train, and how it came about.

    Attributes:
        net: (B, K, H, W) or (B, F) normalised input -> (B, C) logits.
        arch, hidden, stem: what `backbones.build` must be given to build the same network again.
        mean, std: normalisation that the weights expect, per channel; None to use that of the data.
        classes: what the head tells apart, where the weights brought one of this size and say so; else None.
        is_pretrained: weights came from a library.
        memory_format: that of the weights, and the best one for the input: channels last where the network takes it.
            Measured on a CPU: a step of `convnet` takes two thirds of the time, that of a ResNet 0.95, in bf16 0.8.
        notes: lines to tell the person: what was loaded and what not, what was changed.
    """

    net: nn.Module
    arch: str = ""
    hidden: list[int] | None = None
    stem: Stem = "standard"
    mean: list[float] | None = None
    std: list[float] | None = None
    classes: tuple[str, ...] | None = None
    is_pretrained: bool = False
    memory_format: torch.memory_format = torch.contiguous_format
    notes: list[str] = field(default_factory=list)


# ---- timm ------------------------------------------------------------------------------------


def from_timm(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: int | None,
    dropout_rate: float,
    start: WeightsSource | None,
) -> Backbone:
    """A network of timm.

    Args:
        name: perhaps with a tag.
        image_size: side of the square input in pixels; None for the architecture's own.
        start: weights of timm, or of a model on the hub; None for a random start.
    """
    import timm

    name = start.tag if start is not None and start.kind == "timm" else name
    config = timm.models.get_pretrained_cfg(name)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    if image_size is not None and config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    packaged = packaged_file(name) if start is not None else None
    is_packaged = start is not None and packaged is not None and start.place == packaged
    if start is not None and not is_packaged:
        options |= _loading(start)
    net = _create(name, options, dropout_rate)
    made = Backbone(net, is_pretrained=start is not None)
    if start is not None:
        about = start.config or ({} if config is None else vars(config))
        num_pretrained = int(about.get("num_classes", 1000))
        if num_pretrained != num_classes:
            zero_head(net, num_classes)
        made.notes.append(_hub_note(start, num_pretrained, num_classes, in_channels))
    if is_packaged:
        assert packaged is not None
        load_state(net, read_packaged(name, packaged), str(packaged))
    return made


def _loading(start: WeightsSource) -> dict[str, Any]:
    """What tells timm to load weights, and from where."""
    # A file in the cache is opened as such: asking the hub whether it is still the newest may hang.
    file = {"file": str(start.place)} if isinstance(start.place, Path) else {}
    if start.kind != "hub":
        return {"pretrained": True, "pretrained_cfg_overlay": file}
    import timm

    names = timm.models.PretrainedCfg.__dataclass_fields__.keys() - {"source", "url", "file", "architecture"}
    assert start.arch is not None  # a hub's description names it
    usual = timm.models.get_pretrained_cfg(start.arch)
    config = {name: getattr(usual, name, None) for name in ("first_conv", "classifier")}
    config |= {name: value for name, value in start.config.items() if name in names}
    return {"pretrained": True, "pretrained_cfg": {**config, "hf_hub_id": start.tag, **file}}


def _create(name: str, options: dict[str, Any], dropout_rate: float) -> nn.Module:
    import timm

    if not dropout_rate:
        return timm.create_model(name, **options)
    try:
        return timm.create_model(name, drop_rate=dropout_rate, **options)
    except TypeError as error:
        if "drop_rate" not in str(error):
            raise
    net = timm.create_model(name, **options)
    _add_dropout(net, dropout_rate)
    return net


def _hub_note(start: WeightsSource, num_pretrained: int, num_classes: int, in_channels: int) -> str:
    note = f"{start.tag}: pretrained weights from {start.place}"
    if num_pretrained != num_classes:
        note += f"; the head of {num_pretrained} classes was left out"
    if in_channels != 3:
        note += f"; the first convolution was adapted from 3 to {in_channels} channels"
    return note


# ---- torchvision -----------------------------------------------------------------------------


def from_torchvision(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: int | None,
    dropout_rate: float,
    start: WeightsSource | None,
) -> Backbone:
    """A network of torchvision; arguments as `from_timm`."""
    import torchvision

    options: dict[str, Any] = {"num_classes": num_classes}
    if name.startswith("vit_") and image_size is not None:
        options["image_size"] = image_size
    if name == "maxvit_t" and image_size is not None:
        options["input_size"] = (image_size, image_size)
    if name in ("googlenet", "inception_v3"):
        # The auxiliary heads answer with a tuple in training; init_weights is the slow start that its authors used.
        options |= {"aux_logits": False, "init_weights": True}
    net: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    if in_channels != 3:
        _replace_first_conv(net, in_channels)
    if dropout_rate:
        _add_dropout(net, dropout_rate)
    made = Backbone(net, is_pretrained=start is not None)
    if start is not None:
        choice = torchvision.models.get_weight(start.tag)
        zero_head(net, num_classes)
        place = start.place
        state = read_weights(place).state if isinstance(place, Path) else choice.get_state_dict(progress=False)
        made.notes.append(load_state(net, state, f"{name}, pretrained ({choice.name})"))
    return made


def _replace_first_conv(net: nn.Module, in_channels: int) -> None:
    """Give the network's first convolution another number of input channels, with fresh weights."""
    name, conv = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    shape = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding}
    replace_part(net, name, conv_like(conv, in_channels, **shape))


def _add_dropout(net: nn.Module, dropout_rate: float) -> None:
    """Set the dropouts of the classifier head where it has some; else put one before the last linear layer."""
    heads = [module for name, module in net.named_children() if name in ("classifier", "fc", "head", "heads")]
    dropouts = [module for head in heads for module in head.modules() if isinstance(module, nn.Dropout)]
    for dropout in dropouts:
        dropout.p = dropout_rate
    if not dropouts:
        linears = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
        name, last = linears[-1]
        replace_part(net, name, DropoutLinear(last, dropout_rate))
