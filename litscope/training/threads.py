"""How many threads torch computes with, for as long as something is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from litscope.limits import num_cores
from litscope.starter import share_of_cores


def default_threads(num_local: int = 1) -> int:
    """The number that torch has set, and no more than this process's part of what affinity and CPU quota give: torch
    itself asks the affinity only, and knows of no other process.

    $OMP_NUM_THREADS holds as it is.

    Args:
        num_local: processes of the run on this machine.
    """
    number = torch.get_num_threads()
    return number if "OMP_NUM_THREADS" in os.environ else min(number, share_of_cores(num_cores(), num_local))


@contextmanager
def torch_threads(number: int | None, num_local: int = 1) -> Iterator[None]:
    """This number of torch threads inside (None: `default_threads`), and as before afterwards."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number or default_threads(num_local))
        yield
    finally:
        torch.set_num_threads(before)
