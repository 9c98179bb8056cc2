"""Lookout: says when a process of a run is silent, and ends a run that cannot end itself.

Python handles a signal when its main thread comes back to Python. In a rendezvous, or in a collective that another
process never joins, it does not come back, so Ctrl-C and SIGTERM would have no effect for as long as the collective may
wait (half an hour). A thread looks on: it reads the signals as they arrive, and what is heard of the other processes
(`peers`). It counts its own looks, not the time, so that a run which is stopped as a whole loses nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from litscope.console import say
from litscope.launch.farewells import code_of, listed, why_it_ended
from litscope.launch.peers import Peer, Peers
from litscope.starter import host_name

LOOK_S = 0.1
"""Seconds between two looks."""

HEARD_S = 10.0
"""How long a signal may wait for the main thread, and for processes that are silent."""

STOPPING_S = 120.0
"""How long a run may take to end after a signal that it has heard."""

SILENT_S = 3.0
"""A process of which nothing was heard for so long is silent; a signal to end does not wait for it."""

SAY_S = 10.0
"""After so long it is said which process is silent."""

GRACE_S = 10.0
"""How long the run may take to notice by itself that a process has left (gloo does at once), before it is ended."""

MEETING_S = 300.0
"""How long processes that were started together may take to come to their meeting place."""

Status = Literal["failed", "interrupted", "lost"]
"""How a run ends that cannot end itself. Lost: another machine is silent, and on others the run could go on."""


class Ending(NamedTuple):
    """How a run ends that cannot end itself.

    Attributes:
        status, why: as `Signs.on_end` is told.
        code: of the process that left first; None: what `Signs.on_end` returns.
    """

    status: Status
    why: str
    code: int | None = None


class Signs(NamedTuple):
    """What the process that trains tells, and what it wants to be told. Called in the lookout's thread.

    Attributes:
        has_met: whether the processes have found each other.
        signals: that ask a run to stop.
        has_heard: whether a stop request was heard, so that the run ends after this step.
        on_end: is told how and why, just before the process ends; returns the exit code.
    """

    has_met: Callable[[], bool]
    signals: frozenset[signal.Signals]
    has_heard: Callable[[], bool]
    on_end: Callable[[Status, str], int]


class Lookout:
    """Watches over the processes of a run.

    Args:
        peers: the others.
        signs: of this one.
        timeout_s: how long one may be silent (--rank-timeout).
        end: ends this process, and those that it started, with an exit code.
        were_started_together: so that all must come to the meeting place; else another machine may be started later.
        speaks: whether this process says that another one is silent.
    """

    def __init__(
        self,
        peers: Peers,
        signs: Signs,
        timeout_s: float,
        end: Callable[[int], None],
        *,
        were_started_together: bool = True,
        speaks: bool = True,
    ) -> None:
        self._peers, self._signs, self._timeout_s, self._end_process = peers, signs, timeout_s, end
        self._were_started_together, self._speaks = were_started_together, speaks
        self._is_over = threading.Event()
        self._signals: list[tuple[str, float]] = []
        self._waited_s = self._left_s = self._now = 0.0
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
            self._peers.look(LOOK_S)
            self._take_signals()
            found = self._why_it_cannot_go_on()
            if found is not None and not self._is_over.is_set():
                code = self._signs.on_end(found.status, found.why)
                self._end_process(code if found.code is None else found.code)
                return

    def _take_signals(self) -> None:
        try:
            numbers = os.read(self._read, 64)
        except BlockingIOError:
            return
        names = {int(number): number.name for number in self._signs.signals}
        self._signals += [(names[number], self._now) for number in numbers if number in names]

    def _why_it_cannot_go_on(self) -> Ending | None:
        silent = self._peers.silent(SILENT_S)
        if self._signals and (why := self._why_no_signal_ends_it(silent)) is not None:
            return Ending("interrupted", why)
        if self._peers.is_lost or self._peers.failed():
            self._left_s += LOOK_S
            if self._left_s > GRACE_S:
                gone = self._peers.failed() or self._peers.others
                return Ending("failed", why_it_ended(gone), code_of(gone))
        if late := self._peers.silent(min(SAY_S, self._timeout_s / 2)):
            self._say(f"{listed(late)} {_is(late)} silent, and the run waits.{_how_to_let_go_on(late)}")
        if gone := self._peers.silent(self._timeout_s):
            return Ending(
                "failed" if all(peer.host == host_name() for peer in gone) else "lost",
                f"{listed(gone)} {_was(gone)} silent for {self._timeout_s:g} s (--rank-timeout), and the run could not "
                "go on without it.",
            )
        return self._why_they_do_not_meet()

    def _why_no_signal_ends_it(self, silent: Sequence[Peer]) -> str | None:
        name, first = self._signals[0]
        waited = self._now - first
        is_told_twice = any(
            again == "SIGINT" and self._now - when > HEARD_S / 5 for again, when in self._signals[1:]
        )  # a scheduler sends several signals, and means one
        is_stuck = waited > HEARD_S and (not self._signs.has_heard() or bool(silent))
        if not (is_told_twice or is_stuck or waited > STOPPING_S):
            return None
        reason = f"{listed(silent)} {_is(silent)} silent" if silent else f"it waits for {self._others()}"
        return f"{name}: the run cannot end by itself, for {reason}; it was ended. The last checkpoint stays."

    def _others(self) -> str:
        if self._signs.has_met():
            return "other processes"
        address, port = self._peers.place
        return f"{listed(self._peers.missing()) or 'the other processes'} at {address}:{port}"

    def _why_they_do_not_meet(self) -> Ending | None:
        missing = [] if self._signs.has_met() else self._peers.missing()
        self._waited_s = self._waited_s + LOOK_S if missing else 0.0
        address, port = self._peers.place
        if self._waited_s > 6 * SAY_S:
            self._say(f"waiting for {listed(missing)} at {address}:{port}")
        if self._were_started_together and self._waited_s > MEETING_S:
            return Ending(
                "failed",
                f"{listed(missing)} did not come to {address}:{port} within {MEETING_S:g} s, though the processes were "
                "started together. Can the machines reach each other there (on one: ip link show lo)?",
            )
        return None

    def _say(self, line: str) -> None:
        if self._speaks and line not in self._said:
            self._said.add(line)
            say(line)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by SIGSTOP, a terminal or a debugger (Linux; elsewhere it is not known)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] in (["T"], ["t"])


def _how_to_let_go_on(silent: Sequence[Peer]) -> str:
    """A sentence about those that are stopped on this machine; else nothing."""
    here = [str(peer.pid) for peer in silent if peer.host == host_name() and is_stopped(peer.pid or 0)]
    return f" Stopped by a signal or a debugger; to let it go on: kill -CONT {' '.join(here)}" if here else ""


def _is(peers: Sequence[Peer]) -> str:
    return "is" if len(peers) == 1 else "are"


def _was(peers: Sequence[Peer]) -> str:
    return "was" if len(peers) == 1 else "were"
