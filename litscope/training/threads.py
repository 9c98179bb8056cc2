"""How many threads torch computes with, for as long as something is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from litscope.limits import num_cores


def default_threads() -> int:
    """The number that torch has set, and no more than the CPU quota gives: torch itself asks the affinity only.

    $OMP_NUM_THREADS holds as it is.
    """
    number = torch.get_num_threads()
    return number if "OMP_NUM_THREADS" in os.environ else min(number, num_cores())


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """This number of torch threads inside (None: `default_threads`), and as before afterwards."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number or default_threads())
        yield
    finally:
        torch.set_num_threads(before)
