"""Any timm or torchvision classifier by name, for any number of classes, channels and pixels.

Names: our own `mlp`, `convnet` and `whitenet` first; then timm; then what only torchvision has (vit_b_16,
swin_t, mobilenet_v3_large, ...). `torchvision/resnet18` and `timm/resnet18` say which of the two.
Small images get the stem that is usual for them, where there is one.
"""

from __future__ import annotations

import fnmatch
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from litscope.errors import ModelError, did_you_mean
from litscope.models.networks.heads import zero_head
from litscope.models.networks.hub import Origin, pretrained_problem, torchvision_weights, weights_place
from litscope.models.networks.members import MemberSettings, make_members
from litscope.models.networks.names import OWN
from litscope.models.networks.nets import MLP_HIDDEN, WHITENET_LEAST, ConvNet, Mlp, WhiteNet
from litscope.models.networks.packaged import packaged_file, read_packaged
from litscope.models.networks.stems import conv_like, fit_stem, replace_part, stem_for
from litscope.models.networks.weights import load_state, read_weights
from litscope.models.settings import Stem


@dataclass
class Backbone:
    """A network that is ready to train, and how it came about.

    Attributes:
        net: (B, K, H, W) or (B, F) normalised input -> (B, C) logits.
        stem: what `build` must be given to build the same network again.
        mean, std: normalisation that the pretrained weights expect, per channel; None to use that of the data.
        is_pretrained: weights came from the hub.
        memory_format: that of the weights, and the best one for the input: channels last where the network takes it.
            Measured on a CPU: a step of `convnet` takes two thirds of the time, that of a ResNet 0.95, in bf16 0.8.
        notes: lines to tell the person: what was loaded and what not, what was changed.
    """

    net: nn.Module
    stem: Stem = "standard"
    mean: list[float] | None = None
    std: list[float] | None = None
    is_pretrained: bool = False
    memory_format: torch.memory_format = torch.contiguous_format
    notes: list[str] = field(default_factory=list)


# ---- names -----------------------------------------------------------------------------------


def list_models(pattern: str = "*") -> list[str]:
    """Names of all architectures that match a glob or contain a word, ignoring case; sorted."""
    glob = pattern.lower() if any(c in pattern for c in "*?[") else f"*{pattern.lower()}*"
    return sorted(fnmatch.filter(_all_names(), glob))


def _all_names() -> set[str]:
    import timm

    return {*OWN, *timm.list_models(), *_torchvision_names()}


def _torchvision_names() -> list[str]:
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def resolve(arch: str) -> tuple[Origin, str]:
    """Where an architecture comes from, and its name there.

    Case and hyphens do not matter (`ResNet18`, `vit-b-16`).

    Raises:
        ModelError: for an unknown name, with the closest ones.
    """
    if arch in OWN:
        return "own", arch
    import timm

    given, _, rest = arch.partition("/")
    only = given if given in ("timm", "torchvision") and rest else None
    for name in dict.fromkeys([rest if only else arch, (rest if only else arch).lower().replace("-", "_")]):
        if name in OWN and only is None:
            return "own", name
        if only != "torchvision" and timm.is_model(name):
            return "timm", name
        if only != "timm" and name in _torchvision_names():
            return "torchvision", name
    raise ModelError(
        f"There is no architecture {arch!r}: it is in neither timm nor torchvision."
        f"{did_you_mean(arch.lower().replace('-', '_'), _all_names())} `litscope models PATTERN` lists the names."
    )


def why_no_weights(arch: str) -> str | None:
    """Why pretrained weights of `arch` cannot be had (no such weights, no network), or None when they can.

    Takes a few seconds at most. The network is asked only for weights that are not on this machine.

    Raises:
        ModelError: for an unknown name.
    """
    return pretrained_problem(*resolve(arch))


def why_never_weights(arch: str) -> str | None:
    """As `why_no_weights`, without asking the network: a host that may be asked counts as one that answers."""
    return pretrained_problem(*resolve(arch), ask=False)


def download_of(arch: str) -> str | None:
    """The URL from which pretrained weights of `arch` would be fetched; None if they are here, or there are none.

    Raises:
        ModelError: for an unknown name.
    """
    place = weights_place(*resolve(arch))
    return place if isinstance(place, str) else None


# ---- building --------------------------------------------------------------------------------


def build(
    arch: str,
    num_classes: int,
    *,
    in_channels: int = 3,
    image_size: int | None = None,
    num_features: int | None = None,
    pretrained: bool | None = False,
    weights: str | os.PathLike[str] | None = None,
    dropout_rate: float = 0.0,
    hidden: Sequence[int] | None = None,
    stem: Stem | None = None,
    channels_last: bool | None = None,
    num_members: int = 1,
    member_settings: MemberSettings | None = None,
    same_start: bool = False,
) -> Backbone:
    """Build a classifier.

    Args:
        arch: see `list_models`.
        num_classes: C, at least 2.
        in_channels: K of images, any number.
        image_size: side of the square input in pixels; None for the architecture's own.
        num_features: F of a table; only `mlp` takes tables.
        pretrained: True for the hub's weights or an error; None for the hub's weights where they
            can be had, else a random start and a note; False for a random start.
        weights: a local file to start from, instead.
        dropout_rate: before the classifier head, in [0, 1).
        hidden: widths of the hidden layers; for `mlp` alone.
        stem: None chooses by `image_size`; pretrained weights keep the stem that they were trained with.
        channels_last: memory format; None takes channels last where the network does.
        num_members: above 1: that many MLPs in one (`members.Members`), whose output is (M, B, C).
        member_settings, same_start: see `members.make_members`.

    Raises:
        ModelError: for an unknown name, weights that cannot be had or used, or an input size that does not fit.
    """
    origin, name = resolve(arch)
    if not 0.0 <= dropout_rate < 1.0:
        raise ModelError(f"dropout_rate is {dropout_rate}; it must lie in [0, 1).")
    if num_classes < 2:
        raise ModelError(f"num_classes is {num_classes}; a classifier needs at least 2.")
    if num_features is not None and name != "mlp":
        raise ModelError(f"{arch} takes images, and the data are a table of {num_features} features. Use --arch mlp.")
    if num_members > 1 and (name != "mlp" or weights is not None):
        what = f"--arch {arch}" if name != "mlp" else "--weights"
        raise ModelError(f"num_members is {num_members}: it is for an mlp that starts from scratch, not with {what}.")
    if hidden is not None and name != "mlp":
        raise ModelError(f"hidden is {list(hidden)}: it is for an mlp, not for {arch}. Leave --hidden out.")
    state = None if weights is None else read_weights(weights)
    notes: list[str] = []
    use_hub = state is None and _use_hub(arch, origin, name, pretrained, notes)
    shape = (origin, name, num_classes, in_channels, image_size, num_features, dropout_rate, hidden or MLP_HIDDEN)
    try:
        made = _make(*shape, use_hub)
    except ModelError as error:
        if not use_hub or pretrained:
            raise
        notes.append(f"{arch} starts from scratch: {error}")
        made = _make(*shape, False)
    made.notes[:0] = notes
    made.stem = stem or ("standard" if made.is_pretrained else stem_for(image_size, made.net, state))
    if made.stem != "standard":
        made.stem, note = fit_stem(made.net, made.stem, name, in_channels, image_size)
        made.notes += [note] if note and name not in OWN else []
    if state is not None:
        zero_head(made.net, num_classes)
        made.notes.append(load_state(made.net, state, str(weights)))
    if name == "mlp" and channels_last:
        raise ModelError("mlp has no image layers that channels-last memory could help. Leave --channels-last out.")
    if name != "mlp" and channels_last is not False:
        made.memory_format = torch.channels_last
    try:
        _try_out(made, arch, num_classes, (in_channels, image_size), num_features)
    except ModelError:
        if made.memory_format == torch.contiguous_format or channels_last:
            raise
        made.memory_format = torch.contiguous_format
        _try_out(made, arch, num_classes, (in_channels, image_size), num_features)
    if num_members > 1:
        made.net = make_members(
            lambda: cast(Mlp, _make(*shape, False).net), num_members, settings=member_settings, same_start=same_start
        )
    return made


def _use_hub(arch: str, origin: Origin, name: str, pretrained: bool | None, notes: list[str]) -> bool:
    if pretrained is False or (pretrained is None and origin == "own"):
        return False
    problem = pretrained_problem(origin, name)
    if problem is None:
        return True
    if pretrained:
        raise ModelError(
            f"Pretrained weights of {arch} cannot be had: {problem}. "
            "Start from scratch with --no-pretrained, or from a local file with --weights FILE."
        )
    notes.append(f"{arch} starts from scratch: pretrained weights cannot be had ({problem})")
    return False


def _make(
    origin: Origin,
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: int | None,
    num_features: int | None,
    dropout_rate: float,
    hidden: Sequence[int],
    use_hub: bool,
) -> Backbone:
    if origin == "own":
        if num_features is not None:
            return Backbone(Mlp(num_features, num_classes, hidden, dropout_rate))
        if image_size is None:
            raise ModelError(f"{name} needs to know its input: image_size of images, or num_features of a table.")
        if name == "mlp":
            return Backbone(Mlp(in_channels * image_size**2, num_classes, hidden, dropout_rate))
        if name == "whitenet":
            if image_size < WHITENET_LEAST:
                raise ModelError(
                    f"whitenet takes images of at least {WHITENET_LEAST} pixels, not {image_size}. Use convnet."
                )
            return Backbone(WhiteNet(in_channels, num_classes, image_size, dropout_rate=dropout_rate))
        return Backbone(ConvNet(in_channels, num_classes, image_size, dropout_rate=dropout_rate))
    make = _from_timm if origin == "timm" else _from_torchvision
    try:
        return make(name, num_classes, in_channels, image_size, dropout_rate, use_hub)
    except ModelError:
        raise
    except Exception as error:  # the two zoos, and the clients that download, raise what they like
        what = "its pretrained weights" if use_hub else f"images of {image_size} pixels and {in_channels} channels"
        raise ModelError(f"{name} cannot be built with {what}: {type(error).__name__}: {error}") from error


# ---- timm ------------------------------------------------------------------------------------


def _from_timm(
    name: str, num_classes: int, in_channels: int, image_size: int | None, dropout_rate: float, use_hub: bool
) -> Backbone:
    import timm

    config = timm.models.get_pretrained_cfg(name)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    if image_size is not None and config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    place = weights_place("timm", name) if use_hub else None
    packaged = packaged_file(name) if use_hub else None
    if use_hub and place != packaged:
        # A file in the cache is opened as such: asking the hub whether it is still the newest may hang.
        overlay = {"file": str(place)} if isinstance(place, Path) else {}
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    net = _create(name, options, dropout_rate)
    made = Backbone(net, is_pretrained=use_hub)
    if use_hub and config is not None:
        made.mean, made.std = _expected(config.mean, config.std, in_channels)
        if config.num_classes != num_classes:
            zero_head(net, num_classes)
        made.notes.append(_hub_note(name, place, config.num_classes, num_classes, in_channels))
    if packaged is not None and place == packaged:
        load_state(net, read_packaged(name, packaged), str(packaged))
    return made


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


def _hub_note(name: str, place: Any, num_pretrained: int, num_classes: int, in_channels: int) -> str:
    note = f"{name}: pretrained weights from {place}"
    if num_pretrained != num_classes:
        note += f"; the head of {num_pretrained} classes was left out"
    if in_channels != 3:
        note += f"; the first convolution was adapted from 3 to {in_channels} channels"
    return note


def _expected(mean: Any, std: Any, in_channels: int) -> tuple[list[float] | None, list[float] | None]:
    """The pretrained network's normalisation: its own for colour, averaged for gray, none for other bands."""
    if in_channels == 3:
        return list(mean), list(std)
    if in_channels == 1:
        return [sum(mean) / 3], [sum(std) / 3]
    return None, None


# ---- torchvision -----------------------------------------------------------------------------


def _from_torchvision(
    name: str, num_classes: int, in_channels: int, image_size: int | None, dropout_rate: float, use_hub: bool
) -> Backbone:
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
    made = Backbone(net, is_pretrained=use_hub)
    if use_hub:
        choice = torchvision.models.get_model_weights(name).DEFAULT
        place = torchvision_weights(name)
        zero_head(net, num_classes)
        state = read_weights(place) if isinstance(place, Path) else choice.get_state_dict(progress=False)
        transform = choice.transforms()
        made.mean, made.std = _expected(transform.mean, transform.std, in_channels)
        made.notes.append(load_state(net, state, f"{name}, pretrained ({choice.name})"))
    return made


def _replace_first_conv(net: nn.Module, in_channels: int) -> None:
    """Give the network's first convolution another number of input channels, with fresh weights."""
    name, conv = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    shape = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding}
    replace_part(net, name, conv_like(conv, in_channels, **shape))


class DropoutLinear(nn.Linear):
    """A linear head with dropout before it, under the names of the head that it replaces."""

    def __init__(self, head: nn.Linear, dropout_rate: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = head.in_features, head.out_features
        self.weight, self.bias = head.weight, head.bias
        self.dropout_rate = dropout_rate

    def forward(self, input: Tensor) -> Tensor:
        """(..., F) -> (..., C)."""
        return super().forward(nn.functional.dropout(input, self.dropout_rate, self.training))


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


# ---- does it work ----------------------------------------------------------------------------


def _try_out(
    made: Backbone, arch: str, num_classes: int, image: tuple[int, int | None], num_features: int | None
) -> None:
    """Make one forward pass, so that an input size that the network cannot take is reported now, in a sentence."""
    net: nn.Module = made.net.to(memory_format=made.memory_format)  # type: ignore[call-overload]
    channels, size = image
    if num_features is None and size is None:
        return
    shape = (1, num_features) if num_features is not None else (1, channels, size, size)
    weight = next(net.parameters())
    if weight.is_meta:  # made for the shapes of its weights; a pass would import torch's compiler, which takes a second
        return
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = torch.zeros(shape, device=weight.device, dtype=weight.dtype)  # type: ignore[arg-type]
            logits = net(x.to(memory_format=made.memory_format))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{arch} cannot take images of {size} pixels ({reason}). Try a larger --image-size."
        ) from error
    finally:
        net.train(was_training)
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise ModelError(f"{arch} is not a classifier: it does not answer with one number per class.")
