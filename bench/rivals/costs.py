"""What passes over data cost: bytes read, memory of the process tree, and what the S3 server did meanwhile.

It imports the standard library only, so that every rival's environment can use it; the figures of processes come from
/proc (proc(5)), so on Linux only.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from turns import Turns, say

_PERIOD_S = 0.5


def tree() -> list[int]:
    """The ids of this process and of its descendants."""
    children = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children[parent].append(int(entry.name))
    found = [os.getpid()]
    for one in found:  # which grows
        found += children[one]
    return found


def bytes_read() -> int:
    """Bytes that the tree's processes, and those that they waited for, have got from read calls (rchar)."""
    return sum(_of(pid, "io", "rchar:") for pid in tree())


def memory_mib() -> float:
    """Memory of the tree now; what processes share is counted once (Pss)."""
    return sum(_of(pid, "smaps_rollup", "Pss:") for pid in tree()) / 1024


def _of(pid: int, file: str, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


class MemoryWatch:
    """Looks at the tree's memory again and again, in a thread, while `is_on`: it should not disturb others' turns.

    Attributes:
        is_on: set during a pass.
        peak_mib: the most there was so far.
    """

    def __init__(self) -> None:
        self.peak_mib = 0.0
        self.is_on = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while self.is_on.wait():
            self.peak_mib = max(self.peak_mib, memory_mib())
            time.sleep(_PERIOD_S)


def take_turns(epochs: int, a_pass: Callable[[], Iterable[int]], server: str | None) -> None:
    """One pass for each turn, and what it costs.

    Args:
        epochs: how many passes.
        a_pass: makes the pass ready, outside the clock; then it yields the number of samples of each batch.
        server: address of the S3 server (`bench/object_store.py`), whose accounts then stand for the bytes read.
    """
    turns, memory = Turns(), MemoryWatch()
    for _ in range(epochs):
        turns.wait()
        batches = a_pass()
        before, read = _server_costs(server), bytes_read()
        began = time.perf_counter()
        memory.is_on.set()
        count = sum(batches)
        wall_s = time.perf_counter() - began
        memory.is_on.clear()
        read, after = bytes_read() - read, _server_costs(server)
        figures = {"kb_per_sample": read / count / 1e3}
        if server is not None:
            spent = {name: after[name] - before[name] for name in after}
            figures = {
                "kb_per_sample": spent["bytes"] / count / 1e3,
                "requests": spent["requests"],
                "server_cpu_us_per_sample": 1e6 * spent["cpu_s"] / count,
            }
        turns.report(count / wall_s, count, **figures)
    say("end", peak_mib=memory.peak_mib)


def _server_costs(server: str | None) -> dict[str, Any]:
    if server is None:
        return {}
    with urllib.request.urlopen(f"{server}/-/costs") as answer:
        found: dict[str, Any] = json.load(answer)
    return found
