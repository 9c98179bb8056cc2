"""Networks that are ready to train: any classifier of timm, of torchvision or of our own, for any number of classes,
channels and pixels, with a random start or from weights.

Small images get the stem that is usual for them, where there is one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from litscope.errors import ModelError
from litscope.models.networks.architectures import resolve
from litscope.models.networks.heads import head_of, in_evaluation, put_heads, zero_head
from litscope.models.networks.hub import Origin, pretrained_problem, weights_place
from litscope.models.networks.members import MemberSettings, make_heads, make_members
from litscope.models.networks.names import OWN
from litscope.models.networks.nets import MLP_HIDDEN, WHITENET_LEAST, ConvNet, Mlp, WhiteNet
from litscope.models.networks.sources import OTHER_WEIGHTS, WeightsSource, find_weights, weights_of
from litscope.models.networks.stems import fit_stem, stem_for
from litscope.models.networks.weights import load_state, read_weights
from litscope.models.networks.zoos import Backbone, from_timm, from_torchvision
from litscope.models.settings import Stem

_Shape = tuple[Origin, str, int, int, int | None, int | None, float, Sequence[int]]
"""What `_make` takes, but for the weights."""


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


def place_of_weights(arch: str) -> Path | str | None:
    """Where pretrained weights of `arch` are: a file that is here, else the URL from which they would be fetched; None
    where there are none.

    Raises:
        ModelError: for an unknown name.
    """
    return weights_place(*resolve(arch))


# ---- building --------------------------------------------------------------------------------


def build(
    arch: str | None,
    num_classes: int,
    *,
    has_one_logit: bool = False,
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
    seeds: Sequence[int] | None = None,
    keeps_head: bool = True,
) -> Backbone:
    """Build a classifier.

    Args:
        arch: see `architectures.list_models`; None: that of the weights.
        num_classes: C, at least 2.
        has_one_logit: of two classes, answer with one number: the log-odds of the second.
        in_channels: K of images, any number.
        image_size: side of the square input in pixels; None for the architecture's own.
        num_features: F of a table; only `mlp` takes tables.
        pretrained: True for the hub's weights or an error; None for the hub's weights where they
            can be had, else a random start and a note; False for a random start.
        weights: what to start from instead, see `sources.find_weights`. Their head is left out where its shape differs.
        dropout_rate: before the classifier head, in [0, 1).
        hidden: widths of the hidden layers; for `mlp` alone.
        stem: None chooses by `image_size`; pretrained weights keep the stem that they were trained with.
        channels_last: memory format; None takes channels last where the network does.
        num_members: above 1: that many MLPs in one (`members.Members`); of any other network that many heads over the
            features of one body (`members.MemberHeads`). The output is then (M, B, C).
        member_settings, same_start, seeds: see `members.make_members` and `members.make_heads`.
        keeps_head: whether the head that weights bring may stay; else the caller starts it anew.

    Raises:
        ModelError: for an unknown name, weights that cannot be had or used, or an input size that does not fit.
    """
    source = None if weights is None else find_weights(weights, arch)
    arch = arch or (source.arch if source is not None else None)
    if arch is None:
        raise ModelError(f"{weights} does not say which network its tensors are of. Give --arch.")
    origin, name = resolve(arch)
    if not 0.0 <= dropout_rate < 1.0:
        raise ModelError(f"dropout_rate is {dropout_rate}; it must lie in [0, 1).")
    if num_classes < 2:
        raise ModelError(f"num_classes is {num_classes}; a classifier needs at least 2.")
    num_outputs = 1 if has_one_logit else num_classes
    if num_features is not None and name != "mlp":
        raise ModelError(f"{arch} takes images, and the data are a table of {num_features} features. Use --arch mlp.")
    if num_members > 1 and name == "mlp" and weights is not None:
        raise ModelError(f"num_members is {num_members}: an mlp of several starts from scratch, not with --weights.")
    if hidden is not None and name != "mlp":
        raise ModelError(f"hidden is {list(hidden)}: it is for an mlp, not for {arch}. Leave --hidden out.")
    widths = hidden or (source.settings.get("hidden") if source is not None else None)
    shape = (origin, name, num_outputs, in_channels, image_size, num_features, dropout_rate, widths or MLP_HIDDEN)
    made = _start(arch, shape, source, pretrained)
    made.arch, made.hidden = arch, None if widths is None else list(widths)
    is_tensors = source is not None and source.kind in ("file", "checkpoint")
    read = read_weights(source.place) if source is not None and is_tensors else None
    own_stem = source.settings.get("stem") if source is not None else None
    made.stem = (
        stem
        or own_stem
        or ("standard" if made.is_pretrained else stem_for(image_size, made.net, read.state if read else None))
    )
    if made.stem != "standard":
        made.stem, note = fit_stem(made.net, made.stem, name, in_channels, image_size)
        made.notes += [note] if note and name not in OWN else []
    if read is not None and source is not None:
        zero_head(made.net, num_outputs)
        made.notes.append(load_state(made.net, read.state, f"{weights}, {read.part}" if read.part else str(weights)))
        head = head_of(made.net, num_outputs)
        if source.classes is None and num_members == 1 and keeps_head and head is not None and head.weight.any():
            made.notes.append(
                f"the head is kept: {weights} does not say what it tells apart, which is taken to be these classes in "
                "this order"
            )
    if source is not None:
        _take_over(made, source, num_classes, in_channels if num_features is None else num_features)
    if name == "mlp" and channels_last:
        raise ModelError("mlp has no image layers that channels-last memory could help. Leave --channels-last out.")
    if name != "mlp" and channels_last is not False:
        made.memory_format = torch.channels_last
    try:
        _try_out(made, arch, num_outputs, (in_channels, image_size), num_features)
    except ModelError:
        if made.memory_format == torch.contiguous_format or channels_last:
            raise
        made.memory_format = torch.contiguous_format
        _try_out(made, arch, num_outputs, (in_channels, image_size), num_features)
    if num_members > 1 and name != "mlp":
        head = head_of(made.net, num_outputs)
        if head is None:
            raise ModelError(f"num_members is {num_members}: {arch} ends in no linear layer, which could be several.")
        several = make_heads(head, num_members, settings=member_settings, same_start=same_start, seeds=seeds)
        put_heads(made.net, head, several)
        made.classes = None
        _try_out(made, arch, num_outputs, (in_channels, image_size), num_features, num_members)
    elif num_members > 1:
        made.net = make_members(
            lambda: cast(Mlp, _make(*shape, None).net),
            num_members,
            settings=member_settings,
            same_start=same_start,
            seeds=seeds,
        )
    return made


def _take_over(made: Backbone, source: WeightsSource, num_classes: int, in_channels: int) -> None:
    """The normalisation that the weights expect, and the names of what their head tells apart."""
    if source.preprocessing is not None:
        made.mean, made.std = source.preprocessing.normalization(in_channels)
    if source.classes is not None and len(source.classes) == num_classes:
        made.classes = source.classes


def _start(arch: str, shape: _Shape, source: WeightsSource | None, pretrained: bool | None) -> Backbone:
    """The network with the weights of a library; without any for a random start, or where tensors are still to come."""
    origin, name, _, in_channels, *_ = shape
    if source is not None:
        if (problem := source.problem()) is not None:
            raise ModelError(f"--weights {source.name}: they cannot be had: {problem}. {OTHER_WEIGHTS}")
        return _make(*shape, source if source.kind in ("timm", "torchvision", "hub") else None)
    notes: list[str] = []
    usual = weights_of(arch) if _use_hub(arch, origin, name, pretrained, notes) else None
    try:
        made = _make(*shape, usual)
    except ModelError as error:
        if usual is None or pretrained:
            raise
        notes.append(f"{arch} starts from scratch: {error}")
        usual, made = None, _make(*shape, None)
    made.notes[:0] = notes
    if usual is not None and usual.preprocessing is not None:
        made.mean, made.std = usual.preprocessing.normalization(in_channels)
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
    start: WeightsSource | None,
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
    make = from_timm if origin == "timm" else from_torchvision
    try:
        return make(name, num_classes, in_channels, image_size, dropout_rate, start)
    except ModelError:
        raise
    except Exception as error:  # the two zoos, and the clients that download, raise what they like
        what = (
            "its pretrained weights"
            if start is not None
            else f"images of {image_size} pixels and {in_channels} channels"
        )
        raise ModelError(f"{name} cannot be built with {what}: {type(error).__name__}: {error}") from error


# ---- does it work ----------------------------------------------------------------------------


def _try_out(
    made: Backbone,
    arch: str,
    num_outputs: int,
    image: tuple[int, int | None],
    num_features: int | None,
    num_members: int = 1,
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
    parts = tuple((name, tuple(tensor.shape)) for name, tensor in net.state_dict().items())
    tried = (arch, made.stem, made.memory_format, shape, num_members, parts)
    if tried in _WORKED:  # several networks of one kind are built in a row, and a pass takes up to a second
        return
    try:
        with in_evaluation(net), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = torch.zeros(shape, device=weight.device, dtype=weight.dtype)  # type: ignore[arg-type]
            logits = net(x.to(memory_format=made.memory_format))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{arch} cannot take images of {size} pixels ({reason}). Try a larger --image-size."
        ) from error
    expected = (1, num_outputs) if num_members == 1 else (num_members, 1, num_outputs)
    if not isinstance(logits, Tensor) or logits.shape != expected:
        raise ModelError(f"{arch} is not a classifier: it does not answer with one number per class.")
    _WORKED.add(tried)


_WORKED: set[tuple[object, ...]] = set()
"""Networks of which this process has seen a pass."""
