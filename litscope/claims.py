"""Who may write to a run: one process at a time, and those that train with it.

A lock keeps other processes out for as long as the process lives. It does not keep out an orphan: a process of an
attempt that was given up, because its node was cut off or died half, while the run goes on elsewhere. So who begins
writes its name and a token of its own into `.trainer.json`, and before a file of the run gets its name or a line its
place, the writer looks whether the token is still its own. Plain files do for that, on a network share as well: it is
opened anew each time, which makes a share ask its server.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from typing import Any

from litscope.batch_job import BatchJob, this_job
from litscope.console import moment, say, shell_word
from litscope.errors import RunError, Superseded
from litscope.rundir import RunDir, write_json

RETRY_S = 0.5
"""Seconds between two tries to get the lock of an orphan that has not noticed yet."""

Guard = Callable[[], None]
"""Called before something is written; raises `Superseded` in a process that may not write any more."""


def unguarded() -> None:
    """The guard of what nobody else can take over."""


@dataclass(frozen=True)
class Claim:
    """A process's right to write to a run, and that of the processes which train with it.

    Attributes:
        run: the run's folder.
        token: what stands in the folder as long as the claim holds.
    """

    run: RunDir
    token: str

    def check(self) -> None:
        """Look whether the claim still holds. Costs one small file read.

        Raises:
            Superseded: if another process has claimed the run since.
        """
        trainer = trainer_of(self.run)
        if trainer.get("token", self.token) != self.token:
            raise Superseded(
                f"{self.run.path} is trained by {name_of(trainer)} now, since {moment(trainer['since'])}. This process "
                "belongs to an attempt that was given up: it ends, and has written nothing since."
            )


def trainer_of(run: RunDir) -> dict[str, Any]:
    """Who trains a run, or did last: token, host, pid, job, since. Empty where it does not say so, or is gone."""
    try:
        trainer = json.loads(run.trainer.read_bytes())
    except (OSError, ValueError):  # no news: a share that is gone for a moment has not given the run to anybody
        return {}
    is_ours = isinstance(trainer, dict) and trainer.keys() >= {"token", "host", "pid", "job", "since"}
    return trainer if is_ours else {}


def name_of(trainer: dict[str, Any]) -> str:
    """Words for the process that `trainer_of` found."""
    if not trainer:
        return "another process"
    job = f", {BatchJob(**trainer['job'])}" if trainer["job"] else ""
    return f"another process ({trainer['pid']} on {trainer['host']}{job})"


@contextmanager
def held(run: RunDir, advice: str | None = None) -> Iterator[Claim]:
    """Keep other processes from training this run meanwhile. The lock goes with the process, however it ends.

    An earlier start of the same batch job keeps nobody out: the scheduler has ended it. If it still has the lock, its
    node was cut off; it is superseded, and the lock taken as soon as it is free.

    Args:
        advice: what to do if another process has it; default: to wait, or stop that run.

    Raises:
        RunError: if another process has it. Where the file system has no locks, nobody is kept out; who had begun
            earlier is then superseded.
    """
    with (run.path / ".training").open("a") as lock:
        is_free = _try_to_lock(lock)
        trainer = trainer_of(run)
        if not is_free and not _is_orphan(trainer):
            way_out = advice or f"Wait for it, or end it: litscope stop {shell_word(run.path)}."
            raise RunError(f"{run.path} is being trained by {name_of(trainer)}. {way_out}")
        claim = Claim(run, secrets.token_hex(8))
        job = this_job()
        write_json(
            run.trainer,
            {
                "token": claim.token,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "job": asdict(job) if job is not None else None,
                "since": time.time(),
            },
        )
        if is_free:
            yield claim
            return
        say(f"{run.path}: {name_of(trainer)} of an earlier start of this job has not ended; it may write no more")
        with _locked_when_free(lock):
            yield claim


def _is_orphan(trainer: dict[str, Any]) -> bool:
    """Whether the process that has the lock is of an earlier start of this batch job."""
    job = this_job()
    return job is not None and bool(trainer.get("job")) and job.is_later_than(BatchJob(**trainer["job"]))


def _try_to_lock(file: TextIOWrapper) -> bool:
    """Lock a file, without waiting; whether it is ours. Where the file system has no locks, it is."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


@contextmanager
def _locked_when_free(file: TextIOWrapper) -> Iterator[None]:
    """Inside, a thread waits for the lock, and keeps it."""
    is_over = threading.Event()

    def take() -> None:
        while not is_over.wait(RETRY_S) and not _try_to_lock(file):
            pass

    thread = threading.Thread(target=take, name="litscope-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
