"""A process that leaves a run says why: the others end with its reason and its exit code, and no traceback."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from flips import flip
from forked import Forked, run_cli, started_cli
from noise_shards import write_noise
from started_runs import wait_for_step
from started_together import end, free_port, start_two

from litscope.errors import DataError, LitscopeError
from litscope.launch.farewells import OthersLeft, echoes_told, farewell_said, leaving_after_first
from litscope.launch.peers import Peers
from litscope.live.records import read_summary
from litscope.rundir import RunDir
from litscope.starter import host_name

HOST = host_name()

GLOO = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:44208."

_ON_NOISE = (
    "fit shards --arch convnet --batch-size 8 --no-cache --num-workers 1 --accelerator cpu --logger none --no-progress "
    "--log-every-n-steps 1 --run-dir run"
)
ON_NOISE = _ON_NOISE.split()


@contextmanager
def two_peers() -> Iterator[tuple[Peers, Peers]]:
    place, both = ("127.0.0.1", free_port()), []
    for rank in range(2):
        both.append(Peers(rank, 2, place, keeps_store=rank == 0, name="test"))
        both[-1].start()
        both[-1].begin()
    try:
        deadline = time.monotonic() + 30
        while any(peers.missing() for peers in both):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield both[0], both[1]
    finally:
        for peers in reversed(both):
            peers.close()


def both(first: Callable[[], None], second: Callable[[], None]) -> tuple[BaseException, BaseException]:
    """What two processes of a run end with; as threads."""
    ends: dict[int, BaseException] = {}

    def work(rank: int, body: Callable[[], None]) -> None:
        try:
            body()
        except (LitscopeError, TypeError) as error:
            ends[rank] = error

    threads = [threading.Thread(target=work, args=(rank, body)) for rank, body in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return ends[0], ends[1]


def fails(error: BaseException, way: Any) -> Callable[[], None]:
    def body() -> None:
        with way:
            raise error

    return body


def test_the_first_ends_with_the_reason_and_the_code_of_another() -> None:
    with two_peers() as (zero, one):
        first, second = both(
            fails(RuntimeError(GLOO), farewell_said(zero)),
            fails(DataError("a.tar at byte 7: cut."), leaving_after_first(one, speaks=True)),
        )
    assert isinstance(first, OthersLeft)
    assert str(first) == f"rank 1 (process {os.getpid()} on {HOST}): a.tar at byte 7: cut."
    assert first.exit_code == 2
    assert isinstance(second, DataError)
    assert second.is_said


@pytest.mark.slow
def test_a_full_disk_of_another_is_said_by_the_first_alone() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "part.parquet")
    with two_peers() as (zero, one):
        first, second = both(
            fails(RuntimeError(GLOO), farewell_said(zero)), fails(full, leaving_after_first(one, speaks=True))
        )
    assert str(first).endswith(f"on {HOST}): No space left on device: part.parquet")
    assert isinstance(second, LitscopeError)
    assert (second.is_said, second.exit_code) == (True, 1)


@pytest.mark.slow
def test_a_defect_of_the_first_is_told_as_its_own_however_long_it_writes() -> None:
    """The other would take its own failed collective for the reason, or the first would take that of the other."""

    def writes_long() -> None:
        try:
            with echoes_told(zero):
                raise TypeError("a callback's own")
        except TypeError as error:
            time.sleep(6)  # longer than anybody looks for who is gone
            zero.leave(1, "")
            raise error

    with two_peers() as (zero, one):
        first, second = both(writes_long, fails(RuntimeError(GLOO), leaving_after_first(one, speaks=True)))
    assert isinstance(first, TypeError)
    assert isinstance(second, OthersLeft)
    assert second.is_said


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """1,220 images; one, which no look before training comes upon, is broken: a single process will meet it."""
    folder = write_noise(tmp_path / "shards", 1200, 20, most_samples=600)
    broken = pq.read_table(folder / "index.parquet").slice(1, 1).to_pylist()[0]
    flip(folder / "train-0000.tar", 8 * (broken["offset"] + 60))
    return folder


@pytest.mark.slow
@pytest.mark.flag("on_bad_data")
@pytest.mark.parametrize("way", ["own workers", "torchrun"])
def test_bad_data_on_one_process_is_one_line(way: str, shards: Path, tmp_path: Path) -> None:
    words = ("--epochs", "2", "--on-bad-data", "stop")
    if way == "torchrun":
        processes = start_two(tmp_path, *words, words=ON_NOISE)
        codes, said = end(processes), "".join(process.stderr for process in processes)
    else:
        done = run_cli(*ON_NOISE, *words, "--devices", "2", cwd=tmp_path)
        codes, said = [done.returncode], done.stderr
    assert set(codes) == {2}, said
    assert "Traceback" not in said
    assert said.count("its bytes are not those that were written") == said.count("train-0000.tar at byte") == 1, said
    summary = read_summary(RunDir(tmp_path / "run"))
    assert summary["status"] == "failed"
    assert "train-0000.tar at byte" in summary["message"]


@pytest.mark.slow
def test_ctrl_c_twice_is_no_traceback(tmp_path: Path) -> None:
    """The second ends this process at once, in the middle of a step; the other waits in a collective."""
    write_noise(tmp_path / "shards", 1200, 20, most_samples=600)
    process: Forked = started_cli(*ON_NOISE, "--epochs", "4000", "--devices", "2", cwd=tmp_path)
    wait_for_step(process, tmp_path / "run", 10)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 130, process.stderr
    assert "Traceback" not in process.stderr
    assert "local rank" not in process.stderr
