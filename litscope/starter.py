"""Who started the processes of a run: srun, torchrun, or nobody, so that the first one starts the others itself.

What another program started joins: its tasks are the processes of the run, and none is started beside them. All of it
is read off the environment, and counts only where it is whole. What a finished job or another program left behind
(`RANK=1`, an empty `LOCAL_RANK=`) is passed over, and so is what a batch script or a shell of Slurm has, which are one
process whatever SLURM_NTASKS says: only the tasks of a step (`srun`) have siblings.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from litscope.errors import ConfigError

HERE = "127.0.0.1"
"""Where the processes of one machine meet."""

LARGEST_PORT = 65_535

FIRST_PORT, NUM_PORTS, STEPS = 10_240, 22_528, 16
"""Where the ports of Slurm's steps lie: below those that Linux hands out by itself (32,768 and above). Two jobs whose
numbers differ by less than 1,408 never share one, and neither do sixteen steps of a job in a row."""


@dataclass(frozen=True)
class Place:
    """Where this process stands among those that another program started.

    Attributes:
        starter: that program.
        node, num_nodes: number of this machine, from 0, and how many there are.
        local_rank, num_local: number of this process on its machine, from 0, and how many there are on each.
        start: how often they were started before: torchrun starts them all again when one has died.
        may_restart: whether it will.
    """

    starter: Literal["srun", "torchrun"]
    node: int
    num_nodes: int
    local_rank: int
    num_local: int
    start: int = 0
    may_restart: bool = False

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.node * self.num_local + self.local_rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self.num_nodes * self.num_local

    def words(self) -> str:
        """What was started: "srun started 4 tasks, 2 on each of 2 machines"."""
        what = "tasks" if self.starter == "srun" else "processes"
        where = "on this machine" if self.num_nodes == 1 else f"{self.num_local} on each of {self.num_nodes} machines"
        return f"{self.starter} started {self.world_size} {what}{', ' if self.num_nodes > 1 else ' '}{where}"


def place_of(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The place that an environment tells; None for a process that has no siblings.

    torchrun comes first, for it may run inside a step of Slurm, once on each machine.

    Raises:
        ConfigError: if the machines have unequally many processes.
    """
    return _of_torchrun(environment) or _of_srun(environment)


def share_of_cores(cores: int, num_local: int, environment: Mapping[str, str] = os.environ) -> int:
    """How many of the cores that this process may use are its own, at least 1.

    Processes that nobody placed share them. A task of srun may be bound to its own already: it has what it asked for
    (--cpus-per-task), or its part of what the job has on the machine.

    Args:
        cores: that this process may use, by `limits.num_cores`.
        num_local: processes of the run on this machine.
    """
    place = _of_srun(environment)
    if place is None:
        return max(1, cores // num_local)
    asked, on_node = (_number(environment, f"SLURM_CPUS_{name}") for name in ("PER_TASK", "ON_NODE"))
    return max(1, min(cores, asked or (on_node or cores) // place.num_local))


def _of_torchrun(environment: Mapping[str, str]) -> Place | None:
    names = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "LOCAL_RANK")
    numbers = _numbers(environment, names)
    if "TORCHELASTIC_RUN_ID" not in environment or numbers is None or numbers[0] < 2:
        return None
    world_size, num_local, node, local_rank = numbers
    num_nodes, left_over = divmod(world_size, num_local)
    if left_over or int(environment.get("GROUP_WORLD_SIZE", num_nodes)) != num_nodes:
        raise ConfigError(
            f"torchrun started {world_size} processes, {num_local} of them on this machine: give each machine as many "
            "(the same --nproc-per-node)."
        )
    start, restarts = (_number(environment, f"TORCHELASTIC_{name}") or 0 for name in ("RESTART_COUNT", "MAX_RESTARTS"))
    return Place("torchrun", node, num_nodes, local_rank, num_local, start, restarts > 0)


def _of_srun(environment: Mapping[str, str]) -> Place | None:
    names = (
        "SLURM_JOB_ID",
        "SLURM_STEP_ID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_NUM_NODES",
        "SLURM_NODEID",
        "SLURM_LOCALID",
    )
    numbers = _numbers(environment, names)
    if numbers is None or numbers[2] < 2:
        return None
    _, _, num_tasks, num_nodes, node, local_rank = numbers
    shares = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    num_local, left_over = divmod(num_tasks, num_nodes)
    if _is_of_another_job(environment, shares, num_nodes):
        return None
    if left_over or "," in shares:
        raise ConfigError(
            f"srun started {num_tasks} tasks on {num_nodes} machines, unequally many on each ({shares}): give each as "
            "many (--ntasks-per-node)."
        )
    return Place("srun", node, num_nodes, local_rank, num_local, _number(environment, "SLURM_RESTART_COUNT") or 0)


def _is_of_another_job(environment: Mapping[str, str], shares: str, num_nodes: int) -> bool:
    """Whether what is told of a step was told in another job, in a step of which this one was submitted.

    sbatch hands on the whole environment, and Slurm overwrites in it what each job has, but not what only a step has.

    Args:
        shares: how many tasks the step has on each machine, as Slurm writes it (`2(x3),1`).
        num_nodes: machines of the step.
    """
    here = environment.get("SLURM_GTIDS", "")  # the numbers of the tasks on this machine, of a batch script "0"
    counts = re.findall(r"(?<![\dx])\d+", shares)
    is_other = bool(here and counts) and str(len(here.split(","))) not in counts
    job_nodes = _number(environment, "SLURM_JOB_NUM_NODES")
    return is_other or (job_nodes is not None and job_nodes < num_nodes)


def _numbers(environment: Mapping[str, str], names: tuple[str, ...]) -> list[int] | None:
    """The whole numbers of these names; None if one is missing, or something else."""
    numbers = [number for name in names if (number := _number(environment, name)) is not None]
    return numbers if len(numbers) == len(names) else None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    return int(text) if text.isdecimal() else None


def host_name() -> str:
    """The name of this machine, as Slurm calls it if a job runs here."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the first of those that were started together, or was started alone."""
    try:
        place = place_of(environment)
    except ConfigError:  # which all of them are told
        return environment.get("RANK", environment.get("SLURM_PROCID")) == "0"
    return place is None or place.rank == 0


def is_silent(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether another process of this machine says what this one would say, too: only the first of each speaks."""
    try:
        place = place_of(environment)
    except ConfigError:
        return environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID")) != "0"
    return place is not None and place.local_rank > 0


def refuse_company(command: str, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a command that works in one process where several were started, all of which would do the same work.

    Args:
        command: as typed: `litscope evaluate`.

    Raises:
        ConfigError: with what to type.
    """
    place = place_of(environment)
    if place is None:
        return
    alone = "srun --ntasks=1" if place.starter == "srun" else "no torchrun before it"
    raise ConfigError(
        f"{command} works in one process, and {place.words()}. Start it with {alone}; of litscope's commands only fit "
        "trains in all of them."
    )


def idle_tasks(world_size: int, environment: Mapping[str, str] = os.environ) -> str | None:
    """A line for a run that leaves a part of its Slurm job idle, because srun is missing before the command.

    Args:
        world_size: processes of the run.
    """
    names = ("SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS")
    numbers = _numbers(environment, names)
    if numbers is None or _number(environment, "SLURM_STEP_ID") is not None or world_size > 1:
        return None
    _, num_nodes, num_tasks = numbers
    if num_tasks == 1:
        return None
    machines = "1 machine" if num_nodes == 1 else f"{num_nodes} machines"
    return f"this job has {num_tasks} tasks on {machines}, and this is one process: to train in all, put srun before it"


# ---- where they meet ---------------------------------------------------------------------------


def meeting_place(place: Place, environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Address and port at which the processes of a run find each other, the same for all of them.

    MASTER_ADDR and MASTER_PORT, where they are set: torchrun sets them, and a job script may. In a step of Slurm the
    address is else that of its first machine, and the port comes from the numbers of job and step.

    Raises:
        ConfigError: for a port that is none, and a machine without a known address.
    """
    port = environment.get("MASTER_PORT", "").strip()
    if port and not (port.isdecimal() and 0 < int(port) <= LARGEST_PORT):
        raise ConfigError(f"MASTER_PORT is {port!r}; a port is a whole number from 1 to {LARGEST_PORT}.")
    return _address(place, environment), int(port) if port else step_port(environment)


def step_port(environment: Mapping[str, str]) -> int:
    """A port for a step of Slurm: the first that Slurm reserved for it, else one that its numbers name."""
    reserved = re.match(r"\d+", environment.get("SLURM_STEP_RESV_PORTS", ""))
    if reserved is not None:
        return int(reserved[0])
    job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
    return FIRST_PORT + (job * STEPS + step % STEPS) % NUM_PORTS


def _address(place: Place, environment: Mapping[str, str]) -> str:
    given = environment.get("MASTER_ADDR", "").strip()
    if not given and place.num_nodes == 1:
        return HERE
    host = given or first_host(environment.get("SLURM_STEP_NODELIST", ""))
    try:
        socket.getaddrinfo(host, None)
    except OSError:  # perhaps a name of Slurm's own
        found = _slurms_address(host)
    else:
        found = host
    if found is None:
        who = "MASTER_ADDR" if given else "the first machine of this step"
        raise ConfigError(
            f"The address of {host}, {who}, is not known here. Set MASTER_ADDR to an address of that machine, in a job "
            "script before srun."
        )
    return found


def first_host(nodes: str) -> str:
    """The first machine of a list as Slurm writes it.

    >>> first_host("rack[2-3]n[03,07-09],login1")
    'rack2n03'
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    assert first is not None  # it matches the empty text
    return re.sub(r"\[([^,\-\]]*)[^\]]*\]", r"\1", first[0])


def _slurms_address(host: str) -> str | None:
    """What Slurm's own configuration says of a machine whose name nobody else knows."""
    scontrol = shutil.which("scontrol")
    if scontrol is None:
        return None
    shown = subprocess.run(
        [scontrol, "show", "node", host, "--oneliner"], capture_output=True, text=True, check=False, timeout=60
    )
    found = re.search(r"\bNodeAddr=(\S+)", shown.stdout)
    return found[1] if found else None


def end_step(environment: Mapping[str, str] = os.environ) -> None:
    """Have Slurm kill the whole step of this process: tasks that are stopped or cut off do not end by themselves."""
    scancel, place = shutil.which("scancel"), _of_srun(environment)
    if scancel is None or place is None:
        return
    step = f"{environment['SLURM_JOB_ID']}.{environment['SLURM_STEP_ID']}"
    subprocess.run([scancel, "--signal=KILL", step], capture_output=True, check=False, timeout=60)


def quiet_torch() -> None:
    """Where processes were started together, have torch log errors alone: a process that is gone is told in a sentence,
    and by torch in lines of its own stack. Before torch is imported."""
    if "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_STEP_ID" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def forget_empty_ranks() -> None:
    """Take out of the environment what stands there for a rank and is no number, before Lightning reads it.

    Lightning turns RANK, LOCAL_RANK and the like into numbers when it is imported, whoever left them behind.
    """
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        if name in os.environ and _number(os.environ, name) is None:
            del os.environ[name]
