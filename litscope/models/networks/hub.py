"""Where pretrained weights are: an installed package, a file in a cache, or a host to download them from.

Nothing here waits for a network that does not answer: before a download starts, the host gets a few
seconds to show that it can be reached.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import torch

from litscope.models.networks.packaged import packaged_file

REACH_S = 2.5
"""How long the host of pretrained weights may take to answer."""


def timm_weights(name: str) -> Path | str | None:
    """Where timm's pretrained weights of an architecture are: a file in the cache, else a URL; None without any."""
    import timm

    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return None
    if config.hf_hub_id:
        return hub_place(config.hf_hub_id, config.hf_hub_filename)
    if config.url:
        url = str(config.url)
        return _cached_by_torch(url) or url
    return str(config.file) if config.file else None


def hub_place(repository: str, filename: str | None = None) -> Path | str:
    """Where a file of a repository on the Hugging Face hub is: in the cache, else the URL of the repository.

    Args:
        repository: owner/name, perhaps with @revision.
        filename: default: that of its weights.
    """
    import huggingface_hub
    from huggingface_hub import constants

    name, _, revision = repository.partition("@")
    for wanted in [filename] if filename else ["model.safetensors", "pytorch_model.bin"]:
        cached = huggingface_hub.try_to_load_from_cache(name, wanted, None, revision or None)
        if isinstance(cached, str):
            return Path(cached)
    return f"{constants.ENDPOINT}/{name}"


def torchvision_weights(name: str) -> Path | str | None:
    """Where torchvision's default weights are: a file in the cache, else a URL; None without any."""
    import torchvision

    choices = list(torchvision.models.get_model_weights(name))
    return torchvision_place(torchvision.models.get_model_weights(name).DEFAULT) if choices else None


def torchvision_place(weights: Any) -> Path | str:
    """Where the weights of a torchvision `WeightsEnum` are: a file in the cache, else a URL."""
    url: str = weights.url
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
    if origin == "torchvision":
        return torchvision_weights(name)
    place = timm_weights(name)
    return place if isinstance(place, Path) else packaged_file(name) or place


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
