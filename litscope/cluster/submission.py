"""A job written into the folder of its run, and submitted. Where it logs is there before it starts."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.cluster import records, slurm, timelimit
from litscope.cluster.program import Program, Shape
from litscope.cluster.script import Array, job_script
from litscope.cluster.site import Site
from litscope.cluster.states import OVER
from litscope.console import number_of, shell_word
from litscope.errors import LitscopeError, RunError
from litscope.rundir import RunDir, write_text


@dataclass(frozen=True)
class Submission:
    """A job, as it is asked for.

    Attributes:
        program: what each task runs.
        shape: how many tasks, and where.
        site: the cluster's habits, with what this job has instead.
        asked: the whole line that asked for it (`litscope launch slurm ... -- fit ...`).
        launcher: its words before the `--`.
        here: the working directory.
        array: of a job array.
    """

    program: Program
    shape: Shape
    site: Site
    asked: tuple[str, ...]
    launcher: tuple[str, ...]
    here: Path
    array: Array | None = None

    @property
    def script(self) -> str:
        """The text of job.sbatch."""
        return job_script(self.program, self.shape, self.site, self.asked, self.here, self.array)

    def submit(self) -> Submitted:
        """Write the script into the run's folder, and give it to Slurm. Refused, it leaves nothing behind.

        Raises:
            ConfigError: if sbatch refuses, with its words.
            RunError: if an earlier job of the run waits or runs.
        """
        run = self.program.run
        try:
            script = self.script
            slurm.require("sbatch", "To see the job's script: --dry-run.")
            require_idle(run, "Wait for its end, or first")
            is_first = not run.job_script.exists()
            run.job_logs.mkdir(parents=True, exist_ok=True)
            write_text(run.job_script, script)
            try:
                job, cluster = slurm.submit(run.job_script)
            except LitscopeError:
                if is_first:
                    run.job_script.unlink()
                    run.job_logs.rmdir()
                raise
        except LitscopeError:
            if self.program.is_claimed:
                run.path.rmdir()
                with suppress(OSError):  # others lie there
                    run.path.parent.rmdir()
            raise
        return Submitted(self, records.add(run, job, cluster, self.array.count if self.array else None))


@dataclass(frozen=True)
class Submitted:
    """A job that Slurm has taken."""

    submission: Submission
    record: records.JobRecord

    def lines(self) -> list[str]:
        """What a person wants to know of it, and may type next."""
        asked, run = self.submission, self.submission.program.run
        where = shell_word(run.path)
        shape = asked.shape
        facts = [number_of(shape.tasks if asked.array is None else asked.array.count, "task")]
        facts[0] += f" on {shape.nodes} nodes" if shape.nodes > 1 else ""
        if asked.site.time is not None:
            facts.append(f"time limit {timelimit.in_words(asked.site.time)}")
        again = shlex.join([*asked.launcher, "--", *asked.program.goes_on])
        shows = [f"what it found: {shlex.join(asked.program.shows)}"] if asked.program.shows else []
        return [
            f"job {self.record.job}: {run.job_script}, {', '.join(facts)}",
            "where it stands: litscope jobs",
            f"what it says: litscope logs {where} -f",
            *shows,
            f"to end it: litscope cancel {where}",
            f"to go on after its end: {again}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """The job in plain values, for --json."""
        asked, run = self.submission, self.submission.program.run
        return {
            "job": self.record.job,
            "cluster": self.record.cluster,
            "folder": str(run.path),
            "script": str(run.job_script),
            "nodes": asked.shape.nodes,
            "devices_per_node": asked.shape.devices,
            "num_tasks": self.record.num_tasks,
            "goes_on": [*asked.launcher, "--", *asked.program.goes_on],
        }


def require_idle(run: RunDir, advice: str) -> None:
    """Refuse what cannot be while a job of the run waits or runs.

    Args:
        advice: what to do, up to the command that cancels the job.

    Raises:
        RunError: naming the job.
        LitscopeError: if Slurm does not say where it stands.
    """
    earlier = records.records(run)[-1:]
    for record in earlier:
        for task in slurm.states(earlier)[record]:
            if task.state not in OVER:
                raise RunError(
                    f"{run.path} has job {record.job}, which is {task.state}. {advice}: "
                    f"litscope cancel {shell_word(run.path)}"
                )
