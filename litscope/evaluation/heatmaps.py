"""Where in an image a network finds what speaks for a class: a map for one image and one class.

    convolutions   Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) on the last map of features that has places. The
                   gradient is taken at each place (HiResCAM, Draelos and Carin 2020, arXiv:2011.08891), not as its
                   mean over all: the same where the head averages the map, and true where it does not, as in `convnet`
    attention      roll-out (Abnar and Zuidema 2020, arXiv:2005.00928), each head weighted by the gradient of the class
                   (Chefer et al. 2021, arXiv:2103.15679), read off at the tokens that the head of the network reads:
                   the class token, or all that it averages

Attention within windows, as in Swin, has no roll-out: these networks have a map of features, and get the first. Both
are a few lines of torch; captum and pytorch-grad-cam leave to the caller which layer holds the map, where its channels
are, and which tokens are read, and that is most of the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from litscope.errors import ModelError
from litscope.models.forward import Forward

Method = Literal["Grad-CAM", "attention roll-out"]


@dataclass(frozen=True)
class Heatmap:
    """What speaks for a class, and where.

    Attributes:
        values: (g, g) float32 from 0 to 1, over the square that the network sees; all 0 where nothing speaks for it.
        method: how it was found.
    """

    values: NDArray[Any]
    method: Method


def heatmap(predictor: Forward, image: Tensor, label: int) -> Heatmap:
    """The map of one image.

    Args:
        predictor: in evaluation mode, on the image's device.
        image: (1, K, T, T) float in [0, 1], as the network sees it.
        label: the class.

    Raises:
        ModelError: if the network has no places: no map of features, and no attention between parts of the image; for
            several networks.
    """
    if predictor.whole_members is not None:
        raise ModelError(
            f"{predictor.settings.name} are several networks, which find what they say in places of their own. Give a "
            "run of one network."
        )
    with torch.enable_grad(), _attention_seen() as attention, _maps_seen(predictor, image.shape[-1]) as maps:
        logit = predictor(image.detach().clone().requires_grad_())[0, label]
        rolled = _rolled_out(logit, attention, image.shape[-1])
        if rolled is not None:
            return Heatmap(_scaled(rolled - rolled.min()), "attention roll-out")  # a part of it comes from everywhere
        if not maps:
            raise ModelError(
                f"{predictor.settings.name} has neither convolutions nor attention, so nothing in it tells where in an "
                "image something is. Use convnet, or another network."
            )
        features = maps[-1]
        (gradient,) = torch.autograd.grad(logit, features)
        found = (features * gradient).sum(_channels(features))[0]
    return Heatmap(_scaled(found), "Grad-CAM")


def _scaled(found: Tensor) -> NDArray[Any]:
    """What speaks for the class, as shares of its largest value."""
    found = found.detach().float().relu()
    largest = found.max()
    return (found / largest if largest > 0 else found).cpu().numpy()


# ---- maps of features ------------------------------------------------------------------------------


@contextmanager
def _maps_seen(net: nn.Module, image_size: int) -> Iterator[list[Tensor]]:
    """Collect what the parts of a network return that has places, in the order in which they do."""
    seen: list[Tensor] = []

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if type(module).__name__.endswith("Pool2d"):  # coarser than what it pools, and it tells no more
            return
        if isinstance(output, Tensor) and output.requires_grad and _has_places(output, image_size):
            seen.append(output)

    handles = [module.register_forward_hook(look) for module in net.modules() if module is not net]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _has_places(output: Tensor, image_size: int) -> bool:
    """Whether it is one image's map: (1, C, g, g) or (1, g, g, C), of several places."""
    if output.ndim != 4 or len(output) != 1:
        return False
    side = output.shape[2]
    return 1 < side <= image_size and side in (output.shape[1], output.shape[3])


def _channels(features: Tensor) -> int:
    """The axis of channels of a map."""
    return 1 if features.shape[2] == features.shape[3] else 3


# ---- attention -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Attended:
    """One attention: weights (1, H, Q, K) from queries to keys, and what it returned, (1, H, Q, D)."""

    weights: Tensor
    output: Tensor


@contextmanager
def _attention_seen() -> Iterator[list[_Attended]]:
    """Collect the weights of every attention. timm and torchvision call the same function of torch, which keeps none.

    (A `TorchFunctionMode` would end at `multi_head_attention_forward`, which torchvision calls it through.)
    """
    seen: list[_Attended] = []
    original = F.scaled_dot_product_attention

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **more: Any,
    ) -> Tensor:
        if is_causal or more.get("enable_gqa") or query.ndim != 4:
            return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **more)
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        weights = scores.softmax(-1)
        output = weights @ value
        seen.append(_Attended(weights, output))
        return output

    F.scaled_dot_product_attention = attend  # type: ignore[assignment]
    try:
        yield seen
    finally:
        F.scaled_dot_product_attention = original


def _rolled_out(logit: Tensor, attention: list[_Attended], image_size: int) -> Tensor | None:
    """(g, g) how much of each part of the image comes through to the class; None where attention does not tell.

    It tells where all parts attend to all, in one grid, from the first attention to the last.
    """
    whole = [one for one in attention if one.weights.shape[-1] == one.weights.shape[-2]]
    pools = [one for one in attention if one.weights.shape[-2] == 1]
    if not whole or len(whole) + len(pools) < len(attention) or len(pools) > 1:
        return None
    num = whole[0].weights.shape[-1]
    side = math.isqrt(num)
    if side < 2 or image_size % side or any(len(o.weights) != 1 or o.weights.shape[-1] != num for o in attention):
        return None
    at = [one.weights for one in (*whole, *pools)]
    *gradients, read = torch.autograd.grad(logit, [*at, whole[-1].output])
    *steps, last = [(weights * gradient).relu().mean(1)[0] for weights, gradient in zip(at, gradients, strict=True)]
    rolled = torch.eye(num, device=logit.device)
    for step in steps if pools else [*steps, last]:
        rolled = rolled + step @ rolled
    rows = last if pools else read.abs().sum((1, 3))  # (1, T): how much the class comes from each token
    relevance = rows @ (rolled - torch.eye(num, device=logit.device))
    return relevance[0, num - side**2 :].view(side, side)
