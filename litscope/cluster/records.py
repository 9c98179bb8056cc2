"""Which jobs a run has had: lines of its `jobs.jsonl`, written when a job is submitted and when it is cancelled.

A job whose script a person gave to sbatch is not on record until it begins: its script then writes the line itself.
"""

from __future__ import annotations

import getpass
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.console import shell_word, warn
from litscope.errors import RunError
from litscope.jsonlines import parse_line
from litscope.rundir import RunDir, append_line
from litscope.runs import RUNS

BY_ITSELF = "itself"
"""Who wrote a line, where the job did."""


@dataclass(frozen=True)
class JobRecord:
    """A job of a run.

    Attributes:
        run: whose it is.
        job: the number that Slurm gave it.
        cluster: its cluster, where a controller has several; else None.
        num_tasks: of a job array; else None.
        submitted_at: seconds since 1970; of a job that a person submitted, when it began.
        script: the file that was given to sbatch, as an absolute path; None in lines of an older version, and of a job
            that a person submitted.
        was_cancelled: whether `litscope cancel` ended it.
    """

    run: RunDir
    job: str
    cluster: str | None
    num_tasks: int | None
    submitted_at: float
    script: str | None = None
    was_cancelled: bool = False


def add(run: RunDir, job: str, cluster: str | None, num_tasks: int | None) -> JobRecord:
    """Note a job that was submitted, with the run's `job.sbatch`."""
    record = JobRecord(run, job, cluster, num_tasks, time.time(), str(run.job_script.absolute()))
    line = {name: getattr(record, name) for name in ("job", "cluster", "num_tasks", "submitted_at", "script")}
    append_line(run.jobs, line | {"user": getpass.getuser()}, durable=True)
    return record


def note_cancelled(record: JobRecord) -> None:
    """Note that its user has ended a job, for the time when Slurm has forgotten it."""
    append_line(record.run.jobs, {"job": record.job, "cancelled_at": time.time()}, durable=True)


def records(run: RunDir) -> list[JobRecord]:
    """The jobs of a run, the oldest first. Of a line that cannot be read a warning tells, unless it is half written."""
    if not run.jobs.exists():
        return []
    *raw, _ = run.jobs.read_bytes().split(b"\n")  # behind the last line end is nothing, or half a line
    lines = {number: parse_line(line) for number, line in enumerate(raw, 1) if line.strip()}
    broken = [str(number) for number, line in lines.items() if line is None or not _is_sound(line)]
    if broken:
        warn(
            f"{run.jobs}: line {', '.join(broken)} cannot be read, so a job of this run may be missing here. "
            "`squeue --me` lists yours."
        )
    sound = [line for line in lines.values() if line is not None and _is_sound(line)]
    cancelled = {line["job"] for line in sound if "cancelled_at" in line}
    # A job may begin before who has submitted it has noted that, and then there are two lines.
    noted = {line["job"] for line in sound if "submitted_at" in line and line.get("by") != BY_ITSELF}
    return [
        JobRecord(
            *(run, line["job"], line.get("cluster"), line.get("num_tasks"), line["submitted_at"], line.get("script")),
            line["job"] in cancelled,
        )
        for line in sound
        if "submitted_at" in line and (line.get("by") != BY_ITSELF or line["job"] not in noted)
    ]


def _is_sound(line: dict[str, Any]) -> bool:
    """Whether a line can be what `add` or `note_cancelled` wrote."""
    times = [line[name] for name in ("submitted_at", "cancelled_at") if name in line]
    texts = [line[name] for name in ("cluster", "script") if line.get(name) is not None]
    return (
        re.fullmatch("[0-9]+", str(line.get("job", ""))) is not None
        and isinstance(line["job"], str)
        and len(times) == 1
        and all(isinstance(value, int | float) for value in times)
        and all(isinstance(value, str) for value in texts)
        and isinstance(line.get("num_tasks"), int | None)
    )


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
    if places and (places[0] / "jobs.jsonl").exists():
        raise RunError(f"{places[0]}: none of its jobs is known any more. `squeue --me` lists yours, by their numbers.")
    if places:
        again = f"litscope launch slurm -- fit --resume {shell_word(places[0])}"
        raise RunError(f"{places[0]} has had no job of a cluster. `{again}` gives it one.")
    there = sorted(str(path.parent) for path in RUNS.glob("*/jobs.jsonl"))
    hint = f" Runs with jobs: {', '.join(there[-5:])}." if there else " `litscope launch slurm -- fit ...` submits one."
    raise RunError(f"{named} is no folder here, nor below {RUNS}/.{hint}")
