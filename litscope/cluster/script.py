"""job.sbatch: everything that a job is, in a text that a person can read, change and submit again."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litscope.cluster import timelimit
from litscope.cluster.program import Program, Shape
from litscope.cluster.quoting import command_lines, directive, expanding, file_pattern, quoted
from litscope.cluster.records import BY_ITSELF
from litscope.cluster.site import Site
from litscope.console import one_line
from litscope.rundir import RunDir

SIGNAL_S = 120
"""How many seconds before its time is over a training of ours is told by a signal; of a short job a quarter of its
time. Without a `B:` the signal goes to the tasks, not to the shell that runs the script."""

WANTS_REQUEUE = 75
"""By this exit code a training says that its job should go back into the queue, where it cannot ask itself."""

PORTS_FROM, NUM_PORTS = 20_000, 12_768
"""Where a script of somebody's own meets: below the ports that Linux gives to outgoing connections. Two jobs share one
only if their numbers differ by a multiple of 12,768."""


@dataclass(frozen=True)
class Array:
    """A job of many like tasks.

    Attributes:
        count: how many.
        at_once: how many may run at the same time; None: as many as the cluster lets.
    """

    count: int
    at_once: int | None = None

    @property
    def words(self) -> str:
        """As sbatch takes it: `1-16%4`."""
        return f"1-{self.count}" + ("" if self.at_once is None else f"%{self.at_once}")


def job_script(
    program: Program, shape: Shape, site: Site, asked: Sequence[str], here: Path, array: Array | None = None
) -> str:
    """The text of job.sbatch.

    Args:
        program: what each task runs.
        shape: how many tasks, and where.
        site: the cluster's habits, with what this job has instead.
        asked: the words of the command that asked for it, for the head.
        here: where it was asked, which is where it runs.
        array: of a job array.

    Raises:
        ConfigError: for what no script can hold: a path with a line break, or with a backslash.
    """
    return "\n".join(
        [
            "#!/bin/bash -l" if site.modules else "#!/bin/bash",  # `module` is a function of a login shell
            f"# {one_line(shlex.join(asked))}",
            "# `sbatch` on this file submits it again.",
            *_directives(program, shape, site, here, array),
            "",
            "set -e",
            *_record(program.run, here),
            *_environment(program, shape, site),
            "",
            *_run(program, shape, site, here),
            "",
        ]
    )


def _directives(program: Program, shape: Shape, site: Site, here: Path, array: Array | None) -> list[str]:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", (here / program.run.path).name).lstrip("-") or "job"
    log = here / program.run.job_logs / ("%A_%a.out" if array else "%j.out")
    options: dict[str, object] = {
        "job-name": name,
        "chdir": here,
        "output": f"{file_pattern(log.parent)}/{log.name}",
        "open-mode": "append",
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "array": array.words if array else None,
        "nodes": shape.nodes,
        "ntasks-per-node": shape.devices,
        "cpus-per-task": site.cpus_per_task,
        **(_gpus(shape, site) if program.uses_gpus else {}),
        "mem": site.mem,
        "time": site.time,
        "signal": _signal(program, site),
    }
    lines = [directive(option, value) for option, value in options.items() if value is not None]
    lines.append(directive("requeue" if site.requeue else "no-requeue"))
    return lines + [directive(option, value) for option, value in site.sbatch.items()]


def _signal(program: Program, site: Site) -> str | None:
    if program.signal is None or "signal" in site.sbatch:
        return None
    length = None if site.time is None else timelimit.seconds_of(site.time)
    return f"{program.signal}@{SIGNAL_S if length is None else min(SIGNAL_S, length // 4)}"


def _gpus(shape: Shape, site: Site) -> dict[str, object]:
    kind = f"{site.gpu_type}:" if site.gpu_type else ""
    if site.gpu_request == "gres":
        return {"gres": f"gpu:{kind}{shape.devices}"}
    return {"gpus-per-node": f"{kind}{shape.devices}"}


def _record(run: RunDir, here: Path) -> list[str]:
    """The lines by which a job that a person submitted puts itself on record (`records`). They never fail the job."""
    file = shlex.quote(str(here / run.jobs))
    return [
        "# Submitted by hand, a job puts itself on record: `litscope jobs`, `logs` and `cancel` find it there.",
        '( job="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"',
        f'  [ -z "$job" ] || grep -qsF "\\"job\\": \\"$job\\"" {file} ||',
        f"""    printf '{{"job": "%s", "num_tasks": %s, "submitted_at": %s, "by": "{BY_ITSELF}"}}\\n' \\""",
        f'      "$job" "${{SLURM_ARRAY_TASK_COUNT:-null}}" "$(date +%s)" >> {file} ) || true',
        "",
    ]


def _environment(program: Program, shape: Shape, site: Site) -> list[str]:
    """The lines before the command: modules, variables, and what the person wants done first."""
    lines = [f"module load {shlex.quote(module)}" for module in site.modules]
    lines += ["# Each process computes with the cores that its task was given."]
    lines += ['export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"']
    if site.cache_dir is not None:
        lines.append(f"export LITSCOPE_CACHE={expanding(site.cache_dir)}")
    if program.command is None and shape.tasks > 1:
        lines += [
            "# Where the processes of one script meet.",
            """export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\"""",
            f'export MASTER_PORT="$(({PORTS_FROM} + SLURM_JOB_ID % {NUM_PORTS}))"',
        ]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in site.env.items()]
    return lines + site.setup


def _run(program: Program, shape: Shape, site: Site, here: Path) -> list[str]:
    """The command, and what follows from its exit code."""
    asks_itself = site.container is None or not site.requeue or program.signal is None
    if asks_itself:  # where one process fails, the others do not wait for it
        return [command_lines(_command(["srun", "--kill-on-bad-exit=1"], program, shape, site, here))]
    # The exit code of srun is the highest of its tasks, so none may be killed while it ends.
    return [
        "code=0",
        f"{command_lines(_command(['srun'], program, shape, site, here))} || code=$?",
        "# A training in a container cannot reach Slurm: by its exit code it asks to go back into the queue.",
        f'if [ "$code" -eq {WANTS_REQUEUE} ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
        'exit "$code"',
    ]


def _command(srun: list[str], program: Program, shape: Shape, site: Site, here: Path) -> list[list[str]]:
    """The command, in words that are quoted already: srun, what a container needs, what starts, and its words."""
    if site.cpus_per_task is not None:  # since Slurm 22.05 srun does not take it over from sbatch
        srun = [*srun, '--cpus-per-task="$SLURM_CPUS_PER_TASK"']
    start = []
    if program.command is not None:
        python = site.python or ("python" if site.container else sys.executable)
        start = [shlex.quote(python), "-m", "litscope", program.command]
    elif shape.tasks > 1:
        ranks = "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS"
        start = ["bash", "-c", shlex.quote(f'{ranks}; exec "$@"'), "bash"]
    return [srun, _container(program, site, here), start, quoted(program.added), quoted(program.words)]


def _container(program: Program, site: Site, here: Path) -> list[str]:
    if site.container is None:
        return []
    binds = dict.fromkeys([str(here), str(here / program.run.path), *site.container_binds])
    return [
        *(shlex.quote(site.container_program), "exec"),
        *(["--nv"] if program.uses_gpus else []),
        *(f"--bind={shlex.quote(bind)}" for bind in binds),
        f"--pwd={shlex.quote(str(here))}",
        shlex.quote(site.container),
    ]
