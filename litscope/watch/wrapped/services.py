"""Beginning and end of a watched script. What serves in WeightsLab has nothing to do here: a run is a folder."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from litscope.console import say
from litscope.watch.wrapped import registry, shapes
from litscope.watch.wrapped.watched import current, end, forget, latest, written_run


def serve(**_: Any) -> None:
    """Say where the run's folder is. The page that shows a run does not exist yet, so nothing is served."""
    watched = current()
    if watched.run is None:
        watched.find_folder()
    session = watched.session
    where = watched.run.path if watched.run else session.asked_folder or f"a new folder in {session.parent}/"
    say(f"litscope: the run is recorded in {where}; nothing is served. Read and steer it: litscope --help.")


def start_training(timeout: float | None = None, **_: Any) -> None:
    """Return at once: training may start."""


def keep_serving(timeout: float | None = None, **_: Any) -> None:  # noqa: ARG001 nothing is served
    """Close the run. Nothing is served, so it returns at once."""
    end()


def drain_signals() -> None:
    """Return when all that this process has recorded is on the disk.

    Raises:
        LedgerError: if it cannot be written.
    """
    watched = latest()
    if watched is not None and watched.session.is_open:
        written_run()


def clear_all() -> None:
    """Close the run, and forget all parts, signals and classifiers: what is wrapped next makes another run."""
    end()
    forget()
    registry.forget()
    shapes.forget()


def seed_everything(seed: int = 42) -> None:
    """Seed Python, numpy and torch, and have cuDNN choose algorithms that repeat."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
