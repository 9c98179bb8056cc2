"""The names of all architectures, read off the sources of timm and torchvision: neither is imported, nor torch.

Importing them takes seconds, and who presses Tab waits for the names. `tests/models/test_backbones.py` compares them
with what the two libraries list.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

OWN = ("convnet", "mlp", "whitenet")
"""Our own."""

_REGISTERED = re.compile(rb"@register_model(?:\(\))?\n(?:@[^\n]*\n)*def (\w+)\(")
"""How a module of either library says that a function builds an architecture of its name."""


@cache
def architectures() -> tuple[str, ...]:
    """Every name that `--arch` may have, sorted."""
    found = set(OWN)
    for package in ("timm", "torchvision"):
        spec = importlib.util.find_spec(package)  # of a package at the top: it is not imported
        for place in (spec and spec.submodule_search_locations) or ():
            for path in Path(place, "models").glob("*.py"):
                found.update(name.decode() for name in _REGISTERED.findall(path.read_bytes()))
    return tuple(sorted(found))
