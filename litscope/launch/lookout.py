"""Lookout: says when a process of a run is silent, and ends a run that cannot end itself.

Python handles a signal when its main thread comes back to Python. In a rendezvous, or in a collective that another
process never joins, it does not come back, so Ctrl-C and SIGTERM would have no effect for as long as the collective may
wait (half an hour). A thread looks on: it reads the signals as they arrive, and the states of the other processes of
this machine. It counts its own looks, not the time, so that a run which is stopped as a whole loses nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from litscope.console import say

LOOK_S = 0.1
"""Seconds between two looks."""

HEARD_S = 10.0
"""How long a signal may wait for the main thread, and for processes that are stopped."""

STOPPING_S = 120.0
"""How long a run may take to end after a signal that it has heard."""

SAY_S = 10.0
"""After so long it is said which process is silent."""

SILENT_S = 300.0
"""So long a run waits for a process that is stopped."""

MEETING_S = 120.0
"""How long the processes of one machine may take to find each other once all of them are ready to."""

Status = Literal["failed", "interrupted"]


class Signs(NamedTuple):
    """What the process that trains tells, and what it wants to be told. Called in the lookout's thread.

    Attributes:
        has_met: whether the processes have found each other.
        signals: that ask a run to stop.
        has_heard: whether a stop request was heard, so that the run ends after this step.
        on_end: is told how and why, just before the process ends.
    """

    has_met: Callable[[], bool]
    signals: frozenset[signal.Signals]
    has_heard: Callable[[], bool]
    on_end: Callable[[Status, str], None]


class Worker(NamedTuple):
    """Another process of this machine.

    Attributes:
        name: "local rank 1".
        pid: of the process.
        is_there: whether it is ready to meet the others.
    """

    name: str
    pid: int
    is_there: Callable[[], bool]


class Lookout:
    """Watches over the processes of one machine.

    Args:
        workers: the others.
        signs: of this one.
        is_alone: there is no other machine, so the others are these.
        meeting_place: address and port, for messages.
        end: ends the workers and this process, with an exit code.
    """

    def __init__(
        self, workers: list[Worker], signs: Signs, is_alone: bool, meeting_place: str, end: Callable[[int], None]
    ) -> None:
        self._workers, self._signs, self._is_alone, self._place = workers, signs, is_alone, meeting_place
        self._end_process = end
        self._is_over = threading.Event()
        self._signals: list[tuple[str, float]] = []
        self._silent_s = self._waited_s = self._now = 0.0
        self._said: set[str] = set()

    def __enter__(self) -> Lookout:
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._earlier = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._work, name="litscope-lookout", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self._is_main:
            signal.set_wakeup_fd(self._earlier)
        os.close(self._read)
        os.close(self._write)

    def _work(self) -> None:
        while not self._is_over.wait(LOOK_S):
            self._now += LOOK_S
            self._take_signals()
            found = self._why_it_cannot_go_on()
            if found is not None and not self._is_over.is_set():
                status, why = found
                self._signs.on_end(status, why)
                self._end_process(130 if status == "interrupted" else 1)
                return

    def _take_signals(self) -> None:
        try:
            numbers = os.read(self._read, 64)
        except BlockingIOError:
            return
        names = {int(number): number.name for number in self._signs.signals}
        self._signals += [(names[number], self._now) for number in numbers if number in names]

    def _why_it_cannot_go_on(self) -> tuple[Status, str] | None:
        stopped = [worker for worker in self._workers if is_stopped(worker.pid)]
        self._silent_s = self._silent_s + LOOK_S if stopped else 0.0
        who = " and ".join(f"{worker.name} (process {worker.pid})" for worker in stopped)
        if self._signals and (why := self._why_no_signal_ends_it(stopped, who)) is not None:
            return "interrupted", why
        if self._silent_s > SAY_S:
            resume = " ".join(str(worker.pid) for worker in stopped)
            self._say(f"{who} is stopped, and the run waits for it. To let it go on: kill -CONT {resume}")
        if self._silent_s > SILENT_S:
            return "failed", f"{who} was stopped for {SILENT_S:g} s, and the run could not go on without it."
        return self._why_they_do_not_meet()

    def _why_no_signal_ends_it(self, stopped: list[Worker], who: str) -> str | None:
        name, first = self._signals[0]
        waited = self._now - first
        is_told_twice = any(
            again == "SIGINT" and self._now - when > HEARD_S / 5 for again, when in self._signals[1:]
        )  # a scheduler sends several signals, and means one
        is_stuck = waited > HEARD_S and (not self._signs.has_heard() or bool(stopped))
        if not (is_told_twice or is_stuck or waited > STOPPING_S):
            return None
        reason = f"{who} is stopped" if stopped else f"it waits for {self._others()}"
        return f"{name}: the run cannot end by itself, for {reason}; it was ended. The last checkpoint stays."

    def _others(self) -> str:
        if self._signs.has_met():
            return "other processes"
        missing = [worker.name for worker in self._workers if not worker.is_there()]
        return " and ".join(missing) or f"the other processes at {self._place}"

    def _why_they_do_not_meet(self) -> tuple[Status, str] | None:
        """Only one machine has a deadline: another may be started later, or its data take longer to read."""
        if self._signs.has_met():
            return None
        missing = [worker.name for worker in self._workers if not worker.is_there()]
        self._waited_s = 0.0 if missing else self._waited_s + LOOK_S
        if not missing and self._waited_s > 6 * SAY_S:
            self._say(f"waiting for the other processes at {self._place}")
        if self._is_alone and self._waited_s > MEETING_S:
            return "failed", (
                f"The processes of this run did not find each other at {self._place} within {MEETING_S:g} s, though "
                "all were ready. Does the machine have a loopback network (ip link show lo)? Or train on --devices 1."
            )
        return None

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            say(line)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by SIGSTOP, a terminal or a debugger (Linux; elsewhere it is not known)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] in (["T"], ["t"])
