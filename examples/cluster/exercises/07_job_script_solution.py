"""Exercise 7: the job script of a training on two nodes, as Slurm reads it.

    --show    print the script

Every line of it is told in docs/cluster.md. It needs no Slurm, and ends with "right", or with what is not right yet.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from dataclasses import dataclass, field


@dataclass
class Job:
    """What is asked of the cluster, and the command that it runs."""

    name: str = "mnist"
    partition: str = "gpu"
    nodes: int = 2
    devices_per_node: int = 4
    cpus_per_task: int = 8
    mem_gb: int = 64
    time: str = "01:30:00"
    folder: str = "runs/mnist"
    command: list[str] = field(default_factory=lambda: ["litscope", "fit", "mnist", "--run-dir", "runs/my first"])


def directives(job: Job) -> list[str]:
    """The lines that begin with #SBATCH."""
    # Yours (7a): job-name, partition, nodes, ntasks-per-node, gpus-per-node, cpus-per-task, mem (in G, of each node)
    # and time; output, a file in the job's folder that has %j, the job's number, in its name; signal, USR1 to the
    # tasks 120 seconds before the time is over; requeue. How many tasks does a node have?
    return [
        f"#SBATCH --job-name={job.name}",
        f"#SBATCH --partition={job.partition}",
        f"#SBATCH --nodes={job.nodes}",
        f"#SBATCH --ntasks-per-node={job.devices_per_node}",
        f"#SBATCH --gpus-per-node={job.devices_per_node}",
        f"#SBATCH --cpus-per-task={job.cpus_per_task}",
        f"#SBATCH --mem={job.mem_gb}G",
        f"#SBATCH --time={job.time}",
        f"#SBATCH --output={job.folder}/slurm-%j.out",
        "#SBATCH --signal=USR1@120",
        "#SBATCH --requeue",
    ]
    # End (7a)


def threads(job: Job) -> str:
    """The line that says how many threads each process may use."""
    # Yours (7b): export OMP_NUM_THREADS, as many as a task has cores. Without it each process of a node takes all of
    # them.
    return f"export OMP_NUM_THREADS={job.cpus_per_task}"
    # End (7b)


def start(job: Job) -> str:
    """The line that starts one process for each task."""
    # Yours (7c): srun, --cpus-per-task once more (since Slurm 22.05 srun does not take it over from the lines above),
    # and the command. A word of it may have a space: shlex.join puts the quotes.
    return f"srun --cpus-per-task={job.cpus_per_task} {shlex.join(job.command)}"
    # End (7c)


def script(job: Job) -> str:
    """The whole file."""
    return "\n".join(["#!/bin/bash", *directives(job), "", threads(job), start(job), ""])


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args(words)
    job = Job()
    text = script(job)
    if options.show:
        print(text)
    found = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE))
    wanted = {
        "nodes": "2",
        "ntasks-per-node": "4",
        "gpus-per-node": "4",
        "cpus-per-task": "8",
        "mem": "64G",
        "time": "01:30:00",
        "partition": "gpu",
        "job-name": "mnist",
        "signal": "USR1@120",
        "requeue": "",
    }
    for name, value in wanted.items():
        right(found.get(name) == value, f"--{name} is {value or 'there'}, here {found.get(name)} (7a)")
    right(
        found.get("output", "").startswith("runs/mnist/") and "%j" in found["output"], "the output has the number (7a)"
    )
    right(threads(job) == "export OMP_NUM_THREADS=8", "each process may use 8 threads (7b)")
    right(subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0, "a shell reads it (7c)")
    said = subprocess.run(
        ["bash", "-c", f'srun() {{ printf "%s\\n" "$@"; }}\n{text}'], capture_output=True, text=True, check=False
    )
    started = said.stdout.splitlines()
    right(started[:1] == ["--cpus-per-task=8"], f"srun gives each task its 8 cores, here {started[:1]} (7c)")
    right(started[1:] == job.command, f"srun gets the command word by word, here {started[1:]} (7c)")
    print("right: 2 nodes x 4 tasks, one for each GPU, 8 cores each")


def right(is_so: object, what: str) -> None:
    """End with what is not right yet."""
    if not is_so:
        raise SystemExit(f"not yet: {what}")


if __name__ == "__main__":
    main()
