"""Where this process stands among those of a run, and where they meet: what the environment says, read and checked.

Processes that another program started (`starter`) have their place from it. Else, on one machine nothing counts:
`workers` gives each process its place, and what another program left behind in NODE_RANK or MASTER_ADDR is passed over.
With several machines the person sets NODE_RANK, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from litscope.errors import ConfigError
from litscope.starter import HERE, LARGEST_PORT, place_of

NEEDED = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""What each of several machines must be told."""

__all__ = ["HERE"]


def rank_of_process(num_nodes: int | None) -> int:
    """Global rank of this process before Lightning knows it: 0 unless it is another task, a worker or another machine.

    Args:
        num_nodes: machines of the run; None: as many as another program started it on, else one.

    Raises:
        ConfigError: as `check_places` and `place_of`.
    """
    if "LITSCOPE_DEVICES" not in os.environ:
        if (place := place_of()) is not None:
            return place.rank
        check_places(num_nodes or 1)
        return node_rank(num_nodes or 1)  # local rank 0 of its machine; only 0 or not matters
    node, local = int(os.environ["NODE_RANK"]), int(os.environ["LOCAL_RANK"])
    return node * int(os.environ["LITSCOPE_DEVICES"]) + local


def node_rank(num_nodes: int) -> int:
    """Number of this machine, from 0; of several they have passed `check_places`."""
    return 0 if num_nodes == 1 else int(os.environ["NODE_RANK"])


def check_places(num_nodes: int) -> None:
    """Refuse several machines whose environment does not let them find each other; a timeout would take minutes.

    Raises:
        ConfigError: naming the variable.
    """
    if num_nodes == 1:
        return
    flag = f"--num-nodes {num_nodes}"
    missing = [name for name in NEEDED if not os.environ.get(name, "").strip()]
    if missing:
        raise ConfigError(
            f"{flag}: set {', '.join(missing)} in the environment on each machine "
            "(NODE_RANK 0 on the one that MASTER_ADDR names), then start the same command on each."
            + (" Inside a job of Slurm put srun before it instead." if "SLURM_JOB_ID" in os.environ else "")
        )
    if not 0 <= _number("NODE_RANK", flag) < num_nodes:
        raise ConfigError(
            f"{flag}: NODE_RANK is {os.environ['NODE_RANK']}; the machines are numbered from 0 to {num_nodes - 1}."
        )
    if not 0 < _number("MASTER_PORT", flag) <= LARGEST_PORT:
        raise ConfigError(f"{flag}: MASTER_PORT is {os.environ['MASTER_PORT']}; a port is from 1 to {LARGEST_PORT}.")


def check_port(num_nodes: int) -> None:
    """Refuse a port on which the machines cannot meet, because another program listens there.

    Of the machine that MASTER_ADDR names only its first process looks, before it listens itself.

    Raises:
        ConfigError: naming the port.
    """
    if num_nodes == 1 or "LITSCOPE_DEVICES" in os.environ or node_rank(num_nodes) != 0:
        return
    port = int(os.environ["MASTER_PORT"])
    if (why := why_not_free(port)) is not None:
        raise ConfigError(
            f"--num-nodes {num_nodes}: MASTER_PORT is {port}, and {why}. Set another one on each machine."
        )


def why_not_free(port: int) -> str | None:
    """Why this process cannot listen on a port; None if it can."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch does: a run just ended may leave traces
        try:
            server.bind(("", port))
        except OSError as error:
            why = {errno.EADDRINUSE: "another program uses it", errno.EACCES: "this user may not use it"}
            return why.get(error.errno or 0, str(error))
    return None


def variables(node: int, local_rank: int, num_local: int, world_size: int, address: str, port: int) -> dict[str, str]:
    """The environment in which Lightning's `LightningEnvironment` finds that all processes exist already."""
    found = {
        "LOCAL_RANK": str(local_rank),
        "NODE_RANK": str(node),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "LITSCOPE_DEVICES": str(num_local),
    }
    if sys.platform == "linux" and (address == "localhost" or address.startswith("127.")):
        found["GLOO_SOCKET_IFNAME"] = "lo"  # else gloo asks the resolver for this host's name
    return found


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Inside, these environment variables are set. torchrun's own store is not used for the meeting of torch."""
    wanted: dict[str, str | None] = {**values, "TORCHELASTIC_USE_AGENT_STORE": None}
    earlier = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(earlier)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _number(name: str, flag: str) -> int:
    text = os.environ[name]
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{flag}: {name} is {text!r}, which is no whole number.") from None
