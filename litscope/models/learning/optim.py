"""Optimizers by name, with weight decay where it belongs.

adamw, adam, sgd (Nesterov) and rmsprop come from torch, in their fused form where there is one;
every other name from timm.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from litscope.defaults import OPTIMIZERS_OF_TORCH, default_weight_decay
from litscope.errors import ConfigError, did_you_mean
from litscope.models.networks.net_members import NetMembers
from litscope.models.shards import is_divided


def param_groups(
    net: nn.Module,
    weight_decay: float,
    head: nn.Module | None = None,
    body_lr_scale: float = 1.0,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """The trainable parameters in groups: decayed and not decayed, of a head before those of the body, of later layers
    before earlier ones.

    Biases, norms and everything else with at most one dimension are not decayed, nor what a timm
    network names in `no_weight_decay()` (position embeddings, class tokens). Frozen parameters are left out.

    Args:
        head: the part of `net` that is trained at the full rate; None: all of it.
        body_lr_scale: the share of the rate for the rest, a group's `lr_share`.
        layer_decay: of the rest, each layer's share of the rate of the layer after it (Clark et al. 2020,
            arXiv:2003.10555); the layers are those that timm names.

    Raises:
        ConfigError: if `layer_decay` is not 1 and the network does not say which its layers are.
    """
    exempt: set[str] = getattr(net, "no_weight_decay", set)()
    of_head = set() if head is None else set(head.parameters())
    depth_shares = {} if layer_decay == 1 else _depth_shares(net, layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            is_full = head is None or parameter in of_head
            share = 1.0 if is_full else body_lr_scale * depth_shares.get(parameter, 1.0)
            is_decayed = not (parameter.ndim <= 1 or name in exempt or name.endswith(".bias"))  # of members: (M, 1, C)
            groups.setdefault((share, is_decayed), []).append(parameter)
    return [
        {
            "params": groups[share, is_decayed],
            "weight_decay": weight_decay if is_decayed else 0.0,
            "is_decayed": is_decayed,
            "lr_share": share,
            "decay_share": 1.0,
        }
        for share, is_decayed in sorted(groups, reverse=True)
    ]


def member_groups(
    members: NetMembers, weight_decay: float, has_heads: bool, body_lr_scale: float, layer_decay: float
) -> list[dict[str, Any]]:
    """The groups of each of several networks, as it would have them alone; with the member's number, and its share of
    the rate and of the weight decay.

    Args:
        has_heads: whether the heads are trained at the full rate of their member, and the rest as the next two say.
        body_lr_scale, layer_decay: as of `param_groups`.
    """
    found: list[dict[str, Any]] = []
    for number, net in enumerate(members.nets):
        head = (members.heads[number] or nn.Identity()) if has_heads else None
        own = param_groups(net, weight_decay, head, body_lr_scale, layer_decay)
        for group in own:
            group["lr_share"] *= members.lr_shares[number]
            group["decay_share"], group["member"] = members.decay_shares[number], number
        found += own
    return found


def _depth_shares(net: nn.Module, layer_decay: float) -> dict[nn.Parameter, float]:
    """Parameter -> `layer_decay` to the power of its distance from the head, in layers."""
    from timm.optim import param_groups_layer_decay

    if not hasattr(net, "group_matcher"):
        raise ConfigError(
            f"layer_decay is {layer_decay:g}, and {type(net).__name__} does not say which its layers are (timm's "
            "networks do). Leave it out, or give 1."
        )
    with warnings.catch_warnings():  # timm says which parameters of the head it found no layer for
        warnings.simplefilter("ignore")
        groups = param_groups_layer_decay(net, layer_decay=layer_decay)
    return {parameter: float(group["lr_scale"]) for group in groups for parameter in group["params"]}


def set_weight_decay(optimizer: Optimizer, weight_decay: float) -> None:
    """Change the weight decay of an optimizer over `param_groups`; parameters that are not decayed stay so."""
    for group in optimizer.param_groups:
        if group["is_decayed"]:
            group["weight_decay"] = weight_decay * group.get("decay_share", 1.0)  # older checkpoints have none


def build_optimizer(
    net: nn.Module,
    name: str = "adamw",
    *,
    lr: float,
    weight_decay: float | None = None,
    momentum: float = 0.9,
    fused: bool = True,
    head: nn.Module | None = None,
    body_lr_scale: float = 1.0,
    layer_decay: float = 1.0,
) -> Optimizer:
    """An optimizer over the trainable parameters of `net`.

    Args:
        name: adamw, adam, sgd (Nesterov), rmsprop, or a name that `timm.optim.list_optimizers()` gives.
        lr: base learning rate, at least 0.
        weight_decay: None for what is usual, see `defaults.default_weight_decay`.
        momentum: of sgd and rmsprop; the first beta of the Adam family.
        fused: one kernel for all parameters where torch has it (floats on one CPU or CUDA device).
        head, body_lr_scale, layer_decay: see `param_groups`.

    Raises:
        ConfigError: for an unknown name, a value out of range, or an optimizer whose package is missing.
    """
    name = name.lower()
    if not lr >= 0:
        raise ConfigError(f"lr is {lr}; it must be at least 0.")
    decay = default_weight_decay(name) if weight_decay is None else weight_decay
    if not decay >= 0:
        raise ConfigError(f"weight_decay is {decay}; it must be at least 0.")
    if not 0.0 <= momentum < 1.0:
        raise ConfigError(f"momentum is {momentum}; it must lie in [0, 1).")
    if isinstance(net, NetMembers):
        groups = member_groups(net, decay, head is not None, body_lr_scale, layer_decay)
    else:
        groups = param_groups(net, decay, head, body_lr_scale, layer_decay)
    if not groups:
        raise ConfigError("The network has no trainable parameter, so there is nothing to optimize.")
    for group in groups:
        group["lr"] = lr * group["lr_share"]
        group["weight_decay"] *= group["decay_share"]
    fused = fused and _can_fuse(groups)
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999), fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=(momentum, 0.999), fused=fused)
        case "sgd":
            fused = fused and not _is_half_on_cpu(groups) and not _is_divided(groups)
            return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=lr, momentum=momentum)
        case _:
            return _from_timm(name, groups, lr, momentum)


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    parameters = [p for group in groups for p in group["params"]]
    devices = {p.device.type for p in parameters}
    return devices in ({"cpu"}, {"cuda"}) and all(p.is_floating_point() for p in parameters)


def _is_half_on_cpu(groups: list[dict[str, Any]]) -> bool:
    """Torch's fused SGD computes wrong steps there (2.13, from 16 elements on; its fused Adam and AdamW do not)."""
    parameters = [p for group in groups for p in group["params"]]
    return any(p.device.type == "cpu" and p.dtype in (torch.bfloat16, torch.float16) for p in parameters)


def _is_divided(groups: list[dict[str, Any]]) -> bool:
    """Torch has no fused SGD for weights that are divided over processes (2.13; it has Adam and AdamW)."""
    return any(is_divided(p) for group in groups for p in group["params"])


def _from_timm(name: str, groups: list[dict[str, Any]], lr: float, momentum: float) -> Optimizer:
    import timm.optim

    known = [str(name) for name in timm.optim.list_optimizers()]
    if name not in known:
        raise ConfigError(
            f"optimizer is {name!r}; allowed: {', '.join(OPTIMIZERS_OF_TORCH)}, or one of timm's {len(known)}"
            f" (python -c 'import litscope, timm.optim; print(timm.optim.list_optimizers())')."
            f"{did_you_mean(name, {*known, *OPTIMIZERS_OF_TORCH})}"
        )
    try:
        betas = inspect.signature(timm.optim.get_optimizer_class(name)).parameters.get("betas")
        changed: dict[str, Any] = (
            {"betas": (momentum, *betas.default[1:])} if betas is not None and momentum != 0.9 else {}
        )
        return timm.optim.create_optimizer_v2(groups, opt=name, lr=lr, momentum=momentum, **changed)
    except (ImportError, AssertionError, AttributeError) as error:
        raise ConfigError(
            f"optimizer {name!r} needs a package that is not installed ({error}). Install it, or take another."
        ) from error
