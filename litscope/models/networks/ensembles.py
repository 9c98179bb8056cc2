"""Whole networks side by side, ready to train: `backbones.build`, once for each member of an ensemble."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from litscope.models.networks.backbones import build
from litscope.models.networks.heads import head_of
from litscope.models.networks.members import MemberSettings
from litscope.models.networks.net_members import NetMember, NetMembers
from litscope.models.networks.zoos import Backbone
from litscope.models.settings import Stem

Norm = tuple[list[float], list[float]]
"""Mean and deviation, per channel."""


@dataclass
class Ensemble:
    """Networks that are ready to train, and how they came about.

    Attributes:
        net: all of them.
        stems: what `build_ensemble` must be given to build the same networks again.
        norms: the normalisation that the weights of each expect; None to use that of the data.
        notes: lines to tell the person.
    """

    net: NetMembers
    stems: list[Stem]
    norms: list[Norm | None]
    notes: list[str] = field(default_factory=list)


def build_ensemble(
    archs: Sequence[str],
    num_classes: int,
    *,
    has_one_logit: bool = False,
    in_channels: int = 3,
    image_sizes: Sequence[int | None],
    seeds: Sequence[int] | None = None,
    pretrained: bool | None = False,
    weights: str | os.PathLike[str] | None = None,
    dropout_rate: float = 0.0,
    hidden: Sequence[int] | None = None,
    stems: Sequence[Stem | None] | None = None,
    channels_last: bool | None = None,
    settings: MemberSettings | None = None,
) -> Ensemble:
    """Build the networks of an ensemble.

    torch's own generator is left as it was.

    Args:
        archs: M names, see `architectures.list_models`.
        num_classes: C, at least 2.
        has_one_logit: as of `build`.
        in_channels: K of images, any number.
        image_sizes: (M,) the side at which each sees its images, in pixels; None for the architecture's own.
        seeds: (M,) of the weights of each; None: the seed of this process, and the numbers after it.
        pretrained, weights, dropout_rate, channels_last: as of `build`, for each of them.
        hidden: widths of the hidden layers of those that are an `mlp`.
        stems: (M,) as of `build`.
        settings: what they differ in besides their weights.

    Raises:
        ModelError: as `build`.
    """
    first, num_outputs = torch.initial_seed(), 1 if has_one_logit else num_classes
    made: list[Backbone] = []
    with torch.random.fork_rng([]):
        for number, (arch, size) in enumerate(zip(archs, image_sizes, strict=True)):
            torch.manual_seed(first + number if seeds is None else seeds[number])
            one = build(
                arch,
                num_classes,
                has_one_logit=has_one_logit,
                in_channels=in_channels,
                image_size=size,
                pretrained=pretrained,
                weights=weights,
                dropout_rate=dropout_rate,
                hidden=hidden if arch.lower() == "mlp" else None,
                stem=None if stems is None else stems[number],
                keeps_head=False,
                channels_last=None if channels_last and arch.lower() == "mlp" else channels_last,
            )
            head = head_of(one.net, num_outputs)
            if head is not None and (one.is_pretrained or weights is not None):
                head.reset_parameters()  # members with the same weights and the same head would stay the same
                one.notes.append("each member has a head of its own, which starts anew")
            made.append(one)
    members = [
        NetMember(one.net, size, one.memory_format, head_of(one.net, num_outputs))
        for one, size in zip(made, image_sizes, strict=True)
    ]
    return Ensemble(
        NetMembers(members, settings),
        stems=[one.stem for one in made],
        norms=[None if one.mean is None or one.std is None else (one.mean, one.std) for one in made],
        notes=list(dict.fromkeys(note for one in made for note in one.notes)),
    )
