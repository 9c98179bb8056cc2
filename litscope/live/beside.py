"""A studio beside a training: a process of its own, that goes on while somebody looks. No torch here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from litscope.batch_job import this_job
from litscope.console import shell_word
from litscope.errors import ConfigError

IDLE_S = 600.0
"""Seconds without a look after which the studio ends, once the training has ended."""

SWITCH = "LITSCOPE_STUDIO"
"""Variable of the environment: 0 keeps every studio from starting beside a training."""


def why_no_studio(folder: Path) -> str | None:
    """Why none can be started here: in a batch job, whose node nobody can open a page on. None: it can.

    Args:
        folder: that the page would be over.
    """
    job = this_job()
    if job is None:
        return None
    return (
        f"This is {job}: nobody can open a page on its node, and it ends with the job. Look through the shared folder "
        f"instead, from any machine that sees it: litscope studio {shell_word(folder.absolute())}"
    )


def start_studio(folder: Path, idle_s: float = IDLE_S) -> subprocess.Popen[bytes] | None:
    """Start a studio over a folder of runs; it prints its address on standard error. None where `SWITCH` forbids it.

    It is no part of this process's group: Ctrl-C ends the training, and the page shows how it ended.

    Args:
        folder: made if it is missing.
        idle_s: as `IDLE_S`.

    Raises:
        ConfigError: in a batch job.
    """
    if (why := why_no_studio(folder)) is not None:
        raise ConfigError(f"There is no studio in a batch job. {why}")
    if os.environ.get(SWITCH) == "0":
        return None
    folder.mkdir(parents=True, exist_ok=True)
    words = ["studio", str(folder.absolute()), "--idle-timeout", f"{idle_s:g}", "--beside", str(os.getpid())]
    without = {name: value for name, value in os.environ.items() if name not in _OF_RANKS}
    return subprocess.Popen(
        [sys.executable, "-m", "litscope", *words],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
        env=without,
        start_new_session=True,
    )


_OF_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What tells a process that it is one of several; the studio is none of them."""


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):  # a notebook's
        return False
    return True
