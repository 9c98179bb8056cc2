"""A studio or a console beside a training: a process of its own, that goes on while somebody looks. No torch here."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from litscope.batch_job import this_job
from litscope.console import shell_word
from litscope.errors import ConfigError

IDLE_S = 600.0
"""Seconds without a look after which the studio ends, once the training has ended."""

OPENED_S = 2.0
"""For so long what opens a terminal may fail."""

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


def start_studio(folder: Path, idle_s: float = IDLE_S, grpc_port: int | None = None) -> subprocess.Popen[bytes] | None:
    """Start a studio over a folder of runs; it prints its address on standard error. None where `SWITCH` forbids it.

    It is no part of this process's group: Ctrl-C ends the training, and the page shows how it ended.

    Args:
        folder: made if it is missing.
        idle_s: as `IDLE_S`.
        grpc_port: where it also answers gRPC; 0: any; None: it does not.

    Raises:
        ConfigError: in a batch job.
    """
    if (why := why_no_studio(folder)) is not None:
        raise ConfigError(f"There is no studio in a batch job. {why}")
    if os.environ.get(SWITCH) == "0":
        return None
    folder.mkdir(parents=True, exist_ok=True)
    words = ["studio", str(folder.absolute()), "--idle-timeout", f"{idle_s:g}", "--beside", str(os.getpid())]
    words += [] if grpc_port is None else ["--grpc-port", str(grpc_port)]
    without = {name: value for name, value in os.environ.items() if name not in _OF_RANKS}
    return subprocess.Popen(
        [sys.executable, "-m", "litscope", *words],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
        env=without,
        start_new_session=True,
    )


def open_console(folder: Path) -> bool:
    """Open `litscope console` over a folder in a terminal of its own: a part of tmux's screen, or a window.

    False where there is neither, where no terminal is looked at (as in batch jobs), and where `SWITCH` forbids it.

    Args:
        folder: a run, or a folder of runs; made if it is missing.
    """
    if os.environ.get(SWITCH) == "0" or this_job() is not None or not sys.stderr.isatty():
        return False
    console = [sys.executable, "-m", "litscope", "console", str(folder.absolute())]
    if os.environ.get("TMUX") and shutil.which("tmux"):
        line = ["tmux", "split-window", "-d", shlex.join(console)]
    elif (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and shutil.which("x-terminal-emulator"):
        line = ["x-terminal-emulator", "-e", *console]
    else:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    without = {name: value for name, value in os.environ.items() if name not in _OF_RANKS}
    try:
        process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=without,
            start_new_session=True,
        )
        return process.wait(OPENED_S) == 0
    except subprocess.TimeoutExpired:  # a terminal emulator that stays with its window
        return True
    except OSError:
        return False


_OF_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What tells a process that it is one of several; the studio is none of them."""


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):  # a notebook's
        return False
    return True
