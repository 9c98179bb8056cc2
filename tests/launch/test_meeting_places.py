"""What the environment says of a process's place: on one machine nothing, on several it is checked before the start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from litscope.errors import ConfigError
from litscope.launch.places import check_places, check_port, rank_of_process
from litscope.live.records import read_summary
from litscope.rundir import RunDir

LEFT_OVER = {"NODE_RANK": "", "MASTER_ADDR": "10.255.255.1", "MASTER_PORT": "none", "RANK": "", "LOCAL_RANK": "1"}
"""Of a cluster's job, and of another program."""

MEETING = {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


def place(patch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "LITSCOPE_DEVICES", "SLURM_JOB_ID"):
        patch.delenv(name, raising=False)
    for name, value in variables.items():
        patch.setenv(name, value)


@pytest.mark.parametrize("node", ["", "1", "two"])
def test_one_machine_passes_over_what_another_program_left(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, **{**LEFT_OVER, "NODE_RANK": node})
    assert rank_of_process(num_nodes=1) == 0
    check_port(num_nodes=1)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NODE_RANK": "1"}, "set MASTER_ADDR, MASTER_PORT in the environment"),
        ({**MEETING, "NODE_RANK": " "}, "set NODE_RANK in the environment"),
        ({**MEETING, "NODE_RANK": "two"}, "NODE_RANK is 'two', which is no whole number"),
        ({**MEETING, "NODE_RANK": "2"}, "NODE_RANK is 2; the machines are numbered from 0 to 1"),
        ({**MEETING, "MASTER_PORT": "http"}, "MASTER_PORT is 'http', which is no whole number"),
        ({**MEETING, "MASTER_PORT": "70000"}, "MASTER_PORT is 70000; a port is from 1 to 65535"),
        ({"SLURM_JOB_ID": "7"}, "set MASTER_ADDR, MASTER_PORT, NODE_RANK in the environment"),
    ],
)
def test_several_machines_are_told_what_is_wrong(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(monkeypatch, **variables)
    with pytest.raises(ConfigError, match=f"--num-nodes 2: {words}"):
        rank_of_process(num_nodes=2)


def test_a_port_that_another_program_uses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        place(monkeypatch, **{**MEETING, "MASTER_PORT": port, "NODE_RANK": "0"})
        with pytest.raises(ConfigError, match=f"MASTER_PORT is {port}, and another program uses it. Set another one"):
            check_port(num_nodes=2)
        monkeypatch.setenv("NODE_RANK", "1")
        check_port(num_nodes=2)  # it listens on the other machine
    monkeypatch.setenv("NODE_RANK", "0")
    check_places(num_nodes=2)
    check_port(num_nodes=2)


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["1", "2"])
def test_a_run_on_one_machine_trains_and_logs_whatever_the_environment_says(tmp_path: Path, devices: str) -> None:
    words = f"fit iris --accelerator cpu --devices {devices} --batch-size 16 --epochs 1 --logger csv --run-dir run"
    done = subprocess.run(  # a new interpreter: Lightning reads some of it when it is imported
        [sys.executable, "-m", "litscope", *words.split()],
        cwd=tmp_path, env={**os.environ, **LEFT_OVER}, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_summary(RunDir(tmp_path / "run"))["num_devices"] == int(devices)
    assert "val/loss" in next((tmp_path / "run").rglob("metrics.csv")).read_text()
