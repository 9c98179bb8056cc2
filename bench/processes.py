"""Arms: processes that do a piece of work when it is their turn, and what that costs.

An arm that takes turns starts once and stays: it trains one epoch per turn and waits in between, so that
imports are paid once and rounds can be short. It talks through `rivals/turns.py`: it writes lines that begin
with `@` and hold a JSON object to its standard output, a pipe; a line on its standard input gives it its turn.

    @{"event": "ready"}                                        imported, data open, network built
    @{"event": "turn", "samples_per_s": ..., "num_samples": ...}    after each epoch
    @{"event": "end", "num_parameters": ..., "accuracy": ...}       after the last one

A one-shot arm is a command that runs anew in each round; if it prints such a line, the figures in it count.

To a turn the harness adds `turn_s`, and `cpu_s` and `cpu_us_per_sample` of the process and its descendants (from
/proc, so on Linux only); to a one-shot, `wall_s` and `cpu_s`. Once there are `ready_s`, `first_turn_s`, and
`total_cpu_s` of the process and of the children that it waited for. (rusage's peak of memory would be that of the
harness before exec, so an arm reports its own.)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

TIMEOUT_S = 900.0
"""A turn that takes longer has hung."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ArmFailed(Exception):
    """An arm ended with an error or did not answer; the message is the end of its output."""


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: what tables call it.
        command: the words after the Python interpreter.
        environment: the one of `environments.ENVIRONMENTS` whose interpreter runs it; None is this one.
        takes_turns: whether it stays and takes turns, or runs anew in each round.
    """

    name: str
    command: tuple[str, ...]
    environment: str | None = None
    takes_turns: bool = True

    @property
    def shown(self) -> str:
        """The command as the page shows it: file names without the folders, which differ from run to run."""
        return " ".join(["python", *(Path(word).name if os.path.isabs(word) else word for word in self.command)])  # noqa: PTH117


def environment(threads: int, work: Path, is_ours: bool) -> dict[str, str]:
    """The variables that every arm gets: the same number of threads, a cache of the bench's own, no network."""
    variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    variables |= {"LITSCOPE_CACHE": str(work / "cache"), "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1"}
    variables["BENCH_START"] = repr(time.time())
    if not is_ours:
        variables.pop("PYTHONPATH", None)
    return variables


class _Process:
    """A child in a process group of its own, so that nothing of it stays behind."""

    def __init__(self, arm: Arm, python: str, threads: int, work: Path) -> None:
        self.arm, self.threads, self.work = arm, threads, work
        self.words = [python, *arm.command]
        self.errors = work / f"{abs(hash(arm)) % 10**8}.stderr"
        self.child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.began = time.perf_counter()
        with self.errors.open("w") as errors:
            self.child = subprocess.Popen(
                self.words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.work,
                env=environment(self.threads, self.work, self.arm.environment is None),
                start_new_session=True,
            )

    def message(self) -> dict[str, Any] | None:
        """The next line of the protocol, or None when the process has ended."""
        assert self.child is not None
        assert self.child.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, self.kill)
        watchdog.start()
        try:
            for line in self.child.stdout:
                if line.startswith("@"):
                    found: dict[str, Any] = json.loads(line[1:])
                    return found
        finally:
            watchdog.cancel()
        return None

    def wait(self) -> float:
        """Wait for the end; returns CPU seconds of the process and of the children that it waited for.

        Raises:
            ArmFailed: for an exit code other than 0.
        """
        assert self.child is not None
        _, status, usage = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        if self.child.returncode != 0:
            raise ArmFailed(self.last_words())
        return usage.ru_utime + usage.ru_stime

    def last_words(self) -> str:
        """The last line that the process wrote to standard error."""
        lines = [line.strip() for line in self.errors.read_text().splitlines() if line.strip()]
        code = self.child.returncode if self.child is not None else None
        return f"exit code {code}: {lines[-1] if lines else 'nothing on standard error'}"

    def kill(self) -> None:
        """End it and all that it started."""
        if self.child is not None and self.child.returncode is None:
            try:
                os.killpg(self.child.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child is None:
            return
        if self.child.returncode is None:
            self.kill()
            self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()


class TurnTaker(_Process):
    """An arm that stays and takes turns. Entering it takes the first turn, which is cold."""

    def __enter__(self) -> Self:
        self.start()
        try:
            self._expect("ready")
            self.once = {"ready_s": time.perf_counter() - self.began}
            self.once["first_turn_s"] = self.turn()["turn_s"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def turn(self) -> dict[str, Any]:
        """Let it do one piece of work."""
        assert self.child is not None
        cpu, began = tree_cpu_s(self.child.pid), time.perf_counter()
        self._go()
        found = self._expect("turn")
        found["turn_s"] = time.perf_counter() - began
        after = tree_cpu_s(self.child.pid)
        if cpu is not None and after is not None:
            found["cpu_s"] = after - cpu
            found["cpu_us_per_sample"] = 1e6 * found["cpu_s"] / found["num_samples"]
        return found

    def finish(self) -> dict[str, Any]:
        """Let it do the last piece and end; returns what it says then, and its cold figures."""
        self._go()
        found = self._expect("end")
        return {**self.once, **found, "total_cpu_s": self.wait()}

    def _go(self) -> None:
        assert self.child is not None
        assert self.child.stdin is not None
        try:
            self.child.stdin.write("go\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            self._died()

    def _expect(self, event: str) -> dict[str, Any]:
        found = self.message()
        if found is None:
            self._died()
        assert found is not None
        if found["event"] != event:
            raise ArmFailed(f"said {found['event']!r} where {event!r} was due")
        return found

    def _died(self) -> None:
        self.wait()
        raise ArmFailed("ended before its last turn")


class OneShot(_Process):
    """An arm that runs anew each time."""

    def turn(self) -> dict[str, Any]:
        self.start()
        assert self.child is not None
        assert self.child.stdin is not None
        self.child.stdin.close()
        found: dict[str, Any] = {}
        while (said := self.message()) is not None:
            found |= said
        cpu_s = self.wait()
        wall_s = time.perf_counter() - self.began
        self.__exit__()
        return {"wall_s": wall_s, "cpu_s": cpu_s, **found}

    def finish(self) -> dict[str, Any]:
        """Nothing is left to do."""
        return {}


def tree_cpu_s(pid: int) -> float | None:
    """CPU seconds so far of a process, its descendants, and the children they waited for; None without /proc.

    Fields 4 (parent) and 14 to 17 (user and system time, own and of children waited for) of /proc/PID/stat, proc(5).
    """
    children, cpu = defaultdict(list), {}
    tick = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children[int(fields[1])].append(int(entry.name))
        cpu[int(entry.name)] = sum(map(int, fields[11:15])) / tick
    if pid not in cpu:
        return None
    total, todo = 0.0, [pid]
    while todo:
        one = todo.pop()
        total += cpu[one]
        todo += children[one]
    return total
