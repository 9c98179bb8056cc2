"""Stems: the first layers that a network made for photographs gets on small images, so that they do not vanish before
its first block.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from litscope.models.networks.weights import without_prefix
from litscope.models.settings import Stem

SMALL_PIXELS = 32
"""Up to this image size a small stem is used: ResNets and DenseNets start with a 3x3 convolution of stride 1
and no max pool (He et al. 2016, section 4.2), ConvNeXts with patches of 2."""

MEDIUM_PIXELS = 64
"""Up to this image size a medium stem: the same convolution, with the max pool; ConvNeXts with patches of 2."""


def stem_for(image_size: int | None, net: nn.Module, state: dict[str, Tensor] | None) -> Stem:
    """Choose a stem by the image size; weights that were trained with the standard stem keep it.

    Args:
        image_size: side of the square input in pixels; None for the architecture's own.
        net: with the standard stem.
        state: weights that it will start from, or None.
    """
    if image_size is None or image_size > MEDIUM_PIXELS:
        return "standard"
    if state is not None:
        conv = _stem_conv(net)
        own = net.state_dict()
        given = None if conv is None else without_prefix(state, set(own)).get(f"{conv}.weight")
        if given is not None and given.shape[2:] == own[f"{conv}.weight"].shape[2:]:
            return "standard"
    return "small" if image_size <= SMALL_PIXELS else "medium"


def fit_stem(net: nn.Module, stem: Stem, name: str, in_channels: int, image_size: int | None) -> tuple[Stem, str]:
    """Replace the stem by a small or medium one, where one is usual.

    Args:
        net: with the standard stem; changed in place.
        stem: "small" or "medium".
        name: of the architecture, for the note.

    Returns:
        The stem that it has now, and a note on it.
    """
    conv_name = _stem_conv(net)
    if conv_name is None:
        return "standard", (
            f"{name} keeps its stem, made for larger images than {image_size} pixels; a ResNet, or a larger "
            "--image-size, often does better"
        )
    conv = net.get_submodule(conv_name)
    assert isinstance(conv, nn.Conv2d)
    if conv_name == "stem.0":
        new, what = conv_like(conv, in_channels, kernel_size=2, stride=2), "patches of 2 pixels"
    else:
        new, what = conv_like(conv, in_channels, kernel_size=3, stride=1, padding=1), "a 3x3 convolution of stride 1"
        if stem == "small":
            replace_part(net, "features.pool0" if conv_name.startswith("features") else "maxpool", nn.Identity())
            what += ", no max pool"
    replace_part(net, conv_name, new)
    return stem, f"{name} starts with {what}, for images of {image_size} pixels"


def _stem_conv(net: nn.Module) -> str | None:
    """Name of the convolution that a small stem replaces; None where no small stem is usual."""
    modules = dict(net.named_modules())
    if "maxpool" in modules and "layer1" in modules:
        return "conv1" if isinstance(modules.get("conv1"), nn.Conv2d) else "conv1.0" if "conv1.0" in modules else None
    if "features.conv0" in modules and "features.pool0" in modules:
        return "features.conv0"
    is_convnext = isinstance(modules.get("stem.0"), nn.Conv2d) and "stages.0.blocks.0.conv_dw" in modules
    return "stem.0" if is_convnext else None


def conv_like(conv: nn.Conv2d, in_channels: int, **shape: Any) -> nn.Conv2d:
    """A convolution with as many outputs, fresh weights, and another number of inputs and shape."""
    new = nn.Conv2d(in_channels, conv.out_channels, bias=conv.bias is not None, device=conv.weight.device, **shape)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    return new


def replace_part(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one that has this name."""
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)
