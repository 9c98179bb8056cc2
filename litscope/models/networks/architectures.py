"""Architectures by name: ours first, then timm's, then what only torchvision has (vit_b_16, swin_t, ...).

`torchvision/resnet18` and `timm/resnet18` say which of the two.
"""

from __future__ import annotations

import fnmatch

from litscope.errors import ModelError, did_you_mean
from litscope.models.networks.hub import Origin
from litscope.models.networks.names import OWN


def list_models(pattern: str = "*") -> list[str]:
    """Names of all architectures that match a glob or contain a word, ignoring case; sorted."""
    glob = pattern.lower() if any(c in pattern for c in "*?[") else f"*{pattern.lower()}*"
    return sorted(fnmatch.filter(all_names(), glob))


def all_names() -> set[str]:
    """Every name, those of torchvision without what says so."""
    import timm

    return {*OWN, *timm.list_models(), *torchvision_names()}


def torchvision_names() -> list[str]:
    """What torchvision has of classifiers."""
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def resolve(arch: str) -> tuple[Origin, str]:
    """Where an architecture comes from, and its name there.

    Case and hyphens do not matter (`ResNet18`, `vit-b-16`).

    Raises:
        ModelError: for an unknown name, with the closest ones.
    """
    found = look_up(arch)
    if found is not None:
        return found
    raise ModelError(
        f"There is no architecture {arch!r}: it is in neither timm nor torchvision."
        f"{did_you_mean(arch.lower().replace('-', '_'), all_names())} `litscope models PATTERN` lists the names."
    )


def look_up(arch: str) -> tuple[Origin, str] | None:
    """As `resolve`; None for an unknown name."""
    if arch in OWN:
        return "own", arch
    import timm

    given, _, rest = arch.partition("/")
    only = given if given in ("timm", "torchvision") and rest else None
    for name in dict.fromkeys([rest if only else arch, (rest if only else arch).lower().replace("-", "_")]):
        if name in OWN and only is None:
            return "own", name
        if only != "torchvision" and timm.is_model(name):
            return "timm", name
        if only != "timm" and name in torchvision_names():
            return "torchvision", name
    return None
