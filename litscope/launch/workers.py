"""Several devices, with one process each. This process is local rank 0 and starts the others itself.

Lightning's own launcher re-executes `sys.argv`, which is not always a command that trains. Here a
worker is always

    python -m MODULE RECIPE.yaml RUN_DIR

of a module that the caller names (`training.worker`), with LOCAL_RANK, NODE_RANK, WORLD_SIZE,
MASTER_ADDR and MASTER_PORT in its environment, which Lightning's `LightningEnvironment` reads as
"processes exist already". With several machines the person starts the same command on each
(NODE_RANK, MASTER_ADDR and MASTER_PORT set), and each starts its own workers. A worker that dies
ends the run; workers die with the process that started them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from litscope.errors import LitscopeError
from litscope.launch import places
from litscope.launch.farewells import farewell_said, leaving_after_first
from litscope.launch.held_back import ENDING, held_back
from litscope.launch.lookout import Lookout, Signs, is_stopped
from litscope.launch.peers import Peers
from litscope.launch.places import environment, free_port, node_rank, rank_of_process, variables
from litscope.starter import host_name

GRACE_S = 10.0
"""How long the run may take to notice a dead worker by itself (gloo does at once), before it is ended."""

JOIN_S = 60.0
"""How long workers may take to end after rank 0."""


class Workers:
    """The worker processes of this machine.

    Args:
        first_rank: of this process.

    Attributes:
        death: says which worker died and how, once one has.
        dead: its rank.
    """

    def __init__(self, first_rank: int = 0) -> None:
        self.death: str | None = None
        self.dead: int | None = None
        self._first_rank = first_rank
        self._processes: list[subprocess.Popen[bytes]] = []
        self._is_over = False

    def start(self, command: list[str], num_devices: int, environment: dict[str, str]) -> None:
        """Start local ranks 1 .. num_devices - 1.

        Each in a session of its own: a terminal's Ctrl-C is for this process alone, which tells the others. What a
        scheduler sends to all of them waits until the worker can hear it (`hear_signals`).
        """
        with held_back():
            for local_rank in range(1, num_devices):
                place = {**os.environ, **environment, "LOCAL_RANK": str(local_rank)}
                self._processes.append(subprocess.Popen(command, env=place, start_new_session=True))

    def watch(self, on_death: Callable[[str], object]) -> None:
        """End the run when a worker dies and the run does not notice: a collective that waits for it may never end."""
        threading.Thread(target=self._watch, args=(on_death,), name="litscope-workers", daemon=True).start()

    def _watch(self, on_death: Callable[[str], object]) -> None:
        while not self._is_over and self.death is None:
            for local_rank, process in enumerate(self._processes, 1):
                code = process.poll()
                if code not in (None, 0) and self.death is None:
                    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
                    self.dead = self._first_rank + local_rank
                    self.death = f"rank {self.dead} (process {process.pid} on {host_name()}) ended {how}."
            time.sleep(0.1)
        deadline = time.monotonic() + GRACE_S
        while not self._is_over and time.monotonic() < deadline:
            time.sleep(0.1)
        if not self._is_over:
            on_death(str(self.death))
            self.end_all(1)

    def join(self) -> None:
        """Wait for the workers after rank 0 has ended its part.

        Raises:
            LitscopeError: if one did not end well.
        """
        deadline = time.monotonic() + JOIN_S
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill()
                raise LitscopeError("A worker process did not end with the run; it was killed.") from None
        self._is_over = True
        if self.death is not None:
            raise LitscopeError(self.death)

    def end_all(self, code: int) -> None:
        """End the workers and this process at once, whose main thread waits for something that never comes."""
        self.kill()
        os._exit(code)

    def kill(self) -> None:
        """End the remaining workers."""
        self._is_over = True
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def start_workers(
    module: str,
    num_devices: int,
    num_nodes: int,
    recipe_yaml: str,
    run_dir: Path,
    signs: Signs,
    timeout_s: float,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Iterator[Workers]:
    """Start this machine's other ranks, and see to it that they end with the block.

    Args:
        module: that a worker runs, with a file of the recipe and the run's folder as its words. It calls
            `die_with_parent` first, `hear_signals` once it has its handlers, and works inside `watched`.
        num_devices: processes on this machine, this one included; with 1 on 1 machine nothing is done.
        recipe_yaml: the resolved recipe.
        signs: of this process. Told just before it is ended, because a worker died or is silent.
        timeout_s: how long a process may be silent.
        files: name -> content of what else a worker needs, beside the file of the recipe.

    Raises:
        LitscopeError: if a worker died, or this process cannot listen where the others look for it.
    """
    if num_devices * num_nodes == 1:
        yield Workers()
        return
    node, world_size = node_rank(num_nodes), num_devices * num_nodes
    address, port = places.HERE, free_port()
    if num_nodes > 1:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    around = variables(node, 0, num_devices, world_size, address, port)
    workers = Workers(node * num_devices)
    peers = _peers(node * num_devices, world_size, (address, port))
    with tempfile.TemporaryDirectory(prefix="litscope-") as folder, environment(around):
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(recipe_yaml, encoding="utf-8")
        for name, content in files.items():
            recipe.with_name(name).write_bytes(content)
        command = [sys.executable, "-m", module, str(recipe), str(run_dir)]
        peers.start()
        peers.begin()
        workers.start(command, num_devices, around)
        workers.watch(lambda death: signs.on_end("failed", death))
        try:
            with (
                farewell_said(peers),
                _deaths_told(workers, peers),
                Lookout(peers, signs, timeout_s, workers.end_all, were_started_together=num_nodes == 1),
            ):
                yield workers
            workers.join()
        except Exception as error:
            is_of_meeting = type(error).__name__ == "DistNetworkError"  # torch's, which is not imported here
            if is_of_meeting and not signs.has_met():
                reason = str(error).partition("\n")[0]
                raise LitscopeError(
                    f"The processes of this run cannot meet at {address}:{port}: {reason} Start it again."
                ) from error
            raise
        finally:
            workers.kill()
            peers.close()


@contextmanager
def _deaths_told(workers: Workers, peers: Peers) -> Iterator[None]:
    """An error inside that is the echo of a worker's death is told as that: how it died is known here alone.

    Raises:
        LitscopeError: naming the worker.
    """
    try:
        yield
    except LitscopeError:
        raise
    except Exception as error:
        time.sleep(0.3)  # until the watcher has seen it
        if workers.death is None or workers.dead is None:
            raise
        peers.give_up({workers.dead})
        raise LitscopeError(workers.death) from error


def _peers(rank: int, world_size: int, place: tuple[str, int]) -> Peers:
    return Peers(rank, world_size, place, keeps_store=rank == 0, name="run")


@contextmanager
def watched(signs: Signs, timeout_s: float) -> Iterator[None]:
    """A worker works inside: where the first process of the run is silent, this one ends. What goes wrong here is told
    the first, which says it.

    Args:
        signs: of this process.
        timeout_s: how long a process may be silent.

    Raises:
        LitscopeError: as `leaving_after_first`.
    """
    rank, place = rank_of_process(None), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    peers = _peers(rank, int(os.environ["WORLD_SIZE"]), place)
    peers.start()
    peers.begin()
    try:
        with ExitStack() as stack:
            if (
                int(os.environ["NODE_RANK"]) == 0
            ):  # on another machine than the first, the process that started this one looks out
                stack.enter_context(Lookout(peers, signs, timeout_s, _end_with_parent, speaks=rank == 1))
            stack.enter_context(leaving_after_first(peers, speaks=False))
            yield
    finally:
        peers.close()


def _end_with_parent(code: int) -> NoReturn:
    """End this worker; and the process that started it, if that is stopped and would not end by itself."""
    if is_stopped(os.getppid()):
        os.kill(os.getppid(), signal.SIGKILL)
    os._exit(code)


def hear_signals() -> None:
    """A worker has its handlers: what came in before reaches them now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it dies (Linux). A worker calls it first."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != parent or parent == 1:
        os._exit(1)
