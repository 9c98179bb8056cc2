"""Beginning and end of a watched script, and the studio beside it: a process of its own, over the run's folder."""

from __future__ import annotations

import importlib.util
import random
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from litscope.console import say, shell_word
from litscope.errors import MissingExtra
from litscope.live.beside import open_console, start_studio, why_no_studio
from litscope.watch.wrapped import registry, shapes
from litscope.watch.wrapped.processes import is_first_process
from litscope.watch.wrapped.watched import current, end, forget, latest, written_run

_served: list[subprocess.Popen[bytes]] = []
"""The studio that this process started, if it did."""


def serve(serving_grpc: bool = False, serving_cli: bool = False, grpc_port: int = 0, **_: Any) -> None:
    """Say where the run's folder is, and open the studio over it: in the first process, and not in a batch job.

    Args:
        serving_grpc: the studio answers gRPC, too; without grpcio a line says how to install it.
        serving_cli: also open `litscope console` in a terminal of its own; where that is not possible, say how to.
        grpc_port: where gRPC is answered; 0: at any port that is free.
    """
    watched = current()
    if watched.run is None:
        watched.find_folder()
    session = watched.session
    where = watched.run.path if watched.run else session.asked_folder or f"a new folder in {session.parent}/"
    say(f"litscope: the run is recorded in {where}. Read and steer it: litscope --help.")
    if not is_first_process() or _served:
        return
    folder = (
        Path(watched.run.path if watched.run else session.asked_folder or session.parent / "a run").absolute().parent
    )
    if serving_cli:
        _open_console(watched.run.path if watched.run and watched.run.path.is_dir() else folder)
    if (why := why_no_studio(folder)) is not None:
        say(f"litscope: no studio is opened. {why}")
    elif (process := start_studio(folder, grpc_port=_rpc_port(grpc_port) if serving_grpc else None)) is not None:
        _served.append(process)


def _rpc_port(port: int) -> int | None:
    """The port, if gRPC is installed."""
    if importlib.util.find_spec("grpc") and importlib.util.find_spec("grpc_reflection"):
        return port
    say(f"litscope: {MissingExtra('grpcio', 'grpc', 'serving_grpc')} The studio answers over HTTP.")
    return None


def _open_console(folder: Path) -> None:
    if not open_console(folder):
        say(f"litscope: a command line over it, in another terminal: litscope console {shell_word(folder.absolute())}")


def start_training(timeout: float | None = None, **_: Any) -> None:
    """Return at once: training may start."""


def keep_serving(timeout: float | None = None, **_: Any) -> None:
    """Close the run, and keep the studio that `serve` opened until Ctrl-C. Where none is open, return at once.

    Args:
        timeout: seconds after which the studio ends; None: never.
    """
    end()
    if not _served:
        return
    studio = _served.pop()
    if studio.poll() is None:
        say("litscope: the run is over, and its page stays open until Ctrl-C.")
    with suppress(KeyboardInterrupt, subprocess.TimeoutExpired):  # both mean: it is enough
        studio.wait(timeout)
    studio.terminate()
    studio.wait()


def drain_signals() -> None:
    """Return when all that this process has recorded is on the disk.

    Raises:
        LedgerError: if it cannot be written.
    """
    watched = latest()
    if watched is not None and watched.session.is_open:
        written_run()


def clear_all() -> None:
    """Close the run, and forget all parts, signals and classifiers: what is wrapped next makes another run."""
    end()
    forget()
    registry.forget()
    shapes.forget()


def seed_everything(seed: int = 42) -> None:
    """Seed Python, numpy and torch, and have cuDNN choose algorithms that repeat."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
