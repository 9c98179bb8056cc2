"""Where this process stands among those of a run, and where they meet: what the environment says, read and checked.

On one machine nothing of it counts: `workers` gives each process its place, and what another program left behind in
NODE_RANK or MASTER_ADDR is passed over. With several machines the person sets NODE_RANK, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import errno
import os
import socket

from litscope.errors import ConfigError

NEEDED = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""What each of several machines must be told."""

HERE = "127.0.0.1"
"""Where the processes of one machine meet."""

LARGEST_PORT = 65_535


def rank_of_process(num_nodes: int) -> int:
    """Global rank of this process before Lightning knows it: 0 unless started as a worker or on another machine.

    Args:
        num_nodes: machines of the run.

    Raises:
        ConfigError: as `check_places`.
    """
    if "LITSCOPE_DEVICES" not in os.environ:
        check_places(num_nodes)
        return node_rank(num_nodes)  # local rank 0 of its machine; only 0 or not matters
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
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch does: a run just ended may leave traces
        try:
            server.bind(("", port))
        except OSError as error:
            why = {errno.EADDRINUSE: "another program uses it", errno.EACCES: "this user may not use it"}
            raise ConfigError(
                f"--num-nodes {num_nodes}: MASTER_PORT is {port}, and {why.get(error.errno or 0, str(error))}. "
                "Set another one on each machine."
            ) from None


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
