"""Farewells: a process that leaves a run says why, and the others end with its reason and its exit code.

An error on one process closes its connections, and the next collective of all others fails. What they would show is a
traceback of gloo or NCCL that says nothing but that somebody is gone. They ask instead who left (`peers`), and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from litscope.errors import Interrupted, LitscopeError, exit_code_of, words_of
from litscope.launch.peers import LEAVING_S, Peer, Peers

BLAME_S = 2.5
"""How long to look for who is gone, after a collective has failed."""

_OF_COLLECTIVES = ("DistError", "DistBackendError", "DistNetworkError", "DistStoreError", "CheckpointException")


class OthersLeft(LitscopeError):
    """Other processes left the run, or are no more.

    Args:
        gone: these.
    """

    def __init__(self, gone: Sequence[Peer]) -> None:
        super().__init__(why_it_ended(gone))
        self.exit_code = code_of(gone)


@contextmanager
def echoes_told(peers: Peers) -> Iterator[None]:
    """An error inside that is the echo of another process's end is told as that.

    Raises:
        OthersLeft: naming the process.
    """
    try:
        yield
    except BaseException as error:
        gone = _blamed(error, peers)
        peers.ends()
        if gone:
            raise OthersLeft(gone) from error
        raise


@contextmanager
def farewell_said(peers: Peers) -> Iterator[None]:
    """What ends the block early is told the others; and theirs as in `echoes_told`. Nobody waits for those that have
    not come."""
    try:
        with echoes_told(peers):
            yield
    except BaseException as error:
        peers.leave(exit_code_of(error), reason_of(error), is_echo=isinstance(error, OthersLeft), coming_s=0)
        raise


@contextmanager
def leaving_after_first(peers: Peers, *, speaks: bool) -> Iterator[None]:
    """The same for another process than the first, which says why where it lives. It leaves before this one ends: it
    may be writing the end of the run, and srun and torchrun end all processes as soon as one ends with an error.

    Args:
        speaks: whether this process says why where nobody keeps the store any more.

    Raises:
        LitscopeError: with the exit code of the first; `is_said` as above.
        Exception: a defect, whose traceback is wanted.
    """
    try:
        with farewell_said(peers):
            yield
    except BaseException as error:
        peers.wait_until_first_left(LEAVING_S)
        words, first = words_of(error), peers.farewell(0)
        if words is None:
            raise
        ending = error if isinstance(error, LitscopeError) else _as_ours(error, words)
        ending.exit_code = ending.exit_code if first is None else first.code
        ending.is_said |= not (peers.is_lost and speaks)
        if ending is error:
            raise
        raise ending from error
    peers.conclude()


def reason_of(error: BaseException) -> str:
    """An error on one line."""
    words = words_of(error)
    return f"{type(error).__name__}: {error}" if words is None else words


def why_it_ended(gone: Sequence[Peer]) -> str:
    """What to say of a run of which these processes have left, or are no more."""
    left = [(peer, peer.left) for peer in gone if peer.left is not None and peer.left.message]
    told = [farewell.message if farewell.is_echo else f"{peer}: {farewell.message}" for peer, farewell in left]
    return " ".join(told) or f"{listed(gone)} ended, and the run could not go on without it."


def code_of(gone: Sequence[Peer]) -> int:
    """The exit code of a run of which these processes have left, or are no more."""
    return next((peer.left.code for peer in gone if peer.left is not None), LitscopeError.exit_code)


def listed(peers: Sequence[Peer], most: int = 3) -> str:
    """`rank 1 (process 7 on node2) and rank 2 (process 8 on node2)`."""
    more = [f"{len(peers) - most} more"] if len(peers) > most else []
    return " and ".join([*map(str, peers[:most]), *more])


def _blamed(error: BaseException, peers: Peers) -> list[Peer]:
    """The other processes whose end an error is the echo of; none for one of this process itself.

    Of that it tells at once, for the others wait to hear whose it was.
    """
    if isinstance(error, LitscopeError) or not isinstance(error, Exception):
        return []
    return peers.blame(BLAME_S) if _is_of_a_collective(error) else peers.failed()


def _as_ours(error: BaseException, words: str) -> LitscopeError:
    found = Interrupted(words) if isinstance(error, KeyboardInterrupt) else LitscopeError(words)
    found.exit_code = exit_code_of(error)
    return found


def _is_of_a_collective(error: BaseException) -> bool:
    """Whether an error, or one that it followed, is what a collective says that could not be ended."""
    found: BaseException | None = error
    while found is not None:
        kinds = {kind.__name__ for kind in type(found).__mro__}
        if kinds.intersection(_OF_COLLECTIVES):
            return True
        if isinstance(found, RuntimeError) and any(word in str(found).lower() for word in ("gloo", "nccl")):
            return True
        found = found.__cause__ or found.__context__
    return False
