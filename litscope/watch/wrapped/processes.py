"""The processes of a run, as a part under watch may ask for them: without talking to the others."""

from __future__ import annotations

import torch.distributed as dist


def is_first_process() -> bool:
    """Whether this is the first of a run's processes, or the only one."""
    return num_processes() == 1 or dist.get_rank() == 0


def num_processes() -> int:
    """How many processes train this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
