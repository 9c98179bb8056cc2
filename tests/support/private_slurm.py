"""A Slurm of one's own: munged, slurmctld and a slurmd for each of two "nodes", all on this machine.

It needs no root, no systemd, no cgroups and no network but the loopback: ports and folder are its own, so several
may run side by side. Everything is real (sbatch, srun, squeue, requeue, signals, time limits) but the nodes, which
are names for this machine, and their GPUs, which are only counted.

Jobs meet at ports that follow from their numbers. So each Slurm counts its jobs from another number on, and theirs are
ports of its own, too.

Tests take the fixture `slurm`; a fixture of a module takes `private_slurm` and hands `environment` to what it starts.
"""

from __future__ import annotations

import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from litscope.cluster.script import PORTS_FROM

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("n0", "n1")
CPUS_PER_NODE = 8
GPUS_PER_NODE = 2

UP_S = 60.0
"""How long the daemons may take to come up on a busy machine; a second, mostly."""

OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL")
"""States that a job does not leave."""

CONFIGURATION = """\
ClusterName=private
FirstJobId={first_job}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SrunPortRange={srun_from}-{srun_to}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0,requeue_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=30
MailProg=/bin/true
RebootProgram=/bin/false
GresTypes=gpu
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def daemon(name: str) -> str | None:
    """The path of a daemon; they lie where the PATH of a person does not always look."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def what_is_missing() -> str | None:
    """Why no Slurm can be started here; None if one can."""
    missing = [name for name in DAEMONS if daemon(name) is None]
    if not missing:
        return None
    return f"no {', '.join(missing)} here; on Debian: apt-get install --no-install-recommends slurm-wlm munge"


class PrivateSlurm:
    """A running Slurm.

    Attributes:
        folder: its configuration, state and logs.
        environment: what a process needs to use it, beside its own variables.
        nodes: names of its nodes, each with 8 CPUs and 2 counted GPUs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = NODES
        # Without an address of its own, gloo asks the resolver for this host's name.
        # The Python of the tests is the one that their jobs find, as in a shell that has activated it.
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "GLOO_SOCKET_IFNAME": "lo",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    # ---- what tests ask of it --------------------------------------------------------------------

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """What a command of Slurm prints.

        Raises:
            AssertionError: if it fails, with what it said.
        """
        place = {**os.environ, **self.environment, **(environment or {})}
        done = subprocess.run(words, env=place, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def state(self, job: int | str) -> str:
        """The job's state in one word, such as RUNNING; of an array the states of its tasks, each once."""
        return ",".join(sorted(set(self.run("squeue", "-h", "-t", "all", "-j", str(job), "-o", "%T").split())))

    def shown(self, job: int | str) -> dict[str, str]:
        """What `scontrol show job` says, by its names."""
        words = self.run("scontrol", "--oneliner", "show", "job", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for(self, job: int | str, *states: str, timeout: float = 120) -> str:
        """Wait until the job is in one of these states (default: until it is over), and return which."""
        wanted = states or OVER
        # A job that waits to be requeued passes through states that look like its end.
        stops = OVER if set(wanted) <= set(OVER) else wanted
        self.wait_until(lambda: self.state(job) in stops, f"job {job} is none of {wanted}", timeout)
        state = self.state(job)
        assert state in wanted, f"job {job} is {state}, not {wanted}\n{self._output(job)}\n{self._log()}"
        return state

    def wait_until(self, is_so: Callable[[], bool], otherwise: str, timeout: float = 120) -> None:
        """Wait for anything; after `timeout` seconds fail with `otherwise` and the end of the log."""
        deadline = time.monotonic() + timeout
        while not is_so():
            assert time.monotonic() < deadline, f"{otherwise} after {timeout:g} s\n{self._log()}"
            time.sleep(0.1)

    def start_now(self, job: int | str) -> None:
        """Let a requeued job start: Slurm holds it back for two minutes, in which its earlier start has ended. An srun
        that is left of it would end the new one, whose step has the same number.
        """
        self.wait_for(job, "PENDING", "RUNNING", *OVER)
        if self.state(job) == "PENDING":
            self.wait_until(lambda: not self._processes(f"SLURM_JOB_ID={job}"), f"something is left of job {job}")
            self.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def cut_off(self, name: str) -> None:
        """Nothing is heard of the node any more: its daemon and all that runs there stand still. Slurm does not know
        that it will not come back."""
        for pid in (*self._steps(name), self._daemons[name].pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def fail_node(self, name: str) -> None:
        """The node dies, with all that runs on it."""
        victims = self._steps(name)
        self._daemons[name].kill()
        self._daemons.pop(name).wait()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # none may see another die, and tell the controller
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=test")

    def revive_node(self, name: str) -> None:
        """A node that died comes back."""
        self._start_node(name)
        self.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
        self.wait_until(lambda: self._is_up(name), f"{name} did not come back", UP_S)

    def clear(self) -> None:
        """Cancel every job, wait until they are gone, and revive dead nodes."""
        self.run("scancel", "--user", getpass.getuser())
        with suppress(AssertionError):
            self.wait_until(lambda: not self.run("squeue", "-h"), "jobs remain", 20)
        if self.run("squeue", "-h"):
            self.run("scancel", "--signal=KILL", "--user", getpass.getuser())
            self.wait_until(lambda: not self.run("squeue", "-h"), "jobs remain", 30)
        for name in self.nodes:
            if name not in self._daemons:
                self.revive_node(name)

    # ---- its life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemons and wait until both nodes are idle."""
        for name in ("state", *(f"spool.{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        port = _free_ports(1 + len(self.nodes))
        host = socket.gethostname().partition(".")[0]
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + 1 + i} CPUs={CPUS_PER_NODE} "
            f"RealMemory=8000 Gres=gpu:{GPUS_PER_NODE} State=UNKNOWN"
            for i, name in enumerate(self.nodes)
        ]
        text = CONFIGURATION.format(
            host=host,
            user=getpass.getuser(),
            port=port,
            first_job=port + 10 - PORTS_FROM,
            srun_from=port + 100,
            srun_to=port + 199,
            folder=self.folder,
            nodes="\n".join(nodes),
        )
        (self.folder / "slurm.conf").write_text(text)
        # Slurm wants a device file for each GPU, and opens none.
        gres = [f"NodeName={name} Name=gpu File={file}\n" for name in self.nodes for file in ("/dev/null", "/dev/zero")]
        (self.folder / "gres.conf").write_text("".join(gres))
        self._start("munged", *self._munge_words())
        self.wait_until((self.folder / "munge.sock").exists, "munged did not come up", UP_S)
        self._start("slurmctld", "-D", "-c")
        for name in self.nodes:
            self._start_node(name)
        self.wait_until(lambda: all(map(self._is_up, self.nodes)), "Slurm did not come up", UP_S)

    def stop(self) -> None:
        """Cancel what runs, and stop the daemons."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self.clear()
        for process in reversed(self._daemons.values()):
            process.terminate()
        for process in self._daemons.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, *words: str, called: str | None = None) -> None:
        """Start a daemon in the foreground; the kernel ends it when this process dies, however that happens."""
        program = daemon(name)
        assert program is not None
        setpriv = shutil.which("setpriv")
        leash = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with (self.folder / "daemons.log").open("ab") as log:
            self._daemons[called or name] = subprocess.Popen(
                [*leash, program, *words],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for pytest
            )

    def _start_node(self, name: str) -> None:
        self._start("slurmd", "-D", "-N", name, called=name)

    def _munge_words(self) -> list[str]:
        files = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        return [
            *("--foreground", "--force", "--num-threads=2"),
            *(f"--{flag}={self.folder}/munge.{suffix}" for flag, suffix in files.items()),
        ]

    def _is_up(self, name: str) -> bool:
        """Whether a node answers; a job that waited for it may run there at once."""
        words = ("sinfo", "-h", "-N", "-n", name, "-o", "%t")
        done = subprocess.run(words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() in ("idle", "mix", "alloc")

    def _steps(self, name: str) -> list[int]:
        """The processes of a node's jobs, those first that would tell the controller how the others ended."""
        found = self._processes(f"SLURMD_NODENAME={name}")
        parents = {parent for pid in found if (parent := _parent(pid, "slurmstepd")) is not None}
        return [*parents, *found]

    def _processes(self, variable: str) -> list[int]:
        """Those of this Slurm's jobs that were started with a variable."""
        found = []
        for place in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                variables = place.read_bytes().split(b"\0")
                if variable.encode() in variables and self._is_ours(variables):
                    found.append(int(place.parent.name))
        return found

    def _is_ours(self, variables: list[bytes]) -> bool:
        return f"SLURM_CONF={self.environment['SLURM_CONF']}".encode() in variables

    def _output(self, job: int | str) -> str:
        file = Path(self.shown(job).get("StdOut", ""))
        return file.read_text(errors="replace") if file.is_file() else f"no output in {file}"

    def _log(self) -> str:
        logs = (self.folder / "daemons.log", self.folder / "slurmctld.log")
        return "\n".join(line for log in logs if log.exists() for line in log.read_text().splitlines()[-20:])


def _parent(pid: int, name: str) -> int | None:
    """The parent of a process, if it has this name."""
    with suppress(OSError):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if Path(f"/proc/{parent}/comm").read_text().strip() == name:
            return parent
    return None


@contextmanager
def running_slurm() -> Iterator[PrivateSlurm]:
    """A Slurm for as long as the block lasts. Its folder is near the root: a socket's path has 107 characters."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        slurm = PrivateSlurm(Path(folder))
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.stop()


def _free_ports(count: int) -> int:
    """The first of `count` ports in a row on which nobody listens, below those that the system hands out by itself."""
    for _ in range(100):
        first = random.SystemRandom().randrange(20_000, 32_000, 200)
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as server:
                    server.bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports between 20,000 and 32,200")
