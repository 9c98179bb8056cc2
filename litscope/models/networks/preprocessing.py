"""Preprocessing: how images were brought to a network while its weights were trained. No torch.

Whoever starts from weights shows them images in the same way, or says where not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from litscope.types import Interpolation

_OF_INCEPTION = ("GoogLeNet_Weights", "Inception_V3_Weights")
"""Weights of torchvision that were trained on values from -1 to 1. Their transform normalises as ImageNet is, and the
network that torchvision builds for them turns that around (`transform_input`)."""


@dataclass(frozen=True)
class Preprocessing:
    """How images became the input of a network.

    Attributes:
        origin: whose weights these are: "resnet18.a1_in1k of timm".
        image_size: side of the square that the network saw, in pixels; None where nobody says.
        crop_pct: the share of an image's shorter side that it saw; None: litscope's own rule for that size.
        interpolation: how images came to that size; None where it is not one that is known here.
        mean, std: one number for each channel, of values in [0, 1]; None: nobody says.
        notes: what else is to be told, each the rest of a sentence.
    """

    origin: str
    image_size: int | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()

    def normalization(self, in_channels: int) -> tuple[list[float] | None, list[float] | None]:
        """Mean and deviation for images of so many channels: averaged for gray ones, none where there is no way."""
        if self.mean is None or self.std is None:
            return None, None
        if len(self.mean) == in_channels:
            return list(self.mean), list(self.std)
        if len(self.mean) == 3 and in_channels == 1:
            return [sum(self.mean) / 3], [sum(self.std) / 3]
        return None, None

    def line(self) -> str:
        """All of it in one line."""
        size = [] if self.image_size is None else [f"{self.image_size} pixels"]
        crop = [] if self.crop_pct is None else [f"crop {self.crop_pct:.4g}"]
        how = [] if self.interpolation is None else [self.interpolation]
        norm = []
        if self.mean is not None and self.std is not None:
            norm = [f"mean {_numbers(self.mean)}", f"deviation {_numbers(self.std)}"]
        return "; ".join([f"images as {self.origin} saw them: {', '.join([*size, *crop, *how, *norm])}", *self.notes])


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def of_timm(config: Any, origin: str) -> Preprocessing:
    """What timm says in a `PretrainedCfg`, or in a mapping of the same names that a hub's config.json holds."""
    known = config if isinstance(config, Mapping) else vars(config)
    size = known.get("input_size") or (3, None, None)
    mode = known.get("crop_mode") or "center"
    notes: list[str] = []
    if mode != "center":
        notes.append(f"its images were brought to a square by {mode!r}, these are cropped in the middle")
    return Preprocessing(
        origin,
        None if size[-1] is None else int(size[-1]),
        float(known.get("crop_pct") or 1.0),
        _interpolation(known.get("interpolation"), notes),
        _floats(known.get("mean")),
        _floats(known.get("std")),
        tuple(notes),
    )


def of_torchvision(weights: Any, origin: str) -> Preprocessing:
    """What torchvision says in the transform of a `WeightsEnum`."""
    transform = weights.transforms()
    notes: list[str] = []
    crop, resize = int(transform.crop_size[0]), int(transform.resize_size[0])
    interpolation = _interpolation(transform.interpolation.value, notes)
    mean, std = _floats(transform.mean), _floats(transform.std)
    if type(weights).__name__ in _OF_INCEPTION:
        mean = std = (0.5, 0.5, 0.5)
    return Preprocessing(origin, crop, min(1.0, crop / resize), interpolation, mean, std, tuple(notes))


def of_checkpoint(settings: Mapping[str, Any], encoding: Mapping[str, Any], origin: str) -> Preprocessing:
    """What a checkpoint of litscope says.

    Args:
        settings: the hyperparameters of its classifier.
        encoding: how its samples were read, as `Manifest.encoding`; empty where it does not say.
    """
    notes: list[str] = []
    mean, std = settings.get("mean"), settings.get("std")
    if mean and isinstance(mean[0], list | tuple):  # of members that saw different samples
        mean = std = None
    return Preprocessing(
        origin,
        settings.get("image_size"),
        encoding.get("crop_pct"),
        _interpolation(encoding.get("interpolation", "bilinear"), notes),
        _floats(mean),
        _floats(std),
        tuple(notes),
    )


def _interpolation(name: Any, notes: list[str]) -> Interpolation | None:
    for known in get_args(Interpolation):
        if name == known:
            return known  # type: ignore[no-any-return]
    if name:
        notes.append(f"it resampled them by {name!r}, which is not known here")
    return None


def _floats(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)
