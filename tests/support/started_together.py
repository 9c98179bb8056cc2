"""`litscope fit` in several processes at once, as torchrun and srun start them: all in milliseconds, by forking."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from forked import Forked, started_cli

IRIS_ON_TWO = ("fit", "iris", "--arch", "mlp", "--accelerator", "cpu", "--batch-size", "16", "--logger", "none")


def elastic(rank: int, port: int, *, num_nodes: int = 1, num_local: int = 2, start: int = 0) -> dict[str, str]:
    """The environment that torchrun gives a process; without a store of its own, as with most meeting places."""
    node, local_rank = divmod(rank, num_local)
    return {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": str(start),
        "TORCHELASTIC_MAX_RESTARTS": str(start),
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "WORLD_SIZE": str(num_nodes * num_local),
        "LOCAL_WORLD_SIZE": str(num_local),
        "GROUP_WORLD_SIZE": str(num_nodes),
        "GROUP_RANK": str(node),
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def start_two(
    cwd: Path, *more: str, num_nodes: int = 1, start: int = 0, words: Sequence[str] = IRIS_ON_TWO
) -> list[Forked]:
    """Two processes of one run; rank 0 first."""
    port, num_local = free_port(), 2 // num_nodes
    return [
        started_cli(
            *words,
            *more,
            cwd=cwd,
            environment=elastic(rank, port, num_nodes=num_nodes, num_local=num_local, start=start),
        )
        for rank in range(2)
    ]


def end(processes: Sequence[Forked], timeout: float = 150) -> list[int]:
    """Wait until all have ended; their exit codes."""
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
