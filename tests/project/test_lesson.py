"""The lesson on clusters: what it tells to type runs, and how it compares epochs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from private_slurm import PrivateSlurm
from watched import visits

from litscope.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
COMPARE = ROOT / "examples" / "cluster" / "compare_epochs.py"


def started(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A script, in a folder."""
    command = [sys.executable, "-W", "ignore", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300, check=False
    )


def timed_run(folder: Path, epoch_s: list[float], num_devices: int | None) -> Path:
    """What the script reads of a run. Its first epoch was interrupted, and is there twice."""
    (folder / "metrics").mkdir(parents=True)
    rows = [{"epoch": 0, "epoch_s": 99.0, "samples_per_s": 1.0}]
    rows += [{"epoch": n, "epoch_s": s, "samples_per_s": 1000 / s} for n, s in enumerate(epoch_s)]
    if num_devices is not None:  # of a loop of one's own it is not known
        rows = [{**row, "data_wait": [0.1, 0.25]} for row in rows]
    (folder / "metrics" / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if num_devices is not None:
        (folder / "summary.json").write_text(json.dumps({"num_devices": num_devices}))
    return folder


LIMITS = [word for split in ("train", "val", "test") for word in (f"--limit-{split}-batches", "2")]


@pytest.mark.slow
def test_the_first_part_runs_as_written(
    in_tmp: Path, mnist_dir: Path, cifar10_small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the large network; with few batches."""
    (in_tmp / "examples").symlink_to(ROOT / "examples")
    (in_tmp / "data").mkdir()
    (in_tmp / "data" / "mnist").symlink_to(mnist_dir)
    (in_tmp / "data" / "cifar10").symlink_to(cifar10_small)
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.partition("## Part 2")[0], re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for line in "".join(blocks).splitlines()]
    assert len(commands) > 8
    for program, *words in commands:
        if "resnet50" in words:
            continue
        if program == "python":
            done = started(in_tmp, *words)
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr[-3000:]}"
        else:
            assert main([*words, *(LIMITS if words[0] == "fit" else [])]) == 0, capsys.readouterr().err
    assert (in_tmp / "epochs.png").exists()


@pytest.mark.slow
def test_epochs_are_compared(tmp_path: Path) -> None:
    runs = [timed_run(tmp_path / "one", [9.0, 4.0, 4.2, 3.8], 1), timed_run(tmp_path / "two", [9.0, 2.0], None)]
    done = started(tmp_path, str(COMPARE), *map(str, runs), "--output", "it.png")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["run", "devices", "epochs", "epoch_s", "samples_per_s", "waits", "times_as_fast"]
    assert lines[1] == ["one", "1", "4", "4.00", "250", "25%", "1.00"]
    assert lines[2] == ["two", "-", "2", "2.00", "500", "-", "2.00"]
    assert (tmp_path / "it.png").stat().st_size > 10_000
    done = started(tmp_path, str(COMPARE), str(tmp_path))
    assert done.returncode == 1
    assert "has no metrics/epochs.jsonl" in done.stderr


def test_the_job_script_on_the_page_is_what_its_command_shows(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (in_tmp / "recipes").symlink_to(ROOT / "recipes")
    command, script = re.findall(r"```sh\nlitscope (launch slurm --dry-run .*?)\n```.*?```bash\n(.*?)```", PAGE, re.S)[
        0
    ]
    monkeypatch.setattr(sys, "executable", "/home/ada/venv/bin/python")
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out.replace(str(in_tmp), "/home/ada/project") == script
    explained = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    for option in re.findall(r"^#SBATCH (--[a-z-]+)", script, re.MULTILINE):
        assert option in explained


def test_every_exercise_is_on_the_page() -> None:
    files = (ROOT / "examples" / "cluster" / "exercises").glob("*_solution.py")
    for name in (file.stem.removesuffix("_solution") for file in files):
        assert f"| `{name}` |" in PAGE


@pytest.mark.slow
def test_a_script_of_ones_own_is_one_run_on_two_nodes(
    in_tmp: Path, slurm: PrivateSlurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Iris as the lesson launches it, on another partition."""
    (in_tmp / "examples").symlink_to(ROOT / "examples")
    command = re.search(
        r"^litscope (launch slurm .*) --devices-per-node 2 -- (python .*) --devices 2$", PAGE, re.MULTILINE
    )
    assert command is not None
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    where = ["--nodes", "2", "--site", "none", "--gpu-request", "none", "--env", "MASTER_ADDR=127.0.0.1"]
    script = [
        *shlex.split(command[2]),
        "--num-nodes",
        "2",
        "--accelerator",
        "cpu",
        "--epochs",
        "2",
        "--run-dir",
        "iris",
    ]
    assert main(["launch", "slurm", *where, "--time", "10", "--run-dir", "job", "--", *script]) == 0
    job = json.loads((in_tmp / "job" / "jobs.jsonl").read_text())["job"]
    slurm.wait_for(job, "COMPLETED", timeout=400)
    assert visits(in_tmp / "iris")[1, "train", "train"] == (120, 120)
    assert json.loads((in_tmp / "iris" / "summary.json").read_text())["num_devices"] == 2
