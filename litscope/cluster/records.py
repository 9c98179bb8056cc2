"""Which jobs a run has had: lines of its `jobs.jsonl`, written when a job is submitted and when it is cancelled."""

from __future__ import annotations

import getpass
import time
from dataclasses import dataclass
from pathlib import Path

from litscope.console import shell_word
from litscope.errors import RunError
from litscope.rundir import RunDir, append_line, read_lines
from litscope.runs import RUNS


@dataclass(frozen=True)
class JobRecord:
    """A job of a run.

    Attributes:
        run: whose it is.
        job: the number that Slurm gave it.
        cluster: its cluster, where a controller has several; else None.
        num_tasks: of a job array; else None.
        submitted_at: seconds since 1970.
        was_cancelled: whether `litscope cancel` ended it.
    """

    run: RunDir
    job: str
    cluster: str | None
    num_tasks: int | None
    submitted_at: float
    was_cancelled: bool = False


def add(run: RunDir, job: str, cluster: str | None, num_tasks: int | None) -> JobRecord:
    """Note a job that was submitted."""
    now = time.time()
    line = {"job": job, "cluster": cluster, "num_tasks": num_tasks, "submitted_at": now, "user": getpass.getuser()}
    append_line(run.jobs, line, durable=True)
    return JobRecord(run, job, cluster, num_tasks, now)


def note_cancelled(record: JobRecord) -> None:
    """Note that its user has ended a job, for the time when Slurm has forgotten it."""
    append_line(record.run.jobs, {"job": record.job, "cancelled_at": time.time()}, durable=True)


def records(run: RunDir) -> list[JobRecord]:
    """The jobs of a run, the oldest first. A line that somebody else wrote there and that says too little is none."""
    lines = [line for line in read_lines(run.jobs) if "job" in line]
    cancelled = {line["job"] for line in lines if "cancelled_at" in line}
    return [
        JobRecord(
            run, line["job"], line.get("cluster"), line.get("num_tasks"), line["submitted_at"], line["job"] in cancelled
        )
        for line in lines
        if "submitted_at" in line
    ]


def last_job(named: str) -> JobRecord:
    """The newest job of a run.

    Args:
        named: the folder of its job's files, or its name below runs/.

    Raises:
        RunError: if there is no such folder, or no job was submitted from it.
    """
    for folder in (Path(named), RUNS / named):
        found = records(RunDir(folder))
        if found:
            return found[-1]
    places = [path for path in (Path(named), RUNS / named) if path.is_dir()]
    if places:
        again = f"litscope launch slurm -- fit --resume {shell_word(places[0])}"
        raise RunError(f"{places[0]} has had no job of a cluster. `{again}` gives it one.")
    there = sorted(str(path.parent) for path in RUNS.glob("*/jobs.jsonl"))
    hint = f" Runs with jobs: {', '.join(there[-5:])}." if there else " `litscope launch slurm -- fit ...` submits one."
    raise RunError(f"{named} is no folder here, nor below {RUNS}/.{hint}")
