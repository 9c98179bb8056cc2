"""What a job has printed, and what it prints next: over requeues, and for all tasks of an array, until its end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from litscope.cluster import slurm
from litscope.cluster.records import JobRecord
from litscope.cluster.slurm import TaskState
from litscope.cluster.states import OVER, reason_in_words, state_in_words
from litscope.console import say
from litscope.errors import LitscopeError, RunError

LOOK_S = 0.5
"""Seconds between two looks at the files."""

ASK_S = 5.0
"""Seconds between two questions to Slurm, which is shared by everybody on the cluster."""

SILENCE_S = 300.0
"""How long Slurm may fail to answer, as its controller does while it is started again."""

SETTLE_S = 1.0
"""How long the last lines of a job may take to be seen here: they come over a shared disk."""


@dataclass
class LogFile:
    """A file that a job appends to, read on from where it was.

    Attributes:
        path: the file.
        label: before each line, where several files are read; "" for none.
    """

    path: Path
    label: str
    _position: int = 0
    _rest: bytes = b""

    def new_lines(self, is_last: bool = False) -> Iterator[str]:
        """The lines that are whole since the last call.

        Args:
            is_last: also what stands after the last line end.
        """
        with self.path.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        self._position += len(content)
        *whole, self._rest = (self._rest + content).split(b"\n")
        if is_last and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        for line in whole:
            # What a progress bar has drawn over itself is shown as it stood last.
            yield self.label + line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")


def check_task(record: JobRecord, index: int | None) -> None:
    """Refuse a task that a job does not have.

    Raises:
        RunError: if it is no array, or has none of this index.
    """
    if index is None:
        return
    if record.num_tasks is None:
        raise RunError(f"Job {record.job} of {record.run.path} is no array, so it has no task {index}.")
    if not 1 <= index <= record.num_tasks:
        raise RunError(f"Job {record.job} of {record.run.path} has tasks 1 to {record.num_tasks}, and no {index}.")


def log_files(record: JobRecord, index: int | None = None) -> list[LogFile]:
    """The files of a job that are there, those of an array in the order of its tasks.

    Args:
        index: of one task of an array; None: all.

    Raises:
        RunError: as `check_task`.
    """
    check_task(record, index)
    folder = record.run.job_logs
    if record.num_tasks is None:
        path = folder / f"{record.job}.out"
        return [LogFile(path, "")] if path.exists() else []
    found = {}
    for path in folder.glob(f"{record.job}_*.out"):
        name = re.fullmatch(r"\d+_(\d+)\.out", path.name)
        if name and (index is None or int(name[1]) == index):
            found[int(name[1])] = path
    return [LogFile(found[number], f"{number}: " if index is None else "") for number in sorted(found)]


def follow(record: JobRecord, index: int | None, write: Callable[[list[str]], None]) -> None:
    """Hand on the lines of a job as they come, until it is over; say where it stands while it is silent.

    Args:
        index: of one task of an array; None: all.
        write: takes lines that are whole.

    Raises:
        LitscopeError: if Slurm has not answered for minutes.
    """
    files: dict[Path, LogFile] = {}
    asked, answered, told = -ASK_S, time.monotonic(), ""
    while True:
        tasks: list[TaskState] | None = None
        if time.monotonic() - asked >= ASK_S:
            asked = time.monotonic()
            try:
                tasks, answered = _tasks(record, index), asked
            except LitscopeError as error:
                if asked - answered > SILENCE_S:
                    raise
                told = _say_once(f"{error} It is asked again.", told)
        is_over = tasks is not None and all(task.state in OVER for task in tasks)
        if is_over:
            time.sleep(SETTLE_S)
        for file in log_files(record, index):
            known = files.setdefault(file.path, file)
            write(list(known.new_lines(is_last=is_over)))
        if tasks is not None:
            told = _say_once(_standing(record, tasks), told)
        if is_over:
            return
        time.sleep(LOOK_S)


def _tasks(record: JobRecord, index: int | None) -> list[TaskState]:
    tasks = slurm.states([record])[record]
    return tasks if index is None else [task for task in tasks if task.has(index)]


def _standing(record: JobRecord, tasks: list[TaskState]) -> str:
    """Where a job stands, in a line."""
    states = list(dict.fromkeys(task.state for task in tasks))
    words = ", ".join(map(state_in_words, states)) or "is over, and Slurm has forgotten it"
    reasons = dict.fromkeys(reason_in_words(task.reason) for task in tasks if task.reason and task.state == "PENDING")
    return f"job {record.job} {words}" + "".join(f": {reason}" for reason in reasons)


def _say_once(text: str, told: str) -> str:
    """Say a line, unless it was said last; returns what was said last."""
    if text != told:
        say(text)
    return text
