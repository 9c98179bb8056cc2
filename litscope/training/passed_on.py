"""What a caller brings, metrics and callbacks, on the way to the other processes of a run.

A recipe cannot hold them, so they are pickled.

What one process of a run hands to another that it starts is no file from elsewhere: nothing else is ever unpickled.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as L
from torchmetrics import Metric

from litscope.errors import ConfigError

FILE, PATHS = "brought.pickle", "brought.path"
"""Files of a worker process, beside that of its recipe: what was brought, and where its modules are found."""


class Brought(NamedTuple):
    """What a call in Python brings beside a recipe."""

    metrics: dict[str, Metric]
    callbacks: list[L.Callback]


def packed(metrics: Mapping[str, Metric], callbacks: Sequence[L.Callback]) -> dict[str, bytes]:
    """The files that a worker process needs for them: none where there are none.

    Raises:
        ConfigError: for an object that another process cannot make again.
    """
    if not metrics and not callbacks:
        return {}
    named: dict[str, object] = {f"metrics[{name!r}]": metric for name, metric in metrics.items()}
    for name, one in {**named, **{f"callbacks[{i}]": one for i, one in enumerate(callbacks)}}.items():
        try:
            is_local = b"__main__" in pickle.dumps(one)  # a class that stands there is sought in the worker's
        except Exception as error:  # whatever an object raises that cannot be pickled
            raise _apart(name, str(error)) from error
        if is_local:
            raise _apart(name, f"{type(one).__name__} stands in the script itself, or a notebook")
    return {PATHS: "\n".join(sys.path).encode(), FILE: pickle.dumps((dict(metrics), list(callbacks)))}


def unpacked(recipe_file: Path) -> Brought:
    """What `packed` put beside the recipe of this worker process."""
    file = recipe_file.with_name(FILE)
    if not file.exists():
        return Brought({}, [])
    known = set(sys.path)
    sys.path += [place for place in file.with_name(PATHS).read_text().split("\n") if place not in known]
    return Brought(*pickle.loads(file.read_bytes()))


def _apart(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"{name}: other processes of the run cannot have it: {why.rstrip('.')}. Put its class into a module "
        "of its own and import it from there, or train on one device (devices=1)."
    )
