"""The parts of a network that are gathered, or computed again, one at a time: its repeated blocks, or large parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

import torch
from torch import nn

from litscope.models.networks.heads import in_evaluation

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def blocks_of(net: nn.Module) -> dict[str, nn.Module]:
    """The repeated blocks of a network, by name and in order, the innermost: no block has another in it.

    A block has several layers and stands in a sequence beside others of its class: `layer1.0` of a ResNet, `blocks.3`
    of a transformer, `stages.2.blocks.1` of a ConvNeXt. A sequence of single layers has none.
    """
    return _blocks_below(net, "")


def _blocks_below(module: nn.Module, name: str) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    children = list(module.named_children())
    classes = Counter(type(part) for _, part in children if _has_layers(part))
    is_sequence = isinstance(module, _CONTAINERS) and max(classes.values(), default=0) > 1
    for child, part in children:
        full = _joined(name, child)
        inner = _blocks_below(part, full)
        found |= inner or ({full: part} if is_sequence and _has_layers(part) else {})
    return found


def _has_layers(module: nn.Module) -> bool:
    """Whether it has several layers; a norm beside a layer is none."""
    return sum(any(p.ndim > 1 for p in part.parameters(recurse=False)) for part in module.modules()) > 1


def large_parts(net: nn.Module, least: int, called: Collection[str]) -> dict[str, nn.Module]:
    """Parts with at least `least` parameters each, those of the parts inside them left out; the innermost first.

    The network as a whole is none of them.

    Args:
        called: names of the parts that may be one, see `called_parts`.
    """
    found: dict[str, nn.Module] = {}

    def visit(module: nn.Module, name: str) -> int:
        count = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        count += sum(visit(part, _joined(name, child)) for child, part in module.named_children())
        if count < least or name not in called:
            return count
        found[name] = module
        return 0

    visit(net, "")
    return found


def called_parts(net: nn.Module, forward: Callable[[], object]) -> set[str]:
    """Names of the parts that are called in a forward pass. Others lend their weights to the part around them (as the
    projections of an attention may), and cannot be gathered by themselves.

    Args:
        forward: calls the network; in evaluation mode and without gradients.
    """
    seen: set[str] = set()
    handles = [
        part.register_forward_pre_hook(lambda *_, name=name: seen.add(name))
        for name, part in net.named_modules()
        if name
    ]
    try:
        with in_evaluation(net), torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def in_words(parts: dict[str, nn.Module]) -> str:
    """`layer1.0 ... layer4.1 (8 BasicBlock)`: the first and the last name, and how many there are of each class."""
    names = list(parts)
    shown = f"{names[0]} ... {names[-1]}" if len(names) > 2 else " and ".join(names)
    classes = Counter(type(part).__name__ for part in parts.values())
    return f"{shown} ({', '.join(f'{count} {name}' for name, count in classes.items())})"


def _joined(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child
