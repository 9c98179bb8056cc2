"""`litscope tune --workers N`: one search in several processes of this machine, each with its share of the cores.

They know of each other by the journal of `shared_search` alone, as the tasks of a job array do, so any of them may be
killed: what it trained is given back, and another one trains it again. So it is when this process itself is killed: its
workers end with it, and the same command goes on.

    python -m litscope.experiments.search_workers FOLDER CORES

is a worker, on cores by their numbers with commas between. What it searches, it reads from the folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litscope.config.flags import build
from litscope.config.recipe import Recipe
from litscope.config.yamlfile import dump
from litscope.console import say, shell_word
from litscope.errors import ConfigError, Interrupted, LitscopeError, RunError
from litscope.experiments.search_space import Pruner
from litscope.launch.workers import die_with_parent
from litscope.limits import num_cores
from litscope.rundir import write_json, write_text

RECIPE, ASKED = ".search.yaml", ".search.json"
"""In the folder of a search: the recipe that its workers search around, and what else they are asked."""

ENDING_S = 120.0
"""How long workers may take to end when they are asked to: each finishes the step that it is in."""


@dataclass(frozen=True)
class Task:
    """What the workers of a search are asked.

    Attributes:
        recipe: with the threads of each.
        space, num_trials, pruner: as `tune.tune`.
    """

    recipe: Recipe
    space: Sequence[str]
    num_trials: int
    pruner: Pruner

    def write(self, folder: Path) -> None:
        """Leave it in the folder of the search."""
        write_text(folder / RECIPE, dump(self.recipe))
        write_json(folder / ASKED, {"space": self.space, "num_trials": self.num_trials, "pruner": self.pruner})

    @classmethod
    def read(cls, folder: Path) -> Task:
        """What `write` left."""
        recipe = build({}, [folder / RECIPE])
        recipe.logging.run_dir = str(folder)
        return cls(recipe, **json.loads((folder / ASKED).read_text(encoding="utf-8")))


def check_workers(num_workers: int) -> None:
    """Refuse what is no number of workers.

    Raises:
        ConfigError: for less than one, or more than there are cores.
    """
    if num_workers < 1:
        raise ConfigError(f"--workers {num_workers}: it is 1 or more.")
    if num_workers > num_cores():
        raise ConfigError(
            f"--workers {num_workers}: each needs a core, and this process may use {num_cores()}. Give so many, or "
            "fewer."
        )


def train_in_workers(folder: Path, task: Task, num_workers: int, num_gpus: int) -> None:
    """Start workers, and wait until each has found no trial left to train.

    Args:
        folder: of the search.
        num_gpus: that they divide among them, a device for each in turns; 0: they train on the CPU.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, when the workers have ended.
        RunError: if not one of them ended well.
    """
    task.write(folder)
    command = [sys.executable, "-m", "litscope.experiments.search_workers", str(folder)]
    processes = []
    for number in range(num_workers):
        cores = ",".join(map(str, share_of(number, num_workers)))
        # In a session of its own: a terminal's Ctrl-C is for this process, which tells the others.
        started = subprocess.Popen([*command, cores], env=_place(number, num_gpus), start_new_session=True)
        processes.append(started)
    try:
        for process in processes:
            process.wait()
    except (Interrupted, KeyboardInterrupt):
        _end(processes)
        raise
    finally:
        for process in processes:
            process.kill()  # those that are left, where something else went wrong here
            process.wait()
        for name in (RECIPE, ASKED):
            (folder / name).unlink(missing_ok=True)
    lost = [process for process in processes if process.returncode]
    for process in lost:
        code = process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        say(f"tune: worker {process.pid} ended {how}; its trial is given back")
    if len(lost) == len(processes):
        raise RunError(
            f"All {num_workers} workers ended before the search did; what they said stands above. "
            f"To go on: the same command with --run-dir {shell_word(folder)}"
        )


def _place(number: int, num_gpus: int) -> dict[str, str]:
    """The environment of a worker: it sees one GPU, where there are any."""
    if not num_gpus:
        return dict(os.environ)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(i) for i in range(num_gpus)] if visible is None else visible.split(",")[:num_gpus]
    return {**os.environ, "CUDA_VISIBLE_DEVICES": devices[number % len(devices)]}


def share_of(number: int, count: int) -> list[int]:
    """The cores of one of several workers, as even a share as there is; none where the system knows no affinity."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[number::count]


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()


def main() -> int:
    """Be a worker; the exit code."""
    die_with_parent()  # before torch is imported, which takes seconds
    folder, cores = Path(sys.argv[1]), [int(core) for core in sys.argv[2].split(",") if core]
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        from litscope.experiments.shared_search import take_part

        take_part(folder, Task.read(folder))
    except (Interrupted, KeyboardInterrupt):
        return Interrupted.exit_code  # the first process says it, once
    except LitscopeError as error:
        say(f"worker {os.getpid()}: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
