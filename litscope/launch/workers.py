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
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from litscope.errors import LitscopeError
from litscope.launch import places
from litscope.launch.held_back import ENDING, held_back
from litscope.launch.lookout import Lookout, Signs, Worker
from litscope.launch.places import free_port, node_rank

GRACE_S = 10.0
"""How long the run may take to notice a dead worker by itself (gloo does at once), before it is ended."""

JOIN_S = 60.0
"""How long workers may take to end after rank 0."""


class Workers:
    """The worker processes of this machine.

    Attributes:
        death: says which worker died and how, once one has.
    """

    def __init__(self) -> None:
        self.death: str | None = None
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

    def others(self, folder: Path) -> list[Worker]:
        """For the lookout.

        Args:
            folder: where they say that they are there (`say_there`).
        """
        return [
            Worker(f"local rank {rank}", process.pid, (folder / str(rank)).exists)
            for rank, process in enumerate(self._processes, 1)
        ]

    def watch(self, on_death: Callable[[str], None]) -> None:
        """End the run when a worker dies and the run does not notice: a collective that waits for it may never end."""
        threading.Thread(target=self._watch, args=(on_death,), name="litscope-workers", daemon=True).start()

    def _watch(self, on_death: Callable[[str], None]) -> None:
        while not self._is_over and self.death is None:
            for local_rank, process in enumerate(self._processes, 1):
                code = process.poll()
                if code not in (None, 0) and self.death is None:
                    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
                    self.death = f"The worker process of local rank {local_rank} ended {how}."
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
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Iterator[Workers]:
    """Start this machine's other ranks, and see to it that they end with the block.

    Args:
        module: that a worker runs, with a file of the recipe and the run's folder as its words. It calls
            `die_with_parent` first, `hear_signals` once it has its handlers, `say_there` before it meets the others.
        num_devices: processes on this machine, this one included; with 1 on 1 machine nothing is done.
        recipe_yaml: the resolved recipe.
        files: name -> content of what else a worker needs, beside the file of the recipe.
        signs: of this process. Told just before it is ended, because a worker died or is silent.

    Raises:
        LitscopeError: if a worker died, or this process cannot listen where the others look for it.
    """
    workers = Workers()
    if num_devices * num_nodes == 1:
        yield workers
        return
    environment = {
        "LOCAL_RANK": "0",
        "NODE_RANK": str(node_rank(num_nodes)),
        "WORLD_SIZE": str(num_devices * num_nodes),
        "MASTER_ADDR": os.environ["MASTER_ADDR"] if num_nodes > 1 else places.HERE,
        "MASTER_PORT": os.environ["MASTER_PORT"] if num_nodes > 1 else str(free_port()),
        "LITSCOPE_DEVICES": str(num_devices),
    }
    if num_nodes == 1 and sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # else gloo asks the resolver for this host's name
    with tempfile.TemporaryDirectory(prefix="litscope-") as folder, _environment(environment):
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(recipe_yaml, encoding="utf-8")
        for name, content in files.items():
            recipe.with_name(name).write_bytes(content)
        command = [sys.executable, "-m", module, str(recipe), str(run_dir)]
        workers.start(command, num_devices, environment)
        workers.watch(lambda death: signs.on_end("failed", death))
        place = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
        try:
            with Lookout(workers.others(Path(folder)), signs, num_nodes == 1, place, workers.end_all):
                yield workers
            workers.join()
        except Exception as error:
            time.sleep(0.3)  # the error may be the echo of a death that the watcher is about to see
            if workers.death is not None and not isinstance(error, LitscopeError):
                raise LitscopeError(workers.death) from error
            if (
                type(error).__name__ == "DistNetworkError" and not signs.has_met()
            ):  # torch's, which is not imported here
                reason = str(error).partition("\n")[0]
                raise LitscopeError(
                    f"The processes of this run cannot meet at {place}: {reason} Start it again."
                ) from error
            raise
        finally:
            workers.kill()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Inside, these environment variables are set."""
    earlier = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def hear_signals() -> None:
    """A worker has its handlers: what came in before reaches them now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def say_there(recipe_file: Path) -> None:
    """A worker is ready to meet the others."""
    (recipe_file.parent / os.environ["LOCAL_RANK"]).touch()


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it dies (Linux). A worker calls it first."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != parent or parent == 1:
        os._exit(1)
