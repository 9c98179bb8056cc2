"""Who started this process, as the environment says: what srun, torchrun and left-over variables look like."""

from __future__ import annotations

import pytest
from forked import run_cli

from litscope import starter
from litscope.errors import ConfigError
from litscope.starter import (
    Place,
    first_host,
    idle_tasks,
    is_first,
    is_silent,
    meeting_place,
    place_of,
    share_of_cores,
    step_port,
)

BATCH = {
    "SLURM_JOB_ID": "41",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_JOB_NODELIST": "n[0-1]",
}
"""What the shell of a batch script has: it is one process, whatever the job asked for."""

TASK = {
    **BATCH,
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "n[0-1]",
    "SLURM_PROCID": "3",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "1",
}

ELSEWHERE = {"SLURM_JOB_ID": "9", "SLURM_GTIDS": "0", "SLURM_JOB_NUM_NODES": "1", "SLURM_LOCALID": "0"}
"""What Slurm overwrites in TASK for the batch script of a job that was submitted there."""

ELASTIC = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "TORCHELASTIC_MAX_RESTARTS": "0",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "RANK": "2",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.9",
    "MASTER_PORT": "29500",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (BATCH, None),
        (TASK, Place("srun", 1, 2, 1, 2)),
        ({**TASK, "SLURM_RESTART_COUNT": "3"}, Place("srun", 1, 2, 1, 2, start=3)),
        ({**TASK, "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({**TASK, "SLURM_STEP_ID": ""}, None),
        ({**TASK, "SLURM_GTIDS": "2,3"}, Place("srun", 1, 2, 1, 2)),
        ({**TASK, **ELSEWHERE}, None),
        ({**TASK, **ELSEWHERE, "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_STEP_NUM_TASKS": "2"}, None),
        (ELASTIC, Place("torchrun", 1, 2, 0, 2)),
        (
            {**ELASTIC, "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_MAX_RESTARTS": "3"},
            Place("torchrun", 1, 2, 0, 2, start=1, may_restart=True),
        ),
        ({**TASK, **ELASTIC}, Place("torchrun", 1, 2, 0, 2)),
        ({**ELASTIC, "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "GROUP_WORLD_SIZE": "1"}, None),
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}, None),
        ({"RANK": "", "LOCAL_RANK": "", "WORLD_SIZE": ""}, None),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "two", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}, None),
    ],
)
def test_the_place_of_a_process(environment: dict[str, str], expected: Place | None) -> None:
    assert place_of(environment) == expected


def test_numbers_of_processes() -> None:
    place = place_of(TASK)
    assert place is not None
    assert (place.rank, place.world_size) == (3, 4)
    assert place.words() == "srun started 4 tasks, 2 on each of 2 machines"
    assert Place("torchrun", 0, 1, 0, 2).words() == "torchrun started 2 processes on this machine"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {**TASK, "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "2,1"},
            "srun started 3 tasks on 2 machines",
        ),
        ({**ELASTIC, "WORLD_SIZE": "3"}, "torchrun started 3 processes, 2 of them on this machine"),
    ],
)
def test_machines_have_equally_many(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        place_of(environment)
    assert not is_first({**environment, "RANK": "1", "SLURM_PROCID": "1"})
    assert is_silent({**environment, "LOCAL_RANK": "1", "SLURM_LOCALID": "1"})


def test_one_process_of_a_run_writes_and_one_of_a_machine_speaks() -> None:
    places = [{**TASK, "SLURM_NODEID": node, "SLURM_LOCALID": local} for node in "01" for local in "01"]
    assert [is_first(place) for place in places] == [True, False, False, False]
    assert [is_silent(place) for place in places] == [False, True, False, True]
    assert is_first(BATCH)
    assert not is_silent(BATCH)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("n0", "n0"),
        ("n[3-5,9]", "n3"),
        ("a1,n[3-5]", "a1"),
        ("rack[2-3]n[03,07-09],b", "rack2n03"),
        ("n[12]-x", "n12-x"),
    ],
)
def test_the_first_machine_of_a_list(nodes: str, expected: str) -> None:
    assert first_host(nodes) == expected


def test_ports_of_steps_near_each_other_differ() -> None:
    ports = {
        step_port({"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)})
        for job in range(7000, 8000)
        for step in range(16)
    }
    assert len(ports) == 16_000
    assert min(ports) >= 10_240
    assert max(ports) < 32_768
    assert step_port({**TASK, "SLURM_STEP_RESV_PORTS": "12005-12006"}) == 12_005


def test_where_they_meet() -> None:
    task = {**TASK, "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "4"}
    place, elastic = place_of(task), place_of(ELASTIC)
    assert place is not None
    assert elastic is not None
    assert meeting_place(place, task) == ("127.0.0.1", step_port(task))
    assert meeting_place(place, {**task, "MASTER_ADDR": "localhost", "MASTER_PORT": " 900 "}) == ("localhost", 900)
    assert meeting_place(elastic, ELASTIC) == ("127.0.0.9", 29_500)
    with pytest.raises(ConfigError, match="MASTER_PORT is 'http'"):
        meeting_place(place, {**task, "MASTER_PORT": "http"})


def test_a_machine_whose_address_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    nowhere = {**TASK, "SLURM_STEP_NODELIST": "no-such-host.invalid,n1"}
    place = place_of(nowhere)
    assert place is not None
    with pytest.raises(ConfigError, match=r"no-such-host.invalid, the first machine of this step.*Set MASTER_ADDR"):
        meeting_place(place, nowhere)
    with pytest.raises(ConfigError, match=r"no-such-host.invalid, MASTER_ADDR, is not known here"):
        meeting_place(place, {**TASK, "MASTER_ADDR": "no-such-host.invalid"})


def test_a_job_whose_other_tasks_are_idle_is_told() -> None:
    assert idle_tasks(1, BATCH) == (
        "this job has 4 tasks on 2 machines, and this is one process: to train in all, put srun before it"
    )
    for environment, world_size in ((BATCH, 4), (TASK, 1), ({**BATCH, "SLURM_NTASKS": "1"}, 1), ({}, 1)):
        assert idle_tasks(world_size, environment) is None


@pytest.mark.parametrize("command", ["evaluate", "cv"])
@pytest.mark.parametrize(
    ("environment", "how"), [(TASK, "srun --ntasks=1"), ({**ELASTIC, "LOCAL_RANK": "1"}, "no torchrun before it")]
)
def test_a_command_for_one_process_is_refused_in_several(command: str, environment: dict[str, str], how: str) -> None:
    """In a task that is not the first of its machine it is refused without a word."""
    done = run_cli(command, "runs/mine", environment=environment)
    assert (done.returncode, done.stderr, done.stdout) == (2, "", "")
    first = {"SLURM_LOCALID": "0", "LOCAL_RANK": "0"}
    done = run_cli(command, "runs/mine", environment={**environment, **first})
    assert done.returncode == 2
    assert f"error: litscope {command} works in one process, and " in done.stderr
    assert how in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_no_rank_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would make a number of it when it is imported, and raise a ValueError."""
    for name, value in {"RANK": "", "LOCAL_RANK": "one", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    starter.forget_empty_ranks()
    assert [name for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in starter.os.environ] == ["SLURM_PROCID"]


@pytest.mark.parametrize(
    ("environment", "cores", "own"),
    [
        ({}, 8, 4),
        ({}, 1, 1),
        (BATCH, 8, 4),  # of a batch script, whose processes nobody placed
        (TASK, 8, 4),  # nothing is known but how many tasks there are
        ({**TASK, "SLURM_CPUS_ON_NODE": "8"}, 8, 4),  # not bound
        ({**TASK, "SLURM_CPUS_ON_NODE": "8"}, 4, 4),  # bound to its own
        ({**TASK, "SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "3"}, 8, 3),
        ({**TASK, "SLURM_CPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "4"}, 2, 2),
    ],
)
def test_two_processes_share_what_is_not_their_own(environment, cores, own):
    assert share_of_cores(cores, 2, environment) == own
