"""Peers: the other processes of a run. Whether they live, and what is told before and after training.

Each process has a thread that writes a line into a store once a second: a count, which says that the process lives, and
who it is. The first process reads all lines, the others that of the first. A process that only works long (it reads
data, it compiles, it validates) keeps counting; one that is stopped, killed or cut off does not. Counts are compared
with what they were, never with a clock of another machine.

The store is torch's, at the place where the processes meet; the first process keeps it, or torchrun does. The main
thread never waits inside it, so a signal is always heard.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Container
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from litscope.errors import LitscopeError
from litscope.starter import HERE, host_name

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch forgets to export it

BEAT_S = 1.0
"""Seconds between two lines of a process."""

HURRY_S = 0.1
"""The same while somebody waits."""

ANSWER_S = 3.0
"""How long the store may take to answer."""

FAREWELL_S = 5.0
"""How long a process that ends waits until the others know."""

LEAVING_S = 120.0
"""How long a process that said that it ends may take to write what it has to."""

COMING_S = 60.0
"""How long the first waits with that for processes that still start: they would look for it in vain."""


class Farewell(NamedTuple):
    """How a process left.

    Attributes:
        call: number of the fit that it left.
        code: its exit code.
        message: why, a sentence; "" if it has been said.
        is_echo: whether the message names another process, whose end this one followed.
    """

    call: int
    code: int
    message: str
    is_echo: bool = False


@dataclass
class Peer:
    """Another process.

    Attributes:
        rank: its number.
        host, pid: where and what it is; None before it has come.
        count: of its lines; -1 before the first.
        silent_s: since its count last changed, by `Peers.look`.
        done: number of the last fit whose end it knows.
        rests: whether it is between two fits, and need not be heard.
        ends: whether it is about to leave; it may have something to write first.
        left: how it left.
        is_gone: whether it is known to be no more, so that nobody waits for it.
    """

    rank: int
    host: str | None = None
    pid: int | None = None
    count: int = -1
    silent_s: float = 0.0
    done: int = 0
    rests: bool = False
    ends: bool = False
    left: Farewell | None = None
    is_gone: bool = False

    @property
    def has_come(self) -> bool:
        """Whether it has been heard of."""
        return self.count >= 0

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})" if self.has_come else f"rank {self.rank}"


class Peers:
    """The other processes of a run.

    Args:
        rank: of this process.
        world_size: how many there are, this one included.
        place: address and port of the store.
        keeps_store: whether this process keeps it.
        name: of this meeting, so that no other run at the same place is taken for it.

    Attributes:
        call: number of the fit under way, from 1: a script may train several times.
        is_connected: whether the store has answered.
        is_lost: whether nobody keeps the store any more.
        others: those that are watched: of the first process all, of any other the first.
    """

    def __init__(self, rank: int, world_size: int, place: tuple[str, int], *, keeps_store: bool, name: str) -> None:
        self.rank, self.world_size, self.place = rank, world_size, place
        self.call = 0
        self.is_connected = self.is_lost = False
        self.others = [Peer(other) for other in range(1, world_size)] if rank == 0 else [Peer(0)]
        self._keeps_store, self._name = keeps_store, name
        self._left: Farewell | None = None
        self._done = self._told_done = self._count = 0
        self._rests = self._ends = self._is_paused = False
        self._outbox: dict[str, str] = {}
        self._wanted: set[str] = set()
        self._found: dict[str, bytes] = {}
        self._news = threading.Condition()
        self._is_over = self._is_hurried = False
        self._thread = threading.Thread(target=self._work, name="litscope-peers", daemon=True)

    def start(self) -> None:
        """Begin to tell and to hear."""
        self._thread.start()

    def close(self) -> None:
        """Tell and hear no more."""
        with self._news:
            self._is_over = True
            self._news.notify_all()
        if self._thread.is_alive():
            self._thread.join(ANSWER_S)  # one that waits for a store which does not answer ends with the process

    def begin(self) -> None:
        """The next fit begins here."""
        with self._news:
            self.call += 1
            self._rests = self._ends = self._is_paused = False
            self._news.notify_all()

    def rest(self) -> None:
        """Until the next fit nothing is told any more: the store may go with the process that keeps it."""
        with self._news:
            self._is_paused = self.rank > 0

    # ---- what is told ------------------------------------------------------------------------

    def send(self, key: str, value: str) -> None:
        """Lay something down for all."""
        with self._news:
            self._outbox[key] = value
            self._news.notify_all()

    def ends(self) -> None:
        """This process is about to leave the fit under way."""
        with self._news:
            self._ends = True

    def leave(self, code: int, message: str, *, is_echo: bool = False, coming_s: float = COMING_S) -> None:
        """Tell the others that this process leaves the fit under way, and wait until those that live know.

        Args:
            code, message, is_echo: as of `Farewell`.
            coming_s: as of `conclude`.
        """
        with self._news:
            self._left = Farewell(self.call, code, message, is_echo)
        self.conclude(coming_s)

    def conclude(self, coming_s: float = COMING_S) -> None:
        """The fit under way is over here: wait until the others know how it ended, as long as they live.

        They end soon after: the store goes with the process that keeps it.

        Args:
            coming_s: how long the first process waits for those that have not come yet.
        """
        with self._news:
            self._done, self._rests, self._is_hurried = self.call, self.rank > 0, True
            self._news.notify_all()
            self._news.wait_for(lambda: self.is_lost or not self.missing(), coming_s if self.rank == 0 else 0)
            self._news.wait_for(lambda: self.is_lost or (self._told_done >= self.call and self._all_know()), FAREWELL_S)
            self._is_hurried = False

    def _all_know(self) -> bool:
        return self.rank > 0 or all(
            other.done >= self.call or self.farewell(other.rank) is not None
            for other in self.others
            if other.has_come and not other.is_gone
        )

    def give_up(self, ranks: Container[int]) -> None:
        """These are known to be no more: nobody waits for them."""
        with self._news:
            for other in self.others:
                other.is_gone |= other.rank in ranks

    def wait_until_first_left(self, patience_s: float) -> None:
        """Wait until the first process has left the fit under way too, or nobody keeps the store any more."""
        with self._news:
            self._is_hurried = True
            self._news.wait_for(lambda: self.is_lost or self.farewell(0) is not None, patience_s)
            self._is_hurried = False

    # ---- what is heard -----------------------------------------------------------------------

    def wait_for(self, key: str) -> bytes:
        """What somebody laid down under a key, once it is there.

        Raises:
            LitscopeError: if the first process has left this fit.
        """
        with self._news:
            self._wanted.add(key)
            self._is_hurried = True
            self._news.notify_all()
            try:
                while key not in self._found:
                    left = self.farewell(0)
                    if left is not None:
                        raise LeftByFirst(left)
                    self._news.wait(HURRY_S)  # with a timeout: a signal is heard between two waits
                return self._found[key]
            finally:
                self._wanted.discard(key)
                self._is_hurried = False

    def farewell(self, rank: int) -> Farewell | None:
        """How a process left the fit under way; None if it has not."""
        left = next(other.left for other in self.others if other.rank == rank)
        return left if left is not None and left.call >= self.call else None

    def failed(self) -> list[Peer]:
        """Those that left the fit under way."""
        return [other for other in self.others if self.farewell(other.rank) is not None]

    def missing(self) -> list[Peer]:
        """Those that have never been heard of."""
        return [other for other in self.others if not other.has_come]

    def silent(self, longer_than_s: float) -> list[Peer]:
        """Those that were heard of, and now not for so long."""
        return [other for other in self.others if other.has_come and other.silent_s > longer_than_s]

    def look(self, seconds: float) -> None:
        """Count how long each is silent.

        Args:
            seconds: since the last look; the looks of a process that is stopped itself do not count.
        """
        with self._news:
            for other in self.others:
                other.silent_s = 0.0 if other.rests else other.silent_s + seconds

    def blame(self, patience_s: float) -> list[Peer]:
        """After a collective has failed: those that left, or are gone.

        Args:
            patience_s: how long to wait for a sign. Whoever lives tells in that time that it does; one that is about to
                leave is waited for.
        """

        def is_known() -> bool:
            return self.is_lost or bool(self.failed())

        def is_near() -> bool:
            return is_known() or any(other.ends for other in self.others)

        with self._news:
            self._news.wait_for(is_near, 2 * BEAT_S)  # for the last lines of those that are gone
            before = {other.rank: other.count for other in self.others}
            self._news.wait_for(is_near, patience_s)
            if any(other.ends for other in self.others):
                self._news.wait_for(is_known, LEAVING_S)
            if self.failed():
                return self.failed()
            gone = [other for other in self.others if other.has_come and other.count == before[other.rank]]
        self.give_up({other.rank for other in gone})
        return gone

    # ---- the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        store: TCPStore | None = None
        while not self._is_over:
            try:
                if not self._is_paused:
                    store = store or self._connect()
                if store is not None and not self._is_paused:
                    self._turn(store)
            except (RuntimeError, OSError):  # torch's own errors are RuntimeErrors
                store = None
            with self._news:
                self._news.notify_all()
                if not self._is_over:
                    self._news.wait_for(self._is_urgent, HURRY_S if self._is_hurried else BEAT_S)

    def _is_urgent(self) -> bool:
        return self._is_over or bool(self._outbox)

    def _connect(self) -> TCPStore | None:
        """The store, if somebody keeps it already. (torch would try for long, and tell each failure in many lines.)"""
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        address, port = self.place
        if self._keeps_store:
            address = HERE
        else:
            try:
                socket.create_connection(self.place, timeout=ANSWER_S).close()
            except ConnectionRefusedError:
                self.is_lost = self.is_connected
                return None
        answer, keeps = timedelta(seconds=ANSWER_S), self._keeps_store
        store = TCPStore(address, port, None, keeps, answer, wait_for_workers=False, multi_tenant=True)
        self.is_connected = True
        return store

    def _turn(self, store: TCPStore) -> None:
        with self._news:
            outbox, self._outbox = self._outbox, {}
            wanted = self._wanted - self._found.keys()
            line, done = self._line(), self._done
        for key, value in outbox.items():
            store.set(self._key(key), value)
        store.set(self._key(f"process/{self.rank}"), line)
        here = [o for o in self.others if o.has_come or store.check([self._key(f"process/{o.rank}")])]
        lines = store.multi_get([self._key(f"process/{other.rank}") for other in here]) if here else []
        found = {key: store.get(self._key(key)) for key in wanted if store.check([self._key(key)])}
        with self._news:
            for other, text in zip(here, lines, strict=True):
                self._hear(other, json.loads(text))
            self._found |= found
            self._count, self._told_done = self._count + 1, done

    def _line(self) -> str:
        facts = {"count": self._count, "host": host_name(), "pid": os.getpid(), "done": self._done}
        return json.dumps({**facts, "rests": self._rests, "ends": self._ends, "left": self._left})

    @staticmethod
    def _hear(other: Peer, facts: dict[str, object]) -> None:
        if facts["count"] != other.count:
            other.silent_s = 0.0
        left = facts.pop("left")
        other.left = Farewell(*left) if isinstance(left, list) else None
        for name, value in facts.items():
            setattr(other, name, value)

    def _key(self, name: str) -> str:
        return f"litscope/{self._name}/{name}"


class LeftByFirst(LitscopeError):
    """The first process has left the fit, and said why."""

    def __init__(self, left: Farewell) -> None:
        super().__init__(left.message or "The first process of the run has ended it.")
        self.exit_code, self.is_said = left.code, True
