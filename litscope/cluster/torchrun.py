"""The same training, started by torch's own launcher: one agent on each machine, which starts its processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from litscope.cluster.program import Shape
from litscope.errors import ConfigError


@dataclass(frozen=True)
class Rendezvous:
    """Where the agents of several machines meet, and what they do when a process dies.

    Attributes:
        endpoint: HOST:PORT of one of them; None on a single machine.
        name: the same on all machines, and another for each training.
        max_restarts: how often all processes are started again after one of them failed.
    """

    endpoint: str | None
    name: str
    max_restarts: int = 0


def torchrun_words(words: Sequence[str], is_ours: bool, shape: Shape, meeting: Rendezvous) -> list[str]:
    """The command that is to run on each machine.

    Args:
        words: what each process runs; of ours without what starts it (`fit SOURCE ...`).
        is_ours: whether it is litscope's.
        shape: how many processes, and where.
        meeting: where the machines meet.

    Raises:
        ConfigError: for several machines without a place to meet; for a command that is not a Python program.
    """
    if shape.nodes > 1 and meeting.endpoint is None:
        raise ConfigError(
            f"--nnodes {shape.nodes}: say where the machines meet: --rdzv-endpoint HOST:PORT, HOST being one of them, "
            "the same on each."
        )
    if meeting.endpoint is None:
        where = ["--standalone"]
    else:
        where = ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting.endpoint}", f"--rdzv-id={meeting.name}"]
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *(f"--nnodes={shape.nodes}", f"--nproc-per-node={shape.devices}", f"--max-restarts={meeting.max_restarts}"),
        *where,
        *(["-m", "litscope", *words] if is_ours else _script(words)),
    ]


def passes_on(signal: str) -> dict[str, str]:
    """The environment in which torchrun passes a scheduler's signal on to the processes of a run, which save then. It
    would die of it, and they with it. (torch 2.9 and later; what a person has set stays.)

    Args:
        signal: as `--signal` of `fit` (`USR1`).
    """
    names = dict.fromkeys(["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", f"SIG{signal.removeprefix('SIG')}"])
    return {"PET_SIGNALS_TO_HANDLE": os.environ.get("PET_SIGNALS_TO_HANDLE", ",".join(names))}


def replace_process(words: Sequence[str], more: Mapping[str, str] = MappingProxyType({})) -> NoReturn:
    """Go on as this command: its exit code is that of this process, and signals reach it.

    Args:
        more: variables of its environment, beside those of this process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(words[0], list(words), {**os.environ, **more})


def _script(words: Sequence[str]) -> list[str]:
    """Somebody's own command as torchrun takes it: without the interpreter, which it starts itself."""
    first = words[0].rpartition("/")[2]
    if first.startswith("python") and len(words) > 1:
        words = words[1:]
    elif not first.endswith(".py"):
        raise ConfigError(f"{words[0]}: torchrun starts Python programs. Give `python SCRIPT.py ...`, or `fit ...`.")
    if words[0] == "-m" or not words[0].startswith("-"):
        return list(words)
    raise ConfigError(f"{words[0]}: torchrun starts a script or a module (-m); it takes no other option of Python's.")
