"""Runs on shards that lie elsewhere: a server that goes away, a resume, a discard, and plain web servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy
from forked import run_cli
from noise_shards import each_once, visits, write_noise
from proxied_server import proxied
from range_server import web_server
from s3_server import S3Server
from small_runs import At, ask, assert_bit_equal, last, rows, send, small_fit
from steered_runs import only, steered

from litscope.errors import Interrupted
from litscope.rundir import RunDir, read_lines
from litscope.training.fit import fit

SET = "s3://bucket/set/"
RUN: dict[str, Any] = {
    "dataset": SET,
    "arch": "convnet",
    "dropout_rate": 0.3,
    "batch_size": 8,
    "epochs": 2,
    "warmup_epochs": 0.5,
    "cache": False,
    "num_workers": 2,
    "shuffle_window": "20K",
    "accelerator": "cpu",
    "logger": ["none"],
    "progress": False,
}
"""Two epochs of 20 steps, each drawn from a window of a few of 32 shards."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """160 training samples in 32 shards, and 15 others in three."""
    folder = tmp_path_factory.mktemp("buckets")
    write_noise(folder / "bucket/set", 160, 15, most_samples=5)
    found = S3Server(folder)
    yield found
    found.kill()


@pytest.fixture(autouse=True)
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultProxy]:
    with proxied(server, monkeypatch, tmp_path / "kept") as found:
        yield found


def wait_until(is_so: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not is_so():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_a_server_that_goes_away_in_mid_epoch_costs_time_and_no_sample(
    server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    words = (
        f"fit {SET} --arch convnet --batch-size 8 --epochs 4 --no-cache --num-workers 2 --shuffle-window 20K "
        "--devices 1 --accelerator cpu --logger none --no-progress --log-every-n-steps 1 --run-dir run"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "litscope", *words.split()], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    run = RunDir(tmp_path / "run")
    try:
        wait_until(lambda: read_lines(run.step_metrics), process)
        proxy.slow(1000, 1.0)  # 16 reads at a time: an epoch takes two seconds from here on
        wait_until(lambda: any(line["epoch"] >= 1 for line in read_lines(run.step_metrics)), process)
        server.kill()
        time.sleep(10)
        steps = read_lines(run.step_metrics)
        server.start()
        _, said = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert len(steps) % 20 != 0, "the outage was not within an epoch"
    assert len(steps) < 80
    assert visits(run.path) == dict.fromkeys(range(4), each_once(run.path))
    assert said.count("The storage is asked again, for up to 600 s") == 1
    assert said.count("the storage answers again, after") == 1
    assert "left out" not in said


def test_a_resume_in_mid_epoch_ends_with_the_bits_of_the_folder(server: S3Server, tmp_path: Path) -> None:
    small_fit(tmp_path / "folder", RUN, dataset=str(server.folder / "bucket/set"))
    small_fit(tmp_path / "whole", RUN)
    with pytest.raises(Interrupted):
        small_fit(tmp_path / "run", RUN, callbacks=[At(7, send(signal.SIGINT))])
    with pytest.raises(Interrupted):
        fit(resume=str(tmp_path / "run"), callbacks=[At(29, send(signal.SIGINT))])
    fit(resume=str(tmp_path / "run"))
    assert [line["start_step"] for line in read_lines(RunDir(tmp_path / "run").attempts)] == [0, 7, 29]
    for other in ("folder", "whole"):
        assert_bit_equal(last(tmp_path / "run"), last(tmp_path / other))
        assert rows(tmp_path / "run").equals(rows(tmp_path / other))


def test_what_is_discarded_during_the_run_leaves_the_next_epoch(tmp_path: Path) -> None:
    run = tmp_path / "run"
    gone = list(range(0, 160, 10))
    steered(run, (25, ask(run, "discard", sample_id=gone)), settings=RUN, epochs=3)
    assert only(run).status == "applied"
    found = visits(run)
    assert found[0] == each_once(run)
    assert found[2] == each_once(run) - Counter(gone)


@pytest.mark.parametrize("form", ["index", "folder", "tars"])
def test_a_plain_web_server_will_do(form: str, server: S3Server, tmp_path: Path) -> None:
    with web_server(server.folder / "bucket") as url:
        given = {
            "index": [f"{url}/set/index.parquet"],
            "folder": [f"{url}/set/"],
            "tars": ["--train-urls", f"{url}/set/train-{{0000..0031}}.tar", "--val-urls", f"{url}/set/val-0000.tar"],
        }[form]
        words = "--arch convnet --epochs 1 --no-cache --accelerator cpu --logger none --no-progress --run-dir run"
        done = run_cli("fit", *given, *words.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert visits(tmp_path / "run") == {0: each_once(tmp_path / "run")}
    assert each_once(tmp_path / "run").total() == 160


def test_a_web_server_that_knows_no_ranges_is_refused(server: S3Server, tmp_path: Path) -> None:
    with web_server(server.folder / "bucket", knows_ranges=False) as url:
        done = run_cli("fit", f"{url}/set/index.parquet", "--no-progress", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.match(rf"error: {url}/set/\S+tar: the server answers a request for \d+ bytes with [\d,]+\.", done.stderr)
    assert "It must know range requests" in done.stderr
    assert "Traceback" not in done.stderr
