"""The fold over a journal: what is decided for samples and settings, and what an undo takes back."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import applied, ask, refused, statuses

from litscope.attempts import begin_attempt
from litscope.ledger.journal.actions import (
    Decisions,
    Journal,
    canaries,
    decide,
    decisions,
    entries,
    undone,
)
from litscope.rundir import RunDir, append_line


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run in its first attempt."""
    run = RunDir.create(tmp_path / "run")
    begin_attempt(run, 0, None)
    return run


def fold(*actions: dict[str, Any]) -> Decisions:
    """Decide over actions with the ids a, b, c, ..."""
    return decide({"id": "abcdefghij"[i], **action} for i, action in enumerate(actions))


def test_samples() -> None:
    assert fold(
        {"what": "discard", "sample_id": [1, 2, 3]},
        {"what": "restore", "sample_id": [2, 9]},
        {"what": "relabel", "sample_id": [4, 5], "label": "cat"},
        {"what": "relabel", "sample_id": [5, 6], "label": ["dog", "owl"]},
        {"what": "reweight", "sample_id": [4, 5], "weight": 0},
        {"what": "reweight", "sample_id": [5], "weight": 1},
        {"what": "tag", "tag": "hard", "sample_id": [1, 2]},
        {"what": "tag", "tag": "gone", "sample_id": [1]},
        {"what": "untag", "tag": "gone", "sample_id": [1]},
        {"what": "untag", "tag": "never", "sample_id": [1]},
    ) == Decisions(
        discarded={1, 3},
        labels={4: "cat", 5: "dog", 6: "owl"},
        weights={4: 0.0, 5: 1.0},
        tags={"hard": {1, 2}},
    )


def test_settings() -> None:
    rate = {"what": "set", "settings": {"lr": 0.1, "epochs": 5}}
    assert fold(rate).settings == {"lr": 0.1, "epochs": 5}
    assert fold(rate, {"what": "set", "settings": {"epochs": 7}}).settings == {"lr": 0.1, "epochs": 7}
    for back in ({"what": "set", "settings": {"lr": "schedule"}}, {"what": "resume", "schedule": True}):
        assert fold(rate, back).settings == {"epochs": 5}
        assert fold({"what": "set", "settings": {"lr_scale": 0.5}}, back).settings == {"lr_scale": 0.5}


def test_pause() -> None:
    pause, resume = {"what": "pause"}, {"what": "resume"}
    assert fold(pause).is_paused
    assert not fold(pause, resume).is_paused
    assert fold(pause, resume, pause).is_paused
    assert fold(pause, {"what": "resume", "schedule": True}).is_paused  # of the learning rate only
    assert not fold(pause, {"what": "undo", "action": "a"}).is_paused


def test_what_happens_at_once_leaves_no_state() -> None:
    assert fold({"what": "checkpoint"}, {"what": "stop"}, {"what": "evaluate", "split": "val"}) == Decisions()


DISCARD = {"what": "discard", "sample_id": [1]}


def undo(target: str) -> dict[str, Any]:
    return {"what": "undo", "action": target}


@pytest.mark.parametrize(
    ("actions", "gone", "discarded"),
    [
        ([DISCARD, undo("a")], {"a"}, set()),
        ([DISCARD, undo("a"), undo("b")], {"b"}, {1}),
        ([DISCARD, undo("a"), undo("b"), undo("c")], {"a", "c"}, set()),
        ([DISCARD, undo("a"), undo("a"), undo("b")], {"a", "b"}, set()),  # the second undo still stands
        ([DISCARD, undo("a"), DISCARD], {"a"}, {1}),
        ([undo("b"), DISCARD], set(), {1}),  # of what comes later
        ([DISCARD, undo("b")], set(), {1}),  # of itself
        ([DISCARD, undo("z")], set(), {1}),  # of nothing
        ([DISCARD, {"what": "restore", "sample_id": [1]}, undo("b")], {"b"}, {1}),
    ],
)
def test_undo(actions: list[dict[str, Any]], gone: set[str], discarded: set[int]) -> None:
    named = [{"id": "abcdefghij"[i], **action} for i, action in enumerate(actions)]
    assert undone(named) == gone
    assert decide(named).discarded == discarded


def test_an_undo_goes_back_to_what_was_before_and_not_to_the_source() -> None:
    first = {"what": "relabel", "sample_id": [1], "label": "cat"}
    second = {"what": "relabel", "sample_id": [1], "label": "dog"}
    assert fold(first, second, undo("b")).labels == {1: "cat"}
    assert fold(first, second, undo("a")).labels == {1: "dog"}


def test_a_refused_undo_takes_nothing_back(run: RunDir) -> None:
    first = ask(run, "discard", sample_id=[1])
    applied(run, first)
    back = ask(run, "undo", action=first)
    assert statuses(run) == ["undone", "pending"]
    assert decisions(run).discarded == set()
    assert decisions(run, with_pending=False).discarded == {1}
    refused(run, back)
    assert statuses(run) == ["applied", "refused"]
    assert decisions(run).discarded == {1}


def test_canaries_are_remembered_and_never_decisions(run: RunDir) -> None:
    person = ask(run, "relabel", sample_id=[1], label="dog")
    planted = ask(run, "relabel", sample_id=[1, 2], label=["cat", "owl"], canary=True, who="litscope")
    assert canaries(run) == {}  # not planted yet
    applied(run, person)
    applied(run, planted)
    assert canaries(run) == {1: "cat", 2: "owl"}
    assert decisions(run).labels == {1: "dog"}
    applied(run, ask(run, "undo", action=planted, who="litscope"))
    assert canaries(run) == {1: "cat", 2: "owl"}
    assert decisions(run).labels == {1: "dog"}
    assert statuses(run) == ["applied", "undone", "applied"]


ids = st.lists(st.integers(0, 5), min_size=1, max_size=4)
names = st.sampled_from(["cat", "dog"])
verbs = st.one_of(
    st.builds(lambda what, i: {"what": what, "sample_id": i}, st.sampled_from(["discard", "restore"]), ids),
    st.builds(
        lambda what, i, t: {"what": what, "sample_id": i, "tag": t}, st.sampled_from(["tag", "untag"]), ids, names
    ),
    st.builds(lambda i, name: {"what": "relabel", "sample_id": i, "label": name}, ids, names),
    st.builds(lambda i, w: {"what": "reweight", "sample_id": i, "weight": w}, ids, st.floats(0, 4)),
    st.builds(lambda lr: {"what": "set", "settings": {"lr": lr}}, st.sampled_from([0.1, 0.2, "schedule"])),
    st.builds(lambda n: {"what": "set", "settings": {"epochs": n}}, st.integers(1, 3)),
    st.sampled_from([{"what": "pause"}, {"what": "resume"}, {"what": "resume", "schedule": True}, {"what": "stop"}]),
    st.builds(lambda i: {"what": "undo", "action": str(i)}, st.integers(0, 30)),
    st.sampled_from([{"what": "merge", "sample_id": [1]}, {"what": "discard"}, {"what": "set", "settings": {"x": 1}}]),
)
journals = st.lists(verbs, max_size=30).map(lambda found: [{"id": str(i), **a} for i, a in enumerate(found)])


@given(journals, st.integers(0, 30))
def test_replay_is_deterministic_and_a_prefix_repeated_changes_nothing(
    journal: list[dict[str, Any]], length: int
) -> None:
    prefix = journal[:length]
    before = json.dumps(journal)
    once = decide(prefix)
    assert decide(json.loads(json.dumps(prefix))) == once  # as another rank reads it
    assert decide([*prefix, *prefix]) == once
    assert decide([*prefix, *journal]) == decide(journal)
    assert json.dumps(journal) == before


@given(journals)
def test_the_fold_leaves_out_what_is_undone_and_nothing_else(journal: list[dict[str, Any]]) -> None:
    gone = undone(journal)
    kept = [action for action in journal if action["id"] not in gone and action["what"] != "undo"]
    assert decide(kept) == decide(journal)
    known = {action["id"] for action in journal}
    assert gone <= known


@given(journals.filter(bool))
def test_an_undo_at_the_end_is_as_if_the_action_had_not_been_and_its_undo_as_if_nothing(
    journal: list[dict[str, Any]],
) -> None:
    last = journal[-1]["id"]
    back = {"id": "x", "what": "undo", "action": last}
    assert decide([*journal, back]) == decide(journal[:-1])
    assert decide([*journal, back, {"id": "y", "what": "undo", "action": "x"}]) == decide(journal)


@given(journals)
def test_what_a_file_gives_back_is_what_was_decided(journal: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(folder)
        for action in journal:
            append_line(run.actions, action)
        assert decisions(run) == decide(journal)
        assert Journal(run).poll() == [entry.action for entry in entries(run)] == journal
