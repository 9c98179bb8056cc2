"""sbatch, squeue, scancel and scontrol: what they are asked, and what they say. Nothing is asked of a database."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from litscope.cluster.records import JobRecord
from litscope.errors import ConfigError, LitscopeError

PATIENCE_S = 60
"""How long a busy controller may take to answer."""

_COLUMNS = "%F|%K|%T|%r|%S|%N|%o"
"""Of squeue: the job, the index in its array, state, reason, start or expected start, nodes, script."""


_OF_A_JOB = re.compile("SLURM_|SRUN_|PMI_|PMIX_")
"""How the names of variables begin in which Slurm tells a job what it has. Those for sbatch begin with SBATCH_."""

_OF_PROCESSES = {"MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"}
"""What Lightning and torchrun leave in the environment of a process in which several trained: where those met."""


@dataclass(frozen=True)
class TaskState:
    """Where a job, or one task of an array, stands.

    Attributes:
        job: its number, of an array that of the whole.
        index: in its array, also of several that wait together (`3-16`); "" without one.
        state: Slurm's word: PENDING, RUNNING, COMPLETED, ...
        reason: Slurm's word for why it waits or how it ended; "" for none.
        start: when it began, or is expected to begin (2026-11-30T14:00:00); "" if nobody knows.
        nodes: as Slurm writes them (n[0-1]); "" before it runs.
    """

    job: str
    index: str
    state: str
    reason: str
    start: str
    nodes: str

    @property
    def count(self) -> int:
        """How many tasks it stands for: of an array, those that wait together have one line (`3-7,9%4`)."""
        spans = [span.partition("-") for span in self.index.partition("%")[0].split(",") if span]
        return sum(int(end or start) - int(start) + 1 for start, _, end in spans) or 1

    def has(self, index: int) -> bool:
        """Whether the task of this index in the array is among them."""
        spans = [span.partition("-") for span in self.index.partition("%")[0].split(",") if span]
        return any(int(start) <= index <= int(end or start) for start, _, end in spans)


def require(program: str, instead: str = "") -> None:
    """Refuse what needs Slurm where there is none.

    Args:
        program: the command of Slurm's that is needed.
        instead: a sentence on what can be done here.

    Raises:
        ConfigError: naming the command.
    """
    if shutil.which(program) is None:
        way_out = f" {instead}" if instead else ""
        raise ConfigError(f"{program} is not here: this machine is no login node of a Slurm cluster.{way_out}")


def submit(script: Path) -> tuple[str, str | None]:
    """Give Slurm a job script; returns the job's number and, of several clusters, its own.

    sbatch hands on what it finds in the environment. Inside a job that is also how many cores the job has, which of
    them its processes may use and where each stands, as if it were said of the new one.

    Raises:
        ConfigError: if sbatch refuses it, with its words.
    """
    done = _asked("sbatch", "--parsable", str(script.absolute()), place=without_job(os.environ))
    found = re.match(r"(\d+)(?:;(\S+))?\s*$", done.stdout.strip().rpartition("\n")[2])
    if done.returncode != 0 or found is None:
        raise ConfigError(f"sbatch refused the job: {_words_of(done, 'sbatch')}")
    return found[1], found[2]


def without_job(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what processes of a training here were told of each other, and without what Slurm has told
    the job, or the step of one, that it is of.
    """
    kept = {name: value for name, value in environment.items() if name not in _OF_PROCESSES}
    if "SLURM_JOB_ID" not in environment:
        return kept
    return {name: value for name, value in kept.items() if name == "SLURM_CONF" or not _OF_A_JOB.match(name)}


def states(jobs: Collection[JobRecord]) -> dict[JobRecord, list[TaskState]]:
    """Where jobs stand. Slurm forgets a job some minutes after its end; then its list is empty.

    A number is not a job for ever: another cluster, to which the run was copied, or one that was set up anew, gives it
    to somebody else's. That one has another script, and is left out.

    Raises:
        LitscopeError: if Slurm does not answer.
    """
    found: dict[JobRecord, list[TaskState]] = {}
    for cluster, records in _by_cluster(jobs).items():
        words = ["squeue", *_of(cluster), "--noheader", "--states=all", f"--format={_COLUMNS}"]
        done = _asked(*words, f"--jobs={','.join(dict.fromkeys(record.job for record in records))}")
        if done.returncode != 0 and "Invalid job id" not in done.stderr:
            raise LitscopeError(f"squeue does not say where the jobs stand: {_words_of(done, 'squeue')}")
        rows = [line.strip().split("|", 6) for line in done.stdout.splitlines()]
        tasks = [(_task_state(row[:6]), "".join(row[6:])) for row in rows if len(row) >= 6]
        for record in records:
            own = ("", "(null)", record.script)
            found[record] = [
                task for task, script in tasks if task.job == record.job and (record.script is None or script in own)
            ]
    return found


def _task_state(row: Sequence[str]) -> TaskState:
    return TaskState(*("" if part in ("N/A", "None", "(null)") else part for part in row))


def cancel(record: JobRecord, index: int | None = None) -> None:
    """Have Slurm end a job, or one task of an array.

    Raises:
        ConfigError: if scancel refuses, with its words.
    """
    task = record.job if index is None else f"{record.job}_{index}"
    done = _asked("scancel", *_of(record.cluster), task)
    if done.returncode != 0 and "Invalid job id" not in done.stderr:  # it is over, and forgotten
        raise ConfigError(f"scancel refused to end job {task}: {_words_of(done, 'scancel')}")


def _by_cluster(jobs: Iterable[JobRecord]) -> dict[str | None, list[JobRecord]]:
    grouped: dict[str | None, list[JobRecord]] = defaultdict(list)
    for record in jobs:
        grouped[record.cluster].append(record)
    return grouped


def _of(cluster: str | None) -> list[str]:
    return [] if cluster is None else [f"--clusters={cluster}"]


def _asked(*words: str, place: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    require(words[0])
    try:
        # Else squeue shortens long lists of an array's tasks.
        place = {**place, "SLURM_BITSTR_LEN": "0"}
        return subprocess.run(words, env=place, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise LitscopeError(f"{words[0]} did not answer within {PATIENCE_S} s; Slurm is busy or down.") from None


def _words_of(done: subprocess.CompletedProcess[str], program: str) -> str:
    """What a program of Slurm's said, without its name before each line."""
    lines = [re.sub(rf"^{program}: (?:error: |fatal: )?", "", line) for line in done.stderr.splitlines()]
    return " ".join(filter(None, lines)) or f"exit code {done.returncode}."
