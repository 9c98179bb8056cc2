"""An arm's side of the harness: wait for the turn, and say what came of it (bench/processes.py has the protocol).

It imports the standard library only, so that every rival's environment can use it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w")
"""The harness reads this; what a library prints goes to standard error."""
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def say(event: str, **figures: Any) -> None:
    """Write one line of the protocol."""
    _pipe.write(f"@{json.dumps({'event': event, **figures})}\n")
    _pipe.flush()


def since_start_s() -> float:
    """Seconds since the harness started this process."""
    return time.time() - float(os.environ["BENCH_START"])


def peak() -> dict[str, float]:
    """`peak_mib`: the most memory that this process has had (VmHWM, proc(5)); empty where there is no /proc."""
    return _memory("peak_mib", "VmHWM")


def resident() -> dict[str, float]:
    """`resident_mib`: the memory that this process has now (VmRSS, proc(5)); empty where there is no /proc."""
    return _memory("resident_mib", "VmRSS")


def _memory(figure: str, field: str) -> dict[str, float]:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return {figure: next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024}
    except FileNotFoundError:
        return {}


class Turns:
    """One turn for each epoch: `begin` waits for it, `end` counts it.

    What `end` has counted is reported when the arm comes to its next `begin`, so that all it does between two
    epochs falls into its own turn.
    """

    def __init__(self) -> None:
        self._found: dict[str, Any] | None = None
        self._start = 0.0
        self.first_end_s: float | None = None
        """Seconds from the start of the process to the end of its first epoch."""

    def begin(self) -> None:
        """Report the epoch before, and wait for the turn. Without a harness (at the end of a file) it does not wait."""
        self.wait()
        self._start = time.perf_counter()

    def wait(self) -> None:
        """Do the same for an arm that has a clock of its own (see `report`)."""
        if self._found is None:
            say("ready")
        else:
            say("turn", **self._found)
        sys.stdin.readline()

    def end(self, num_samples: int) -> None:
        """Say that the epoch's training is over, after `num_samples`; a device must have finished."""
        self.report(num_samples / (time.perf_counter() - self._start), num_samples)

    def report(self, samples_per_s: float, num_samples: int, **more: Any) -> None:
        """Keep the figures of an epoch; the next `begin` sends them."""
        self.first_end_s = self.first_end_s or since_start_s()
        self._found = {"samples_per_s": samples_per_s, "num_samples": num_samples, **more}

    def finish(self, num_parameters: int, accuracy: float | None = None, **more: Any) -> None:
        """Report the network and the memory after the last epoch."""
        say("end", num_parameters=num_parameters, accuracy=accuracy, **peak(), **more)
