"""Weights that are divided over processes: whole ones of shares, and shares of whole ones.

A weight that torch's `fully_shard` has divided is a DTensor, of which this process holds a stretch of the first
dimension. Whatever is written down is whole, or a file of shares that is read as whole (`checkpoint_parts`); so nothing
that reads a checkpoint needs to know how its run was divided, and a run may go on with any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Rows(Protocol):
    """A tensor, or what stands for one, of which rows can be taken."""

    shape: torch.Size

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """`length` rows of the first dimension, from `start` on."""


def mapped(value: Any, is_it: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """Nested dictionaries, lists and tuples with `change` of each object in question in its place, in order."""
    if is_it(value):
        return change(value)
    if isinstance(value, dict):
        return {name: mapped(inner, is_it, change) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        items = [mapped(inner, is_it, change) for inner in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def is_divided(value: object) -> bool:
    """Whether this is a DTensor. (Its module takes as long to import as torch, and is not imported to ask.)"""
    return isinstance(value, Tensor) and hasattr(value, "device_mesh")


def has_shares(net: nn.Module | None) -> bool:
    """Whether the weights of a network are divided over processes."""
    return net is not None and any(is_divided(parameter) for parameter in net.parameters())


def own_share(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory: all of it, unless it is divided."""
    return tensor.to_local() if is_divided(tensor) else tensor  # type: ignore[attr-defined]


def gathered(value: Any, keep: bool) -> Any:
    """Nested values with whole tensors, on the CPU, in place of divided ones. Every process must call it.

    Args:
        keep: whether this process wants them; where it does not, they are empty, and one at a time takes memory.
    """

    def whole(tensor: Any) -> Tensor:
        full: Tensor = tensor.detach().full_tensor()
        return full.cpu() if keep else torch.empty(0)

    return mapped(value, is_divided, whole)


def shared_out(whole: Rows, like: Any) -> Tensor:
    """This process's share of a whole tensor, divided as `like` is and of its type; all of it where that is whole. What
    is divided already stays.

    Nothing is sent: each process reads its own rows.
    """
    if is_divided(whole):
        return whole  # type: ignore[return-value]
    if not is_divided(like):
        return whole if isinstance(whole, Tensor) else whole.narrow(0, 0, whole.shape[0])
    from torch.distributed.tensor import DTensor, Shard

    assert whole.shape == like.shape, f"{tuple(whole.shape)} is to be divided as {tuple(like.shape)}"
    assert like.placements == (Shard(0),), "fully_shard divides the first dimension"
    local = like.to_local()
    size = -(-whole.shape[0] // like.device_mesh.size())  # as torch.chunk: the last processes may have less, or nothing
    start = min(like.device_mesh.get_local_rank() * size, whole.shape[0])
    share = whole.narrow(0, start, len(local)).to(local, copy=True)
    return DTensor.from_local(
        share, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def load_weights(module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> None:
    """Load whole weights into a module, whether it is divided or not.

    Raises:
        RuntimeError: as `Module.load_state_dict`.
    """
    own = module.state_dict()
    fits = {name for name, value in state.items() if name in own and value.shape == own[name].shape}
    shares = {name: shared_out(value, own[name]) if name in fits else value for name, value in state.items()}
    module.load_state_dict(shares, strict=strict)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the whole state of an optimizer, whether its parameters are divided or not.

    Args:
        state: as `Optimizer.state_dict` of one whose parameters are whole: groups in the same order.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = [name for group in state["param_groups"] for name in group["params"]]
    of = dict(zip(names, parameters, strict=True))
    shares = {
        name: {
            key: shared_out(value, of[name]) if getattr(value, "shape", None) == of[name].shape else value
            for key, value in values.items()
        }
        for name, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": shares})
