"""Weights to start from: the tensors of a file, and how they come into a network."""

from __future__ import annotations

import json
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from litscope.errors import ModelError
from litscope.models.archive import check_archive
from litscope.models.checkpoint_parts import joined, with_parts

HEADER = "litscope"
"""The key, in the header of a `.safetensors` file, of what `litscope export` says of its network."""

AVERAGED = ("state_dict_ema", "model_ema")
"""Keys under which timm and torchvision keep the averaged weights beside the others: those that they evaluate."""

WRAPPERS = (*AVERAGED, "state_dict", "model_state_dict", "model")
"""Keys under which training programs keep the state dict in a checkpoint."""

LEAST_LOADED = 0.5
"""Share of a network's tensors that weights must have, to be weights of that network."""

PREFIXES = ("net.", "module.", "model.", "backbone.", "_orig_mod.")
"""What Lightning, DDP and torch.compile put before the names; ours is `net.`."""


class WeightsFile(NamedTuple):
    """What a file of weights holds.

    Attributes:
        state: its tensors by name.
        part: which of the file's weights they are, where there are several; else "".
    """

    state: dict[str, Tensor]
    part: str = ""


def read_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """The tensors of a weights file: .safetensors, or what torch.save wrote of tensors alone. Of a file that has
    averaged weights beside the others, the averaged ones.

    Raises:
        ModelError: if the file is missing, damaged, or holds more than plain data (it is never unpickled).
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"There is no weights file {file}.")
    try:
        content = load_file(file)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file} holds Python objects, which litscope does not unpickle. Save the tensors alone: "
            "torch.save(model.state_dict(), path). "
            f"({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{file} cannot be read as weights: {error}. Allowed: .pt, .pth, .ckpt, .safetensors."
        ) from error
    part = ""
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            part = part or (f"the averaged weights ({wrapper})" if wrapper in AVERAGED else "")
    if not isinstance(content, Mapping):
        raise ModelError(f"{file} holds a {type(content).__name__}, not a state dict (name -> tensor).")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise ModelError(f"{file} holds no tensors by name. Save them with torch.save(model.state_dict(), path).")
    return WeightsFile(state, part)


def load_file(file: Path, *, mmap: bool = False) -> Any:
    """What a file of weights holds, on the CPU: plain data alone, nothing is unpickled.

    Args:
        mmap: read tensors only where they are looked at.

    Raises:
        OSError, ValueError, RuntimeError, pickle.UnpicklingError and others: if it is damaged, or holds more.
    """
    if file.suffix == ".safetensors":
        import safetensors.torch

        try:
            return safetensors.torch.load_file(file)
        except safetensors.SafetensorError as error:
            raise ValueError(str(error)) from error
    check_archive(file)
    return joined(with_parts(torch.load(file, map_location="cpu", weights_only=True, mmap=mmap), file, read=not mmap))


def description_in(file: Path) -> dict[str, Any] | None:
    """What the header of a `.safetensors` file says of its network, if `litscope export` wrote it; else None, also of a
    file that cannot be read: its reader tells.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            found = json.loads((opened.metadata() or {}).get(HEADER, "null"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def without_prefix(state: Mapping[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    """`state` under the names that a network uses: prefixes are taken off as long as that makes more names match."""
    best = dict(state)
    while True:
        tries = [_strip(best, prefix) for prefix in PREFIXES]
        better = max(tries, key=lambda s: len(names & s.keys()))
        # Two prefixes may lie on top of each other, so a change that matches nothing yet is kept if nothing did before.
        if len(names & better.keys()) <= len(names & best.keys()):
            nothing_yet = not names & best.keys()
            wrapped = [s for s in tries if len(s) == len(best) and s.keys() != best.keys()]
            if not (nothing_yet and wrapped):
                return best
            better = wrapped[0]
        best = better


def _strip(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_state(net: nn.Module, state: Mapping[str, Tensor], origin: str) -> str:
    """Copy into `net` every tensor whose name and shape fit.

    The first convolution is adapted to another number of input channels (timm's rule: summed for
    one, repeated and rescaled for more); positions in a grid of another size are resampled; a head of another shape
    keeps its random start.

    Args:
        origin: where the tensors come from, for the messages.

    Returns:
        One line: what was loaded, and what was not.

    Raises:
        ModelError: if fewer than half of the network's tensors are there, in a shape that fits.
    """
    own = net.state_dict()
    state = without_prefix(state, set(own))
    fitting: dict[str, Tensor] = {}
    left_out: list[str] = []
    resampled: list[str] = []
    for name, value in state.items():
        if name not in own:
            continue
        shape = own[name].shape
        differs = f"{name} {tuple(value.shape)} (here {tuple(shape)})"
        if value.shape == shape:
            fitting[name] = value
        elif (adapted := _adapted(value, shape)) is not None:
            fitting[name] = adapted
        elif (grid := _other_grid(name, value, shape)) is not None:
            fitting[name] = grid
            resampled.append(differs)
        else:
            left_out.append(differs)
    if not any(value.is_floating_point() for value in fitting.values()) or len(fitting) < LEAST_LOADED * len(own):
        fit = f"only {len(fitting)} of its {len(own)} tensors fit" if fitting else "no tensor fits"
        raise ModelError(
            f"{origin}: {fit} this network. It has {_few(sorted(own))}; the file has {_few(sorted(state))}. "
            "Was the file written by another --arch?"
        )
    net.load_state_dict(fitting, strict=False)
    absent = [name for name in own if name not in state]
    foreign = [name for name in state if name not in own]
    parts = [f"{origin}: {len(fitting)} of {len(own)} tensors loaded"]
    parts += [f"resampled to the grid of this image size: {_few(resampled)}"] if resampled else []
    parts += [f"left out, another shape: {_few(left_out)}"] if left_out else []
    parts += [f"not in the file: {_few(absent)}"] if absent else []
    parts += [f"not in the network: {_few(foreign)}"] if foreign else []
    return "; ".join(parts)


def _adapted(value: Tensor, shape: torch.Size) -> Tensor | None:
    """A first convolution's RGB weight (O, 3, h, w) for another number of channels; None where that is not it."""
    is_conv = value.ndim == 4 and len(shape) == 4
    if not (is_conv and value.shape[1] == 3 and value.shape[0] == shape[0] and value.shape[2:] == shape[2:]):
        return None
    from timm.models import adapt_input_conv

    adapted: Tensor = adapt_input_conv(shape[1], value)
    return adapted


def _other_grid(name: str, value: Tensor, shape: torch.Size) -> Tensor | None:
    """Positions of a transformer's parts of an image, (1, p + g * g, D), for a grid of another size; None where they
    are none. The p rows before them, of the class token and its like, stay.
    """
    is_positions = name.endswith(("pos_embed", "pos_embedding")) and value.ndim == len(shape) == 3
    if not (is_positions and value.shape[0] == shape[0] == 1 and value.shape[2] == shape[2]):
        return None
    for num_before in range(3):  # a class token, and that of distillation
        num_there, num_here = value.shape[1] - num_before, shape[1] - num_before
        if min(num_there, num_here) > 0 and all(math.isqrt(num) ** 2 == num for num in (num_there, num_here)):
            from timm.layers import resample_abs_pos_embed

            resampled: Tensor = resample_abs_pos_embed(value, [math.isqrt(num_here)] * 2, num_prefix_tokens=num_before)
            return resampled
    return None


def _few(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
