"""How often steering looks at the journal, how long a pause is, and what it does where it cannot look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litscope.attempts import begin_attempt
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import entries, request, submit
from litscope.live import steering
from litscope.live.ranks import Ranks
from litscope.live.steered import Later, Moment
from litscope.live.steering import Steering
from litscope.live.stop_requests import StopRequests
from litscope.rundir import RunDir, append_line


class Training:
    """A training (`live.steered.Steered`) that does nothing but remember what it was told to follow.

    Attributes:
        is_busy: it cannot follow now, and can later.
        plan, settings: what a person asked for at its start.
    """

    num_edits = 0
    num_samples = 10

    def __init__(self, plan: Any = None, **settings: Any) -> None:
        self.is_busy = False
        self.plan, self.settings = plan, settings
        self.followed: list[set[int]] = []
        self.told: list[str] = []

    def asked(self) -> dict[str, Any]:
        return {"settings": self.settings, "plan": self.plan}

    def restore(self, decisions: Any, state: Any) -> None:
        self.told.append(f"restore {state['number']}")

    def keep_plan(self, state: Any) -> None:
        self.told.append("keep plan")

    def state(self) -> dict[str, Any]:
        return {"number": 7}

    def follow(self, decisions: Any, moment: Moment, num_ranks: int) -> list[str]:
        if self.is_busy:
            raise Later
        self.followed.append(set(decisions.discarded))
        return ["one", "two"] if decisions.discarded else []

    def save_copy(self, moment: Moment) -> str:
        raise ConfigError("nothing to save")

    def evaluate_now(self, ids: Any, moment: Moment) -> dict[str, float]:
        return {"num": float(len(ids))}

    def ids_of(self, split: str) -> Any:
        return np.arange(4 if split == "val" else 0)

    def readable(self, ids: Any) -> Any:
        return ids[ids != 3]

    def prepare_epoch(self) -> None:
        self.told.append("prepare epoch")

    def epoch_starts(self) -> None:
        self.told.append("epoch starts")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path / "run")
    begin_attempt(run, 0, None)
    return run


def at(step: int, **more: Any) -> Moment:
    return Moment(step, 0, **{"batches_done": step, "is_over": False, **more})


def started(
    run: RunDir,
    training: Training,
    step: int = 0,
    restored: Any = None,
    rank: int = 0,
    stop_requests: StopRequests | None = None,
    **moment: Any,
) -> Steering:
    found, ranks = Steering(run), Ranks()
    ranks.rank = rank
    found.start(training, ranks, stop_requests or StopRequests(), 1, restored or {}, at(step, **moment))
    return found


def ask(run: RunDir, what: str, **arguments: Any) -> dict[str, Any]:
    action = request(what, **arguments)
    submit(run, action)
    return action


def answers(run: RunDir) -> list[tuple[str, int | None]]:
    """Status of each action, and the step of its answer."""
    return [(entry.status, (entry.answer or {}).get("step")) for entry in entries(run)]


# ---- looking -------------------------------------------------------------------------------------


def test_the_journal_is_looked_at_every_half_second(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(steering.time, "monotonic", lambda: now[0])
    live = started(run, Training())
    assert not live.has_news()
    ask(run, "tag", tag="seen", sample_id=[1])
    seen = []
    for now[0] in (1000.0, 1000.25, 1000.49, 1000.5):
        seen.append(live.has_news())
    assert seen == [False, False, False, True]
    assert live.has_news(), "until it is taken"
    assert live.take(at(3)) == 0.0, "nobody paused"
    assert not live.has_news()
    assert answers(run) == [("applied", 3)]


def test_taking_looks_at_once(run: RunDir) -> None:
    live = started(run, Training())
    assert not live.has_news()
    ask(run, "tag", tag="seen", sample_id=[1])
    live.take(at(2))
    assert answers(run) == [("applied", 2)]


def test_other_ranks_never_look(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "POLL_S", 0.0)
    training = Training()
    live = started(run, training, rank=1)
    ask(run, "tag", tag="seen", sample_id=[1])
    assert not live.has_news()
    live.take(at(2))
    assert answers(run) == [("pending", None)]
    assert training.followed == []


def test_a_journal_out_of_reach_is_told_once_and_ends_nothing(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steering, "POLL_S", 0.0)
    live = started(run, Training())
    run.actions.mkdir()  # reading it is an error
    assert [live.has_news() for _ in range(3)] == [False] * 3
    live.take(at(1))
    said = capsys.readouterr().err
    assert said.count("warning") == said.count("the journal cannot be read, so no action arrives for now") == 1
    run.actions.rmdir()
    ask(run, "tag", tag="seen", sample_id=[1])
    assert live.has_news()


# ---- pauses --------------------------------------------------------------------------------------


def paused(run: RunDir, *then: Callable[[StopRequests], Any]) -> tuple[float, float]:
    """Seconds of a pause as `take` says them and by the clock; `then`: what ends it, each after 20 ms."""
    stop_requests = StopRequests()
    live = started(run, Training(), stop_requests=stop_requests)
    ask(run, "pause")

    def person() -> None:
        for act in then:
            time.sleep(0.02)
            act(stop_requests)

    thread = threading.Thread(target=person)
    thread.start()
    began = time.monotonic()
    told = live.take(at(4))
    wall = time.monotonic() - began
    thread.join()
    return told, wall


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "PAUSED_POLL_S", 0.01)


@pytest.mark.usefixtures("_short_pauses")
def test_a_pause_lasts_until_it_is_resumed_and_says_how_long(run: RunDir) -> None:
    told, wall = paused(run, lambda _: ask(run, "tag", tag="a", sample_id=[1]), lambda _: ask(run, "resume"))
    assert 0.02 <= told <= wall
    assert answers(run) == [("applied", 4)] * 3


@pytest.mark.usefixtures("_short_pauses")
def test_a_stop_ends_a_pause(run: RunDir) -> None:
    told, wall = paused(run, lambda _: ask(run, "stop"))
    assert 0.0 < told <= wall


@pytest.mark.usefixtures("_short_pauses")
def test_a_stop_request_ends_a_pause(run: RunDir) -> None:
    told, wall = paused(run, lambda stop_requests: setattr(stop_requests, "requested", "SIGTERM"))
    assert 0.0 < told <= wall


# ---- notes, refusals, and what waits -------------------------------------------------------------


def test_an_answer_carries_what_the_training_remarked_or_refused(run: RunDir) -> None:
    live = started(run, Training())
    for what, more in (
        ("discard", {"sample_id": [2]}),
        ("restore", {"sample_id": [2]}),
        ("checkpoint", {}),
        ("evaluate", {"split": "val"}),
        ("evaluate", {"split": "test"}),
        ("tag", {"tag": "odd", "sample_id": [3, 5, 12]}),
        ("evaluate", {"tag": "odd"}),
        ("untag", {"tag": "odd", "sample_id": [5]}),
        ("evaluate", {"tag": "odd"}),
    ):
        ask(run, what, **more)
    live.take(at(1))
    found = [entry.answer or {} for entry in entries(run)]
    assert [answer["status"][0] for answer in found] == ["a", "a", "r", "a", "r", "a", "a", "a", "r"]
    assert [answer.get("note") for answer in found[:2]] == ["one; two", None]
    assert found[2]["reason"] == "nothing to save"
    assert found[3]["metrics"] == {"num": 4.0}
    assert found[4]["reason"] == "The run has no samples of split test."
    assert found[6]["metrics"] == {"num": 1.0}, "3 cannot be read, and there is no 12"
    assert found[8]["reason"] == "No sample that can be evaluated has the tag 'odd'."
    assert {(answer["step"], answer["epoch"], answer["attempt"]) for answer in found} == {(1, 0, 1)}


def test_what_has_to_wait_holds_back_what_was_asked_after_it(run: RunDir) -> None:
    training = Training()
    live = started(run, training)
    training.is_busy = True
    ask(run, "discard", sample_id=[1])
    ask(run, "discard", sample_id=[2])
    ask(run, "evaluate", split="val")  # means this moment
    live.take(at(1))
    assert answers(run) == [("pending", None), ("pending", None), ("applied", 1)]
    training.is_busy = False
    live.take(at(2))
    assert answers(run) == [("applied", 2), ("applied", 2), ("applied", 1)]
    assert training.followed == [{1}, {1, 2}]


def test_an_action_that_names_its_step_waits_for_it(run: RunDir) -> None:
    ask(run, "discard", sample_id=[1], at_step=5)
    ask(run, "discard", sample_id=[2], at_step=3)
    live = started(run, Training())
    ask(run, "discard", sample_id=[3])
    live.take(at(2))
    assert live.next_scripted() == 3
    assert [live.is_scripted(step) for step in (2, 3, 4)] == [False, True, True]
    live.take(at(3))
    assert answers(run) == [("pending", None), ("applied", 3), ("pending", None)]
    live.take(at(5))
    assert answers(run) == [("applied", 5), ("applied", 3), ("applied", 5)]
    assert live.next_scripted() is None
    assert not live.is_scripted(100)


@pytest.mark.parametrize(
    ("moment", "told"),
    [({}, ["prepare epoch"]), ({"batches_done": 2}, []), ({"is_over": True}, [])],
)
def test_an_epoch_that_is_about_to_start_is_prepared(run: RunDir, moment: Any, told: list[str]) -> None:
    training = Training()
    started(run, training, **moment)
    assert training.told == told


# ---- a second attempt ----------------------------------------------------------------------------


def test_a_checkpoint_holds_what_lasts_and_the_next_attempt_takes_it_up(run: RunDir) -> None:
    live = started(run, Training("plan", lr=0.1))
    assert live.state() == {}
    ask(run, "discard", sample_id=[1])
    ask(run, "evaluate", split="val")
    ask(run, "pause")
    ask(run, "resume")
    live.take(at(4))
    state = live.state()
    assert [action["what"] for action in state["applied"]] == ["discard"]
    begin_attempt(run, 4, None)
    same, other = Training("plan", lr=0.1), Training("another", lr=0.2)
    started(run, same, 4, state)
    assert same.told == ["restore 7", "keep plan"]
    assert len(entries(run)) == 4, "nothing is asked for anew"
    assert same.followed == [], "nothing is applied twice"
    started(run, other, 4, state)
    assert other.told == ["restore 7"]
    asked = entries(run)[-1]
    assert (asked.action["what"], asked.action["settings"]) == ("set", {"lr": 0.2})
    assert asked.action["why"] == "given when the run was resumed"
    assert asked.status == "applied"


def test_a_new_run_from_a_checkpoint_writes_down_what_it_brings(run: RunDir, tmp_path: Path) -> None:
    live = started(run, Training())
    ask(run, "discard", sample_id=[1])
    live.take(at(4))
    fork = RunDir.create(tmp_path / "fork")
    begin_attempt(fork, 4, None)
    started(fork, Training(), 4, live.state())
    (entry,) = entries(fork)
    assert entry.action["sample_id"] == [1]
    assert (entry.answer or {})["note"] == "before this run, in the checkpoint it starts from"


def test_what_nobody_was_there_to_do_is_refused_and_what_lasts_is_done(run: RunDir) -> None:
    ask(run, "discard", sample_id=[1])
    foreign = {"id": "f0", "who": "x", "what": "checkpoint", "why": ""}  # says no time: it is an old one
    append_line(run.actions, foreign, False)
    append_line(run.actions, {**foreign, "id": "f1", "when": time.time() + 60}, False)
    append_line(run.actions, {**foreign, "id": "f2", "at_step": 0}, False)
    started(run, Training())
    reasons = [(entry.answer or {}).get("reason") for entry in entries(run)]
    assert reasons == [None, "no process trained the run when it was asked", "nothing to save", "nothing to save"]


def test_an_undo_of_what_is_not_in_force_is_refused(run: RunDir) -> None:
    live = started(run, Training())
    discard = ask(run, "discard", sample_id=[1])
    live.take(at(1))
    ask(run, "undo", action=discard["id"])
    ask(run, "undo", action="0" * 12)
    live.take(at(2))
    assert [status for status, _ in answers(run)] == ["undone", "applied", "refused"]
