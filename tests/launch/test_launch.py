"""Several processes on the CPU: shares, metrics, ledger, death of a worker, two machines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from forked import Forked, finished
from small_runs import assert_bit_equal, last, rows, small_fit
from started_runs import TWO, start, wait_for_step
from step_count import StepCount

from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError
from litscope.live.records import read_summary
from litscope.rundir import RunDir, read_lines
from litscope.starter import host_name
from litscope.training.fit import fit, run_recipe


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("two") / "run"
    process = start(run)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 0, words
    return run


@pytest.mark.slow
@pytest.mark.flag("devices", "strategy")
def test_each_sample_is_seen_once_an_epoch(two: Path) -> None:
    summary = read_summary(RunDir(two))
    assert summary["num_devices"] == 2
    for split, phase, visits in (("train", "train", 2), ("val", "eval", 2), ("test", "eval", 1)):
        table = rows(two, split=split, phase=phase)
        counts = Counter(table["sample_id"].to_pylist())
        assert len(counts) == summary["num_samples"][split]
        assert set(counts.values()) == {visits}, split


def test_each_rank_records_its_own_parts(two: Path) -> None:
    ids = {}
    for part in RunDir(two).signals.glob("*.parquet"):
        table = pq.read_table(part, columns=["sample_id", "split", "epoch"])
        chosen = [r["sample_id"] for r in table.to_pylist() if (r["split"], r["epoch"]) == ("train", 0)]
        ids.setdefault(part.name[6:10], set()).update(chosen)
    assert set(ids) == {"r000", "r001"}
    assert not ids["r000"] & ids["r001"]


def test_validation_metrics_are_those_of_one_process(two: Path, tmp_path: Path) -> None:
    """The weights of the two-process run, evaluated by one process: the same numbers, for nothing was padded."""
    from litscope.evaluation.evaluate import evaluate

    best = read_summary(RunDir(two))["metrics"]["best"]
    for split in ("val", "test"):
        alone = evaluate(two, split)["metrics"]
        for name, value in alone.items():
            assert best[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.slow
@pytest.mark.flag("use_distributed_sampler")
def test_all_ranks_see_all_samples_without_the_distributed_sampler(tmp_path: Path) -> None:
    process = start(tmp_path / "run", use_distributed_sampler=False, epochs=1)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 0, words
    counts = Counter(rows(tmp_path / "run", split="train")["sample_id"].to_pylist())
    assert set(counts.values()) == {2}


def _fit_until_the_second_epoch(run: Path) -> None:
    recipe = recipe_from_keywords(**{**TWO, "epochs": 50, "run_dir": str(run)})
    run_recipe(recipe, on_epoch=lambda row: row["epoch"] == 1)


@pytest.mark.slow
def test_who_is_told_of_each_epoch_may_end_all_ranks(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = finished(Forked(_fit_until_the_second_epoch, run))
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in read_lines(RunDir(run).epoch_metrics)] == [0, 1]
    assert set(rows(run, split="train")["epoch"].to_pylist()) == {0, 1}


@pytest.mark.slow
def test_interrupted_and_resumed(tmp_path: Path) -> None:
    """A signal to one process stops both at the same step; resumed, the run ends with the same bits."""
    run = tmp_path / "run"
    flags = {"epochs": 4000, "scheduler_type": "constant", "dropout_rate": 0.2, "log_every_n_steps": 1}
    process = start(run, **flags)
    wait_for_step(process, run, 30)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 130, words
    assert "Traceback" not in words
    step = last(run)["global_step"] + 7
    for name, more in (("run", {"resume": str(run)}), ("whole", {})):
        process = start(tmp_path / name, **{**flags, "max_steps": step, **more})
        _, words = process.communicate(timeout=300)
        assert process.returncode == 0, words
    assert last(run)["global_step"] == step
    assert_bit_equal(last(run), last(tmp_path / "whole"), "state_dict", "optimizer_states")
    assert rows(run).equals(rows(tmp_path / "whole"))


@pytest.mark.slow
def test_a_dead_worker_ends_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run, epochs=4000, log_every_n_steps=1)
    wait_for_step(process, run, 20)
    children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "litscope.training.worker"],
                              capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"rank 1 (process {children[0]} on {host_name()}) ended by SIGKILL" in words
    summary = read_summary(RunDir(run))
    assert summary["status"] == "failed"
    assert "SIGKILL" in summary["message"]


@pytest.mark.slow
def test_workers_die_with_the_first_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run, epochs=4000, log_every_n_steps=1)
    wait_for_step(process, run, 10)
    children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "litscope.training.worker"],
                              capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes()
              for child in children) and time.monotonic() < deadline:  # fmt: skip
        time.sleep(0.05)
    assert not any(Path(f"/proc/{c}").exists() and Path(f"/proc/{c}/cmdline").read_bytes() for c in children)


@pytest.mark.flag("num_nodes")
def test_two_machines_on_loopback(tmp_path: Path) -> None:
    """The same command on each, with NODE_RANK, MASTER_ADDR and MASTER_PORT set."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    run = tmp_path / "run"
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    nodes = [start(run, environment={**where, "NODE_RANK": n}, devices="1", num_nodes=2, epochs=1) for n in "01"]
    for node in nodes:
        _, words = node.communicate(timeout=300)
        assert node.returncode == 0, words
    assert read_summary(RunDir(run))["num_devices"] == 2
    assert len(read_lines(RunDir(run).attempts)) == 1
    counts = Counter(rows(run, split="train")["sample_id"].to_pylist())
    assert set(counts.values()) == {1}


@pytest.mark.flag("sync_batchnorm")
def test_sync_batchnorm_on_the_cpu_is_refused_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sync-batchnorm"):
        small_fit(tmp_path / "run", TWO, sync_batchnorm=True)
    assert not (tmp_path / "run").exists()


def test_a_callback_that_other_processes_cannot_have_is_refused(tmp_path: Path) -> None:
    class Mine(StepCount):
        pass

    with pytest.raises(ConfigError, match=r"callbacks\[1\]: other processes .* module of its own"):
        fit(**{**TWO, "run_dir": str(tmp_path / "run")}, callbacks=[StepCount(tmp_path), Mine(tmp_path)])
    assert not (tmp_path / "run").exists()


def _fit_with_a_callback(run: Path) -> None:
    small_fit(run, TWO, callbacks=[StepCount(run.parent)])


@pytest.mark.slow
def test_each_process_has_the_callbacks_of_the_caller(tmp_path: Path) -> None:
    done = finished(Forked(_fit_with_a_callback, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    steps = read_summary(RunDir(tmp_path / "run"))["global_step"]
    assert [(tmp_path / f"steps{rank}").read_text() for rank in (0, 1)] == [str(steps)] * 2
