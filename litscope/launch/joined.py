"""A run whose processes another program started (`starter`): the first leads, the others follow.

The first prepares the run as one that is alone, and says and writes what there is to say and write. Then it invites
the others: to the recipe with all its choices, the folder, and the port at which torch meets. They wait for that, and
train. Whatever ends the run on one process is told the others, and said once.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from litscope.errors import ConfigError, exit_code_of
from litscope.launch.farewells import echoes_told, leaving_after_first
from litscope.launch.lookout import SILENT_S, Lookout, Signs
from litscope.launch.peers import Peers
from litscope.launch.places import environment, free_port, variables, why_not_free
from litscope.rundir import RunDir
from litscope.starter import Place, end_step, meeting_place, place_of


class Result(Protocol):
    """What a run is for its caller."""

    @property
    def run(self) -> RunDir:
        """Its folder."""
        ...

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds."""
        ...


R = TypeVar("R", bound=Result)


class Invitation(NamedTuple):
    """What the first process tells the others before they train.

    Attributes:
        recipe: YAML, with all choices made.
        run_dir: the folder, an absolute path.
        port: at which torch meets.
    """

    recipe: str
    run_dir: str
    port: int


class Joined:
    """This process among those that another program started.

    Attributes:
        place: which it is.
        peers: the others.

    Raises:
        ConfigError: if the processes cannot meet.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        address, port = meeting_place(place)
        keeps_store = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        if keeps_store and (why := why_not_free(port)) is not None:
            raise ConfigError(
                f"The processes of this run meet at port {port} of {address}, and {why}. Set another one for all of "
                "them: MASTER_PORT."
            )
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID") if place.starter == "srun" else ("TORCHELASTIC_RUN_ID",)
        name = ".".join([*(os.environ[name] for name in names), str(place.start)])
        self.peers = Peers(place.rank, place.world_size, (address, port), keeps_store=keeps_store, name=name)
        self._has_invited = False

    @property
    def is_first(self) -> bool:
        """Whether this process leads."""
        return self.place.rank == 0

    @property
    def speaks(self) -> bool:
        """Whether this process says that the first one is gone: the first of each machine, and the second of all."""
        return self.place.local_rank == 0 or self.place.rank == 1

    # ---- the first process -------------------------------------------------------------------

    def lead(self, train: Callable[[], R]) -> R:
        """Do the work of the first process, and tell the others how it ended.

        Args:
            train: that work; returns the run.
        """
        self.peers.begin()
        self._has_invited = False
        try:
            result = train()
        except BaseException as error:
            self.peers.leave(exit_code_of(error), "")  # whoever called says why
            raise
        if not self._has_invited:  # there was nothing to train
            self._send("invitation", None)
        self._send("result", [str(result.run.path.resolve()), result.summary])
        self.peers.conclude()
        return result

    @contextmanager
    def led(self, recipe: str, run_dir: Path, signs: Signs, timeout_s: float) -> Iterator[None]:
        """Inside, the others take part.

        Args:
            recipe: YAML, with all choices made.
            run_dir: the run's folder.
            signs: of this process. Told just before it is ended, because another one left or is silent.
            timeout_s: how long a process may be silent.

        Raises:
            LitscopeError: if another one left or died meanwhile.
        """
        port = free_port()
        self._send("invitation", Invitation(recipe, str(run_dir.resolve()), port))
        self._has_invited = True

        def end(code: int) -> NoReturn:
            self.peers.leave(code, "")
            self._end(code)

        with echoes_told(self.peers), self.at(port), Lookout(self.peers, signs, timeout_s, end):
            yield

    # ---- the others --------------------------------------------------------------------------

    @contextmanager
    def following(self, signs: Signs, timeout_s: float) -> Iterator[None]:
        """Another process than the first works inside: what goes wrong is said by the first, where that lives.

        Args:
            signs, timeout_s: as of `led`.
        """
        self.peers.begin()
        try:
            with (
                Lookout(self.peers, signs, timeout_s, self._end, speaks=self.speaks),
                leaving_after_first(self.peers, speaks=self.speaks),
            ):
                yield
        finally:
            self.peers.rest()

    def invitation(self) -> Invitation | None:
        """What the first process says before training; waits for it. None: there is nothing to train.

        Raises:
            LeftByFirst: if it ended before.
        """
        found = self._wait_for("invitation")
        return None if found is None else Invitation(*found)

    def result(self) -> tuple[RunDir, dict[str, Any]]:
        """The folder and the summary of the run; waits for the first process to write them.

        Raises:
            LeftByFirst: if it ended with an error.
        """
        folder, summary = self._wait_for("result")
        return RunDir(folder), summary

    # ---- all ---------------------------------------------------------------------------------

    @contextmanager
    def at(self, port: int) -> Iterator[None]:
        """Inside, torch and Lightning find this process's place, and the others at this port."""
        place = self.place
        address = self.peers.place[0]
        with environment(variables(place.node, place.local_rank, place.num_local, place.world_size, address, port)):
            yield

    def _end(self, code: int) -> NoReturn:
        """End this process, whose main thread waits for something that never comes."""
        if self.peers.silent(SILENT_S):
            end_step()
        os._exit(code)

    def _send(self, what: str, value: Any) -> None:
        self.peers.send(self._key(what), json.dumps(value))

    def _wait_for(self, what: str) -> Any:
        return json.loads(self.peers.wait_for(self._key(what)))

    def _key(self, what: str) -> str:
        return f"{what}/{self.peers.call}"


_joined: Joined | None = None


def join() -> Joined | None:
    """This process among those that another program started; None where it was started alone.

    It is the same one each time: a script may train several times.

    Raises:
        ConfigError: as `place_of`, and if the processes cannot meet.
    """
    global _joined
    place = place_of()
    if place is None or "LITSCOPE_DEVICES" in os.environ:
        return None
    if _joined is None:
        _joined = Joined(place)
        _joined.peers.start()
        atexit.register(_joined.peers.close)
    return _joined
