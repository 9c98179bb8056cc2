"""`fit` on several ranks in the time of one: each is forked, as if on a machine of its own."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked import Forked
from small_runs import small_fit

from litscope.errors import LitscopeError
from litscope.rundir import RunDir

DEADLINE_S = 240


def in_ranks(world: int, target: Callable[..., int | None], *arguments: Any) -> list[Forked]:
    """`target(*arguments)` in `world` processes at once, each with the environment of a machine of its own."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    return [Forked(target, *arguments, environment={**where, "NODE_RANK": str(rank)}) for rank in range(world)]


def ended(processes: list[Forked], timeout: float = DEADLINE_S) -> tuple[list[int], str]:
    """Wait until all have ended, and kill what has not: exit codes, and what was said, both by rank."""
    try:
        codes = [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return codes, "\n".join(process.stderr for process in processes)


def fit_on(world: int, folder: Path, **flags: Any) -> RunDir:
    """A run of `world` ranks with the flags of a small run, which has to finish."""
    codes, words = ended(in_ranks(world, _fit, folder, {**flags, "devices": "1", "num_nodes": world}))
    assert codes == [0] * world, words
    return RunDir(folder)


def refused_on(world: int, folder: Path, **flags: Any) -> str:
    """What is said where a run of `world` ranks is refused before it starts."""
    codes, words = ended(in_ranks(world, _fit, folder, {**flags, "devices": "1", "num_nodes": world}))
    assert codes == [2] * world, words
    assert not folder.exists()
    return words


def fit_apart(folder: Path, flags: list[dict[str, Any]]) -> tuple[list[int], str]:
    """Ranks that were started with different flags, each as on its own machine: exit codes, and what was said."""
    given = [{**each, "devices": "1", "num_nodes": len(flags)} for each in flags]
    return ended(in_ranks(len(flags), _fit_with, folder, given))


def _fit_with(run: Path, flags: list[dict[str, Any]]) -> int:
    return _fit(run, flags[int(os.environ["NODE_RANK"])])


def _fit(run: Path, flags: dict[str, Any]) -> int:
    settings = {"accelerator": "cpu", "logger": ["none"], "progress": False}
    try:
        small_fit(run, settings, **flags)
    except LitscopeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
