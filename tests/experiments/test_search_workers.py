"""`litscope tune --workers`: real processes share a search, and none of them is needed for its end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from forked import Forked, started_cli

from litscope.cli import main
from litscope.config.flags import build
from litscope.errors import ConfigError
from litscope.experiments import shared_search
from litscope.experiments.search_workers import check_workers, share_of
from litscope.limits import num_cores
from litscope.rundir import read_lines

LINE = ["tune", "iris", "--search", "batch_size=8..64", "--search", "lr=1e-3..1e-1", "--logger", "none"]
LINE += ["--accelerator", "cpu", "--no-progress"]


def workers_of(process: Forked) -> list[int]:
    """The processes that it has started and that are alive."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"search_workers" in Path(f"/proc/{child}/cmdline").read_bytes()]


def wait_for_trials(folder: Path, count: int) -> None:
    """Until so many trials have begun, by the folders of their runs."""
    deadline = time.monotonic() + 240
    while len(list(folder.glob("trial-*/metrics/epochs.jsonl"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_cores_are_shared_out() -> None:
    mine = sorted(os.sched_getaffinity(0))
    assert sorted(core for number in range(2) for core in share_of(number, 2)) == mine
    assert share_of(0, 1) == mine
    with pytest.raises(ConfigError, match="--workers 0: it is 1 or more"):
        check_workers(0)
    with pytest.raises(ConfigError, match="each needs a core"):
        check_workers(num_cores() + 1)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--workers", "2", "--join", "--run-dir", "x"], "with --join each trial has a process of its own"),
        (["--workers", "2", "--launcher", "slurm"], "with --launcher each trial"),
        (["--workers", "1000"], "each needs a core"),
    ],
)
def test_what_cannot_be(flags: list[str], word: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE, *flags]) == 2
    assert word in capsys.readouterr().err
    assert not list(in_tmp.iterdir())


def test_a_process_is_known_by_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    _, mine = shared_search._task()
    host, pid, start = mine.split(":")
    assert not shared_search._is_lost(mine)
    assert shared_search._is_lost(f"{host}:{pid}:{int(start) - 1}"), "a later process with the same number"
    assert shared_search._is_lost(f"{host}:99999999:{start}")
    assert shared_search._is_lost(f"{host}:99999999"), "as an earlier version wrote it"
    assert not shared_search._is_lost(f"{host}:{pid}")
    assert not shared_search._is_lost(f"elsewhere:99999999:{start}"), "of another machine nobody knows"
    assert not shared_search._is_lost("4711_3")


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_and_the_best_repeats_to_the_bit(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = started_cli(*LINE, "--epochs", "20", "--trials", "5", "--workers", "2", "--run-dir", "t", "--json")
    wait_for_trials(in_tmp / "t", 2)
    first, second = workers_of(process)
    affinities = [os.sched_getaffinity(pid) for pid in (first, second)]
    assert affinities[0].isdisjoint(affinities[1])
    os.kill(first, signal.SIGKILL)
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "ended killed by SIGKILL; its trial is given back" in said
    found = json.loads(out)["result"]
    trials = found["trials"]
    assert len(trials) == 5
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    assert len({json.dumps(trial["settings"]) for trial in trials}) == 5, "none was trained twice, none is another's"
    study = optuna.load_study(study_name="tune", storage=shared_search._storage(in_tmp / "t"))
    assert [t.state.name for t in study.trials].count("RUNNING") == 0
    assert Path(found["page"]).is_file()
    assert build({}, [found["config"]]).hardware.num_threads == max(1, num_cores() // 2)
    assert main(["fit", "--config", found["config"], "--run-dir", "again", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["result"]
    assert again["metrics"]["best"]["val/loss"] == found["best"]["value"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_search_whose_first_process_ends_goes_on(number: signal.Signals, in_tmp: Path) -> None:
    words = [*LINE, "--epochs", "20", "--trials", "4", "--workers", "2", "--run-dir", "t"]
    process = started_cli(*words)
    process.wait_until_it_says("batch_size ", timeout=240)  # of a trial that is over
    workers = workers_of(process)
    process.send_signal(number)
    process.wait(120)
    for pid in workers:  # the kernel ends them with it
        deadline = time.monotonic() + 30
        while shared_search._started(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not shared_search._started(pid)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "To go on: the same command with --run-dir t" in process.stderr
    study = optuna.load_study(study_name="tune", storage=shared_search._storage(in_tmp / "t"))
    over = {t.number: t.user_attrs["trial"] for t in study.trials if "trial" in t.user_attrs}
    assert 1 <= len(over) < 4
    assert main(words) == 0
    lines = read_lines(in_tmp / "t" / "trials.jsonl")
    assert len(lines) == 4
    for trial in over.values():
        assert trial in lines, "what was over is kept as it was"
    assert len({json.dumps(line["settings"]) for line in lines}) == 4
