"""What a process makes of its device: how busy, how much memory, how long it waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import IRIS, small_fit

from litscope.data.gather_loader import GatherLoader
from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder, Ids
from litscope.ledger.views import sql
from litscope.live.device_use import DeviceUse
from litscope.live.records import OF_RANKS, epoch_rows
from litscope.rundir import RunDir
from litscope.types import Batch


class SlowLoader(GatherLoader):
    """Takes 20 ms for each batch."""

    def _load(self, batches: list[Ids]) -> Iterator[Batch]:
        for batch in super()._load(batches):
            time.sleep(0.02)
            yield batch


def test_a_loader_counts_the_time_that_it_is_waited_for() -> None:
    loader = SlowLoader(EpochOrder(np.arange(40), 8), np.zeros((40, 2), np.float32), Overlay(np.zeros(40, np.int64)))
    use = DeviceUse(torch.device("cpu"))
    for _ in loader:
        time.sleep(0.02)
    assert 0.1 < loader.waited_s < 0.16
    use.training_ends(loader.waited_s)
    assert 0.35 < use.read().data_wait < 0.65


def test_a_process_that_computes_is_busy_and_one_that_sleeps_is_not() -> None:
    use = DeviceUse(torch.device("cpu"))
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    busy = use.read()
    assert busy.cpu_use > 0
    time.sleep(0.1)
    assert use.read().cpu_use < busy.cpu_use
    assert 50e6 < busy.peak_memory_bytes < 1e11
    assert busy.gpu_use is None
    use.start(0.0)
    began = time.monotonic()
    time.sleep(0.05)
    use.skip(time.monotonic() - began)  # a pause
    use.training_ends(1e-4)
    assert use.read().data_wait > 0.1


def test_a_gpu_is_looked_at_once_a_second_and_left_alone_if_it_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    answers = iter([40, 80])

    def driver(device: torch.device) -> int:
        asked.append(device)
        return next(answers)

    monkeypatch.setattr(torch.cuda, "utilization", driver)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 123)
    use = DeviceUse(torch.device("cuda", 1))
    use.look()
    use.look()
    assert asked == [torch.device("cuda", 1)]
    use._next_look = 0.0
    use.look()
    assert use.read()[::2] == (0.6, 123)

    def no_package(device: torch.device) -> int:
        asked.append(device)
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed.")

    monkeypatch.setattr(torch.cuda, "utilization", no_package)
    use = DeviceUse(torch.device("cuda", 1))
    for _ in range(3):
        use._next_look = 0.0
        use.look()
    assert len(asked) == 3
    assert use.read().gpu_use is None


def test_the_line_of_an_epoch_has_it_of_each_process(tmp_path: Path) -> None:
    run = small_fit(tmp_path / "run", IRIS, epochs=1).run
    (row,) = epoch_rows(RunDir(run.path))
    assert row["gpu_use"] is None
    for name in OF_RANKS[1:]:
        (value,) = row[name]
        assert value >= 0
    assert 0 < row["data_wait"][0] < 1
    (found,) = sql(run, "SELECT data_wait[1] AS wait, list_max(peak_memory_bytes) AS most FROM metrics").to_pylist()
    assert found == {"wait": row["data_wait"][0], "most": row["peak_memory_bytes"][0]}
