"""What is due after a step, on one rank and on two that agree; and the epoch's clock, which a pause stops."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from litscope.live.epoch_clock import EpochClock
from litscope.live.pace import AGREE_EVERY, Pace
from litscope.live.ranks import Ranks
from litscope.live.stop_requests import StopRequests


def test_a_pause_does_not_count_in_an_epoch_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("litscope.live.epoch_clock.time.monotonic", lambda: now[0])
    clock = EpochClock()
    now[0] = 110.0
    clock.skip(4.0)
    assert (clock.epoch_s, clock.train_s) == (6.0, 6.0)
    clock.training_ends()
    now[0] = 115.0
    clock.skip(3.0)  # in the validation
    assert (clock.epoch_s, clock.train_s) == (8.0, 6.0)
    clock.num_samples = 5
    state = clock.state()
    now[0] = 200.0
    clock.start(state)
    assert (clock.epoch_s, clock.train_s, clock.num_samples) == (8.0, 6.0, 5)
    now[0] = 201.0
    assert (clock.epoch_s, clock.train_s) == (9.0, 7.0)
    clock.start()
    assert (clock.epoch_s, clock.train_s, clock.num_samples) == (0.0, 0.0, 0)


def test_what_is_due_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both limits are passed only beyond their very second; a pause counts for neither the end nor the time so far."""
    now, stop_requests = [0.0], StopRequests()
    monkeypatch.setattr("litscope.live.pace.time.monotonic", lambda: now[0])
    pace = Pace(stop_requests, save_every_s=120.0, max_time_s=200.0)

    def due(**more: Any) -> tuple[bool, ...]:
        return tuple(pace.due(Ranks(), 1, **more))

    pace.start(elapsed_s=50.0)
    assert pace.elapsed_s == 50.0
    now[0] = 120.0
    assert due() == (0, False, False, False)
    now[0] = 120.5
    assert due() == (0, True, False, False)
    pace.saved()
    assert due(has_news=True) == (False, False, False, True)
    pace.skip(30.0)
    now[0] = 180.0
    assert pace.elapsed_s == 200.0
    assert due() == (0, False, False, False)
    now[0] = 180.5
    assert due() == (0, False, True, False)
    stop_requests.requested = "SIGINT"
    assert due() == (signal.SIGINT, False, True, False)
    forever = Pace(StopRequests(), save_every_s=None, max_time_s=None)
    now[0] = 1e9
    assert forever.due(Ranks(), 1) == (0, False, False, False)
    forever.end()
    assert forever.due(Ranks(), 1) == (0, False, True, False)


class Pair(Ranks):
    """This process and another one, which says the same whenever the two agree."""

    def __init__(self, *other: int) -> None:
        super().__init__()
        self.world_size, self.other, self.num_agreements = 2, other, 0

    def most(self, *numbers: int) -> list[int]:
        self.num_agreements += 1
        return [max(both) for both in zip(numbers, self.other, strict=True)]


def test_two_ranks_agree_every_tenth_step_and_oftener_where_steps_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("litscope.live.pace.time.monotonic", lambda: now[0])
    pace = Pace(StopRequests(), save_every_s=None, max_time_s=None)
    pair = Pair(0, False, False, True, -AGREE_EVERY)

    def agreements(counts: range, step_s: float) -> list[int]:
        found = []
        for count in counts:
            now[0] += step_s
            before = pair.num_agreements
            due = pace.due(pair, count)
            if pair.num_agreements > before:
                found.append(count)
            assert due == (0, False, False, pair.num_agreements > before), "the other has news"
        return found

    assert agreements(range(3), 0.01) == [0, 1]
    assert agreements(range(3, 25), 0.01) == [10, 20]
    assert agreements(range(25, 37), 0.25) == [30, 36]  # six steps of the ten up to 30 took 0.25 s: six take 1 s
    assert agreements(range(37, 43), 2.0) == [40, 41, 42]
