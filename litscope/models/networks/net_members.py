"""NetMembers: M whole networks that see the same batch, each at its own size and in its own memory format.

They share no weight, so the sum of their losses has for each the gradient that it would have alone. They are computed
one after the other: networks of several architectures have no layers that could be stacked, and of one architecture
convolutions in groups, or `torch.func.vmap`, were slower on a CPU than one network after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from litscope.models.networks.members import MemberSettings


@dataclass(frozen=True)
class NetMember:
    """One of several networks.

    Attributes:
        net: (B, K, S, S) normalised images -> (B, C) logits.
        image_size: S, to which the images of a batch are brought; None takes them as they come.
        memory_format: of the weights, and the best for the images.
        head: its last layer; None where that is not linear.
    """

    net: nn.Module
    image_size: int | None = None
    memory_format: torch.memory_format = torch.contiguous_format
    head: nn.Linear | None = None


class NetMembers(nn.Module):
    """M networks in one module. Their weights are called `nets.0.…`, `nets.1.…`.

    Args:
        members: in their order.
        settings: what they differ in besides their weights.

    Attributes:
        num_members: M.
        nets: the networks.
        heads: the last layer of each; None where it is not linear.
        lr_shares, decay_shares: each member's learning rate and weight decay as a share of the largest, which is the
            optimizer's. They are the recipe's, and in no checkpoint.
    """

    def __init__(self, members: Sequence[NetMember], settings: MemberSettings | None = None) -> None:
        super().__init__()
        settings = settings or MemberSettings()
        self.num_members = len(members)
        self.nets = nn.ModuleList(member.net for member in members)
        self.heads = tuple(member.head for member in members)
        self.lr_shares = shares(settings.lr, len(members))
        self.decay_shares = shares(settings.weight_decay, len(members))
        self._sizes = tuple(member.image_size for member in members)
        self._usual_formats = self._formats = tuple(member.memory_format for member in members)

    def __setattr__(self, name: str, value: Any) -> None:
        """`heads` are parts of `nets`, and must not be found a second time."""
        if name == "heads":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def is_channels_last(self) -> bool:
        """Whether a member has its weights in channels-last memory."""
        return torch.channels_last in self._formats

    def use_channels_last(self, wanted: bool) -> None:
        """Bring the members that take it into channels-last memory, or all out of it. The values stay."""
        plain = (torch.contiguous_format,) * self.num_members
        self._formats = self._usual_formats if wanted else plain
        for net, form in zip(self.nets, self._formats, strict=True):
            net.to(memory_format=form)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (M, B, C). All members see the same batch, (B, K, H, W), or, with M in front, each its own view of it.

        Raises:
            RuntimeError, ValueError, AssertionError: of a member that cannot take the images, with its number in a
                note.
        """
        answers = []
        for number, (net, view) in enumerate(zip(self.nets, self.views(x), strict=True)):
            with _in_member(number):
                answers.append(net(view))
        return torch.stack([answer.to(answers[0].dtype) for answer in answers])

    def views(self, x: Tensor) -> Iterator[Tensor]:
        """What each member is shown of a batch, as `forward` takes it: (B, K, S, S), in its memory format."""
        seen: dict[tuple[int, int | None, torch.memory_format], Tensor] = {}
        for number, (size, form) in enumerate(zip(self._sizes, self._formats, strict=True)):
            key = (number if x.ndim == 5 else 0, size, form)
            if key not in seen:  # members that are shown the same share it
                seen[key] = resized(x[number] if x.ndim == 5 else x, size).contiguous(memory_format=form)
            yield seen[key]


def resized(images: Tensor, side: int | None) -> Tensor:
    """Square images of another side: (B, K, H, H) -> (B, K, side, side).

    A pixel is the mean of those that it covers, weighted by their distance (the triangle of bilinear interpolation, as
    wide as a new pixel where the image shrinks): what `F.interpolate(..., mode="bilinear", antialias=True)` does, as
    two products of matrices, which every exporter knows.
    """
    if side is None or images.shape[-2:] == (side, side):
        return images
    with torch.autocast(images.device.type, enabled=False):
        down, across = (_triangles(images, length, side) for length in images.shape[-2:])
        return down @ images @ across.T


def _triangles(like: Tensor, length: int, side: int) -> Tensor:
    """(side, length) the share of each old pixel in each new one, of the dtype and on the device of `like`."""
    scale = length / side
    new = (torch.arange(side, device=like.device, dtype=torch.float32) + 0.5) * scale - 0.5
    old = torch.arange(length, device=like.device, dtype=torch.float32)
    weight = (1.0 - (new[:, None] - old).abs() / max(scale, 1.0)).clamp(min=0.0)
    return (weight / weight.sum(1, keepdim=True)).to(like.dtype)


def shares(values: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Each value as a share of the largest; 1 for all where there are none."""
    most = 0.0 if values is None else max(values)
    return (1.0,) * count if values is None or not most else tuple(value / most for value in values)


@contextmanager
def _in_member(number: int) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        error.add_note(f"in member {number}")
        raise
