"""Weights to start from: a local file, or what timm and torchvision offer for download.

Nothing here waits for a network that does not answer: before a download starts, the host gets a few
seconds to show that it can be reached.
"""

from __future__ import annotations

import os
import pickle
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from litscope.errors import ModelError
from litscope.models.archive import check_archive

REACH_S = 2.5
"""How long the host of pretrained weights may take to answer."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training programs keep the state dict in a checkpoint."""

PREFIXES = ("net.", "module.", "model.", "backbone.", "_orig_mod.")
"""What Lightning, DDP and torch.compile put before the names; ours is `net.`."""


# ---- local files -----------------------------------------------------------------------------


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a weights file: .safetensors, or what torch.save wrote of tensors alone.

    Raises:
        ModelError: if the file is missing, damaged, or holds more than plain data (it is never unpickled).
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"There is no weights file {file}.")
    try:
        content = _read(file)
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
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ModelError(f"{file} holds a {type(content).__name__}, not a state dict (name -> tensor).")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise ModelError(f"{file} holds no tensors by name. Save them with torch.save(model.state_dict(), path).")
    return state


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    check_archive(file)
    return torch.load(file, map_location="cpu", weights_only=True)


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
    one, repeated and rescaled for more); a head of another shape keeps its random start.

    Args:
        origin: where the tensors come from, for the messages.

    Returns:
        One line: what was loaded, and what was not.

    Raises:
        ModelError: if nothing fits.
    """
    own = net.state_dict()
    state = without_prefix(state, set(own))
    fitting: dict[str, Tensor] = {}
    left_out: list[str] = []
    for name, value in state.items():
        if name not in own:
            continue
        adapted = value if value.shape == own[name].shape else _adapted(value, own[name].shape)
        if adapted is None:
            left_out.append(f"{name} {tuple(value.shape)} (here {tuple(own[name].shape)})")
        else:
            fitting[name] = adapted
    if not any(value.is_floating_point() for value in fitting.values()):
        raise ModelError(
            f"{origin}: no tensor fits this network. It has {_few(sorted(own))}; the file has {_few(sorted(state))}. "
            "Was the file written by another --arch?"
        )
    net.load_state_dict(fitting, strict=False)
    absent = [name for name in own if name not in state]
    foreign = [name for name in state if name not in own]
    parts = [f"{origin}: {len(fitting)} of {len(own)} tensors loaded"]
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


def _few(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


# ---- pretrained weights from the hub ---------------------------------------------------------


def timm_weights(name: str) -> Path | str | None:
    """Where timm's pretrained weights of an architecture are: a file in the cache, else a URL; None without any."""
    import timm

    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return None
    if config.hf_hub_id:
        from huggingface_hub import constants, try_to_load_from_cache

        names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        for filename in names:
            cached = try_to_load_from_cache(config.hf_hub_id, filename)
            if isinstance(cached, str):
                return Path(cached)
        return f"{constants.ENDPOINT}/{config.hf_hub_id}"
    if config.url:
        url = str(config.url)
        return _cached_by_torch(url) or url
    return str(config.file) if config.file else None


def torchvision_weights(name: str) -> Path | str | None:
    """Where torchvision's default weights are: a file in the cache, else a URL; None without any."""
    import torchvision

    choices = list(torchvision.models.get_model_weights(name))
    if not choices:
        return None
    url: str = torchvision.models.get_model_weights(name).DEFAULT.url
    return _cached_by_torch(url) or url


def _cached_by_torch(url: str) -> Path | None:
    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(url).path).name)
    return file if file.is_file() else None


def unreachable(url: str, timeout_s: float = REACH_S) -> str | None:
    """Why the host of `url` cannot be reached, or None when it answers, whatever the answer."""
    if (forbidden := _forbidden(url)) is not None:
        return forbidden
    host = urlsplit(url).netloc
    answer: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=timeout_s):
                answer.append(None)
        except urllib.error.HTTPError:
            answer.append(None)
        except (OSError, ValueError) as error:
            answer.append(f"{host}: {getattr(error, 'reason', error)}")

    # A name server that does not answer blocks beyond any socket timeout, so the question has a thread of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answer[0] if answer else f"{host} does not answer"


def _forbidden(url: str) -> str | None:
    """Why this process may not ask the host of `url`, or None when it may."""
    return "HF_HUB_OFFLINE is set" if _is_offline() and "huggingface" in urlsplit(url).netloc else None


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


Origin = Literal["own", "timm", "torchvision"]


def weights_place(origin: Origin, name: str) -> Path | str | None:
    """Where pretrained weights of an architecture are: a file that is here, else a URL; None without any."""
    if origin == "own":
        return None
    return timm_weights(name) if origin == "timm" else torchvision_weights(name)


def pretrained_problem(origin: Origin, name: str, *, ask: bool = True) -> str | None:
    """Why pretrained weights of an architecture cannot be had, or None when they can.

    Args:
        ask: whether the weights' host may be asked; if not, it counts as one that answers.
    """
    place = weights_place(origin, name)
    if place is None:
        return "there are none for it" if origin == "own" else f"{origin} has none for it"
    if isinstance(place, Path):
        return None
    return unreachable(place) if ask else _forbidden(place)
