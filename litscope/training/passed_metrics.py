"""The caller's own metrics, on the way to the other processes of a run. A recipe cannot hold them, so they are pickled.

What one process of a run hands to another that it starts is no file from elsewhere: nothing else is ever unpickled.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

from torchmetrics import Metric

from litscope.errors import ConfigError

FILE, PATHS = "metrics.pickle", "metrics.path"
"""Files of a worker process, beside that of its recipe: the metrics, and where their modules are found."""


def packed(metrics: Mapping[str, Metric]) -> dict[str, bytes]:
    """The files that a worker process needs for them: none where there are none.

    Raises:
        ConfigError: for a metric that another process cannot make again.
    """
    if not metrics:
        return {}
    for name, metric in metrics.items():
        try:
            is_local = b"__main__" in pickle.dumps(metric)  # a class that stands there is sought in the worker's
        except Exception as error:  # whatever an object raises that cannot be pickled
            raise _apart(name, str(error)) from error
        if is_local:
            raise _apart(name, f"{type(metric).__name__} stands in the script itself, or a notebook")
    return {PATHS: "\n".join(sys.path).encode(), FILE: pickle.dumps(dict(metrics))}


def unpacked(recipe_file: Path) -> dict[str, Metric]:
    """What `packed` put beside the recipe of this worker process."""
    file = recipe_file.with_name(FILE)
    if not file.exists():
        return {}
    known = set(sys.path)
    sys.path += [place for place in file.with_name(PATHS).read_text().split("\n") if place not in known]
    metrics: dict[str, Metric] = pickle.loads(file.read_bytes())
    return metrics


def _apart(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"metrics[{name!r}]: other processes of the run cannot have it: {why.rstrip('.')}. Put its class into a module "
        "of its own and import it from there, or train on one device (devices=1)."
    )
