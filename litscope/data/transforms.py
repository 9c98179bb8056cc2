"""Batched augmentation on the device: uint8 pixels in, float32 in [0, 1] at the network's size out.

Every random number is a hash of (seed, epoch, sample_id, purpose). So a sample's change in an
epoch is the same whatever the batch around it, the worker, the rank or the device, and a resumed
run sees what an uninterrupted one would have seen. No generator, no per-image Python, nothing
read back from the device.

    policy        images of at most 64 stored pixels      larger images
    none          as they are                             centre crop
    default       crop of the image padded by an eighth   crop of 35-100 % of the area, aspect 3:4 to
                  or `padding` (reflected), flip          4:3, resized (Szegedy et al. 2015), flip
    strong        default, then rotation by up to 15 degrees, brightness, contrast and saturation
                  times 0.6 to 1.4, and one erased rectangle in a quarter of the images
    autoaugment   default, then one operation of `OPERATIONS` per image, at a strength drawn
                  evenly: TrivialAugment (Müller and Hutter 2021) without equalize

Flips are horizontal and alternate: a hash of its id decides whether an image is mirrored in epoch 0,
and from then on it is mirrored in every other epoch, so that any two epochs in a row show both sides
(Jordan 2024, arXiv:2404.00498). `flip` says whether a mirror keeps the meaning (not for
characters). Images that
are not uint8 (measured bands) keep their unit: for them there are no colour operations.
Letters: B batch, K channels, S stored side, T side that the network sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from litscope.data.sampler import fold
from litscope.shown import enlarge, evaluation, to_float
from litscope.types import Interpolation

Policy = Literal["none", "default", "strong", "autoaugment"]

OPERATIONS = (
    "identity",
    "shear_x",  # up to 0.3
    "shear_y",
    "translate_x",  # up to 0.3 of the side
    "translate_y",
    "rotate",  # up to 30 degrees
    "brightness",  # times 0.1 to 1.9, like the next three
    "contrast",
    "saturation",
    "sharpness",
    "posterize",  # 8 to 4 bits
    "solarize",  # inverts what is above a threshold in [0, 1]
    "autocontrast",
)

SMALL = 64
"""Stored sides up to this are cropped with padding; larger ones by a random resized crop."""

_CACHED = 2**20
"""Values that a CPU works on at a time: what stays in its cache is two to five times as fast."""

_AUGMENT = 0x61756761  # keeps these hashes apart from those of the order
_FLIP = 0x666C6970
_DRAWS = ("top", "left", "area", "aspect", "angle", "brightness", "contrast", "saturation")
_STRONG_DRAWS = (*_DRAWS, "erase", "erase_area", "erase_aspect", "erase_top", "erase_left")
_AUTO_DRAWS = (*_DRAWS, "operation", "strength", "sign")


def uniforms(sample_id: Tensor, key: int, count: int) -> Tensor:
    """(B, count) float32 in [0, 1): a pure function of each id (B,) int64 and the 64-bit key."""
    base = _mix(sample_id ^ _signed(key))
    counter = torch.arange(count, dtype=torch.int64, device=sample_id.device) * _signed(0x9E3779B97F4A7C15)
    bits = _shift(_mix(base[:, None] + counter), 40)  # 24 bits: every value is exact in float32
    return bits.to(torch.float32) * 2.0**-24


def _mix(value: Tensor) -> Tensor:
    """splitmix64 in wrapping int64 arithmetic; equal to `sampler.hash_ids` bit for bit."""
    z = value + _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift(z, 31)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own keeps the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


@dataclass(frozen=True)
class Augmentation:
    """The training transform.

    Attributes:
        policy: see the table above.
        size: T.
        seed: with epoch and sample_id, decides every draw.
        flip: whether half of the images are mirrored, each in every other epoch.
        padding: pixels around images of at most 64 stored pixels before the crop; None: an eighth of their side.
        crop_pct, interpolation: of the policy `none`, see `evaluation`. Random crops are resampled bilinearly.
    """

    policy: Policy
    size: int
    seed: int
    flip: bool
    padding: int | None = None
    crop_pct: float | None = None
    interpolation: Interpolation = "bilinear"

    def evaluated(self, image: Tensor) -> Tensor:
        """(B, K, S, S) as it is evaluated, (B, K, T, T) float32; see `evaluation`."""
        return evaluation(image, self.size, self.crop_pct, self.interpolation)

    def __call__(self, image: Tensor, sample_id: Tensor, epoch: int) -> Tensor:
        """Augment one batch.

        Args:
            image: (B, K, S, S), uint8 or float.
            sample_id: (B,) int64 on the same device.
            epoch: of the batch.
        Returns:
            (B, K, T, T) float32.
        """
        if self.policy == "none":
            return self.evaluated(image)
        per_image = image.shape[1] * self.size**2
        count = max(1, _CACHED // per_image) if image.device.type == "cpu" else len(image)
        if count >= len(image):
            return self._augment(image, sample_id, epoch)
        out = torch.empty((len(image), image.shape[1], self.size, self.size))
        for start in range(0, len(image), count):
            part = slice(start, start + count)
            out[part] = self._augment(image[part], sample_id[part], epoch)
        return out

    def _augment(self, image: Tensor, sample_id: Tensor, epoch: int) -> Tensor:
        names = {"strong": _STRONG_DRAWS, "autoaugment": _AUTO_DRAWS}.get(self.policy, _DRAWS[:4])
        values = uniforms(sample_id, fold(self.seed, _AUGMENT, epoch), len(names))
        draw = dict(zip(names, values.unbind(1), strict=True))
        is_byte = image.dtype == torch.uint8
        mirror = is_mirrored(sample_id, epoch, self.seed) if self.flip else None
        out = self._frame(image, draw, mirror)
        if is_byte and self.policy == "strong":
            factors = (0.6 + 0.8 * draw[name] for name in ("brightness", "contrast", "saturation"))
            out = _colour(out, *factors)
        if is_byte and self.policy == "autoaugment":
            out = _one_colour_operation(out, draw)
        return self._erase(out, draw) if self.policy == "strong" else out

    def _frame(self, image: Tensor, draw: dict[str, Tensor], mirror: Tensor | None) -> Tensor:
        """Crop, flip and geometry: (B, K, S, S) to float (B, K, T, T)."""
        is_small = image.shape[-1] <= SMALL
        matrix = self._geometry(draw, image.device)
        if not is_small:
            return _resample(to_float(image.contiguous()), _crop(draw, mirror, matrix), self.size)
        out = to_float(crop_and_flip(image, draw["top"], draw["left"], mirror, self.padding))
        if matrix is not None:
            out = _resample(out, matrix, out.shape[-1])
        return enlarge(out, self.size)

    def _geometry(self, draw: dict[str, Tensor], device: torch.device) -> Tensor | None:
        """(B, 2, 3) output to input coordinates in [-1, 1], or None where the policy has none."""
        if self.policy == "strong":
            return _affine((2 * draw["angle"] - 1) * math.radians(15), *torch.zeros(4, 1, device=device))
        if self.policy != "autoaugment":
            return None
        operation = _operation(draw)
        amount = draw["strength"] * torch.where(draw["sign"] < 0.5, -1.0, 1.0)
        shear_x, shear_y, shift_x, shift_y, turn = (
            torch.where(operation == OPERATIONS.index(name), amount * limit, 0.0)
            for name, limit in (
                ("shear_x", 0.3),
                ("shear_y", 0.3),
                ("translate_x", 0.6),  # the side is 2 long in these coordinates
                ("translate_y", 0.6),
                ("rotate", math.radians(30)),
            )
        )
        return _affine(turn, shear_x, shear_y, shift_x, shift_y)

    def _erase(self, image: Tensor, draw: dict[str, Tensor]) -> Tensor:
        """Fill a rectangle of 2-20 % of the area with the image's mean, in one image of four (Zhong et al. 2020)."""
        side = image.shape[-1]
        area = 0.02 + 0.18 * draw["erase_area"]
        aspect = torch.exp((2 * draw["erase_aspect"] - 1) * math.log(3))
        height, width = (area * aspect).sqrt() * side, (area / aspect).sqrt() * side
        top, left = draw["erase_top"] * (side - height), draw["erase_left"] * (side - width)
        line = torch.arange(side, device=image.device, dtype=torch.float32)
        rows = (line >= top[:, None]) & (line < (top + height)[:, None]) & (draw["erase"] < 0.25)[:, None]
        columns = (line >= left[:, None]) & (line < (left + width)[:, None])
        mask = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, T, T)
        return torch.where(mask, image.mean((2, 3), keepdim=True), image)


def is_mirrored(sample_id: Tensor, epoch: int, seed: int) -> Tensor:
    """(B,) bool: whether each image is flipped; by a bit of a hash in even epochs, the contrary in odd ones."""
    in_even_epochs = _mix(sample_id ^ _signed(fold(seed, _FLIP))) < 0
    return ~in_even_epochs if epoch % 2 else in_even_epochs


def crop_and_flip(
    image: Tensor, top: Tensor, left: Tensor, mirror: Tensor | None, padding: int | None = None
) -> Tensor:
    """Crop a window of the same size from each padded (reflected) image, then mirror it.

    One gather of whole pixels: padding, crop and flip are arithmetic on the source position.

    Args:
        image: (B, K, S, S), any type; fastest in channels-last memory.
        top, left: (B,) in [0, 1): where the window lies.
        mirror: (B,) bool, or None.
        padding: pixels on each side, less than S; None is an eighth of S.
    Returns:
        (B, K, S, S) of the same type, in channels-last memory.
    """
    batch, channels, side, _ = image.shape
    pad = padding if padding is not None else min(max(1, side // 8), side - 1)
    line = torch.arange(side, device=image.device)
    rows = line + (top * (2 * pad + 1)).long()[:, None] - pad  # (B, S)
    columns = line.expand(batch, side) if mirror is None else torch.where(mirror[:, None], side - 1 - line, line)
    columns = columns + (left * (2 * pad + 1)).long()[:, None] - pad
    first = torch.arange(batch, device=image.device)[:, None] * side
    source = (first + _reflect(rows, side))[:, :, None] * side + _reflect(columns, side)[:, None, :]
    pixels = image.permute(0, 2, 3, 1).reshape(batch * side * side, channels)
    return pixels.index_select(0, source.view(-1)).view(batch, side, side, channels).permute(0, 3, 1, 2)


def _reflect(position: Tensor, side: int) -> Tensor:
    """Positions outside [0, side) mirrored back in, without repeating the border."""
    return (side - 1) - ((side - 1) - position.abs()).abs()


def _affine(turn: Tensor, shear_x: Tensor, shear_y: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """(B, 2, 3) matrices of a rotation by `turn` (radians) after shears, with a shift."""
    cos, sin = turn.cos(), turn.sin()
    parts = (cos + sin * shear_y, cos * shear_x + sin, shift_x, cos * shear_y - sin, cos - sin * shear_x, shift_y)
    full = torch.broadcast_tensors(*parts)  # type: ignore[no-untyped-call]
    return torch.stack(full, dim=1).view(-1, 2, 3)


def _crop(draw: dict[str, Tensor], mirror: Tensor | None, matrix: Tensor | None) -> Tensor:
    """(B, 2, 3): a random resized crop, mirrored where asked, of the image that `matrix` has moved."""
    area = 0.35 + 0.65 * draw["area"]
    aspect = torch.exp((2 * draw["aspect"] - 1) * math.log(4 / 3))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    centre_x, centre_y = (1 - width) * (2 * draw["left"] - 1), (1 - height) * (2 * draw["top"] - 1)
    across = width if mirror is None else torch.where(mirror, -width, width)
    none = torch.zeros_like(width)
    crop = torch.stack((across, none, centre_x, none, height, centre_y), dim=1).view(-1, 2, 3)
    if matrix is None:
        return crop
    moved = matrix[:, :, :2] @ crop
    return torch.cat((moved[:, :, :2], moved[:, :, 2:] + matrix[:, :, 2:]), dim=2)


def _resample(image: Tensor, matrix: Tensor, size: int) -> Tensor:
    """Bilinear resampling of float (B, K, S, S) at `matrix` (B, 2, 3); what lies outside is reflected."""
    line = (torch.arange(size, device=image.device, dtype=torch.float32) * 2 + 1) / size - 1
    grid = matrix[:, None, None, :, 0] * line[None, None, :, None] + matrix[:, None, None, :, 2]
    grid = grid + matrix[:, None, None, :, 1] * line[None, :, None, None]  # (B, T, T, 2)
    # The kernel for plain contiguous images is twice as fast on a CPU as the one for channels-last.
    return F.grid_sample(image.contiguous(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _colour(image: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, contrast and saturation of images in [0, 1] by factors (B,), in this order."""
    image = image * brightness[:, None, None, None]
    image = _blend(image.mean((1, 2, 3), keepdim=True), image, contrast)
    if image.shape[1] > 1:
        image = _blend(image.mean(1, keepdim=True), image, saturation)
    return image.clamp_(0, 1)


def _blend(base: Tensor, image: Tensor, factor: Tensor) -> Tensor:
    """`base` where the factor (B,) is 0, `image` where it is 1, beyond it where it is larger; one pass."""
    factor = factor[:, None, None, None]
    return torch.addcmul(base * (1 - factor), image, factor)


def _blur(image: Tensor) -> Tensor:
    """Mean of 3 x 3 pixels, the border repeated. (torch's pooling takes twenty times as long on a CPU.)"""
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]).mul_(1 / 9)


def _operation(draw: dict[str, Tensor]) -> Tensor:
    """(B,) int64, index into `OPERATIONS`."""
    return (draw["operation"] * len(OPERATIONS)).long()


def _one_colour_operation(image: Tensor, draw: dict[str, Tensor]) -> Tensor:
    """Apply to each image the colour operation that it drew, if it drew one.

    All are computed for the whole batch and chosen by mask: choosing rows would wait for the device.
    """
    operation, strength = _operation(draw), draw["strength"]

    def chosen(name: str) -> Tensor:
        return operation == OPERATIONS.index(name)

    factor = 0.1 + 1.8 * strength
    factors = [torch.where(chosen(name), factor, 1.0) for name in ("brightness", "contrast", "saturation", "sharpness")]
    out = _colour(image, *factors[:3])
    out = _blend(_blur(out), out, factors[3]).clamp_(0, 1)
    levels = torch.exp2(8 - (strength * 5).floor())[:, None, None, None]
    low, high = out.amin((2, 3), keepdim=True), out.amax((2, 3), keepdim=True)
    for name, result in (
        ("posterize", (out * (255 / 256) * levels + 1e-3).floor() / levels * (256 / 255)),
        ("solarize", torch.where(out > 1 - strength[:, None, None, None], 1 - out, out)),
        ("autocontrast", (out - low) / (high - low).clamp_min(1 / 255)),
    ):
        out = torch.where(chosen(name)[:, None, None, None], result, out)
    return out
