"""What may be asked of a run: every action with the arguments that it takes, and the sentence for each mistake."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from litscope.errors import ConfigError
from litscope.ledger.journal.decisions import Decisions, decide
from litscope.ledger.journal.verbs import SETTINGS, VERBS, check, request


def test_a_request_says_who_when_what_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LITSCOPE_USER", raising=False)
    action = request("discard", why="blurred", sample_id=np.arange(3), key=np.array(["a", "b", "c"], object))
    assert list(action) == ["id", "who", "when", "what", "why", "sample_id", "key"]
    assert len(action["id"]) == 12
    assert int(action["id"], 16) >= 0
    assert "@" in action["who"]
    assert action["when"] > 1e9
    assert json.loads(json.dumps(action)) == action  # plain values, though numpy's were given
    assert action["sample_id"] == [0, 1, 2]
    assert request("pause", who="ada")["who"] == "ada"
    monkeypatch.setenv("LITSCOPE_USER", "grace")
    assert request("pause")["who"] == "grace"


VALID: list[dict[str, Any]] = [
    {"what": "tag", "tag": "hard", "sample_id": [1], "key": ["a"]},
    {"what": "untag", "tag": "hard", "sample_id": [1]},
    {"what": "discard", "sample_id": [0, 2**40], "where": "suspicion > 0.9"},
    {"what": "restore", "sample_id": [0]},
    {"what": "relabel", "sample_id": [0, 1], "label": ["cat", "dog"]},
    {"what": "relabel", "sample_id": [0, 1], "label": "cat", "canary": True},
    {"what": "reweight", "sample_id": [0], "weight": 0},
    {"what": "set", "settings": {"lr": 0.1, "lr_scale": 2, "weight_decay": 0, "epochs": 3, "patience": 1}},
    {"what": "set", "settings": {"lr": "schedule", "early_stopping": False, "batch_size": 64}},
    {"what": "pause"},
    {"what": "resume"},
    {"what": "resume", "schedule": True},
    {"what": "checkpoint"},
    {"what": "evaluate", "split": "val"},
    {"what": "evaluate", "tag": "hard"},
    {"what": "stop"},
    {"what": "undo", "action": "0123456789ab"},
    {"what": "undo", "action": "0123456789ab", "canary": True, "at_step": 0},
]


@pytest.mark.parametrize("action", VALID, ids=str)
def test_valid_requests(action: dict[str, Any]) -> None:
    assert check(action) is None
    assert request(**action).items() >= action.items()


def test_every_verb_and_setting_has_a_valid_example() -> None:
    assert {action["what"] for action in VALID} == set(VERBS)
    assert {name for action in VALID for name in action.get("settings", {})} == set(SETTINGS)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"what": "discrad", "sample_id": [1]}, "Did you mean 'discard'"),
        ({"what": "merge"}, "Known are tag, untag"),
        ({"what": ["discard"]}, "not an action"),
        ({"what": "discard"}, "needs `sample_id`"),
        ({"what": "discard", "sample_id": []}, "not empty"),
        ({"what": "discard", "sample_id": [-1]}, "whole numbers from 0"),
        ({"what": "discard", "sample_id": [True]}, "whole numbers from 0"),
        ({"what": "discard", "sample_id": [1.0]}, "whole numbers from 0"),
        ({"what": "discard", "sample_id": [2**63]}, "whole numbers from 0"),
        ({"what": "discard", "sample_id": "all"}, "whole numbers from 0"),
        ({"what": "discard", "sample_id": [1, 2], "key": ["a"]}, "1 values of `key` for 2 ids"),
        ({"what": "discard", "sample_id": [1], "weight": 1.0}, "does not take `weight`"),
        ({"what": "discard", "sample_id": [1], "wehre": "x"}, "Did you mean 'where'"),
        ({"what": "discard", "sample_id": [1], "canary": True}, "does not take `canary`"),
        ({"what": "relabel", "sample_id": [1, 2], "label": ["cat"]}, "1 values of `label` for 2 ids"),
        ({"what": "relabel", "sample_id": [1], "label": 3}, "a class name"),
        ({"what": "relabel", "sample_id": [1], "label": " "}, "a class name"),
        ({"what": "reweight", "sample_id": [1], "weight": -0.5}, "finite number from 0"),
        ({"what": "reweight", "sample_id": [1], "weight": float("nan")}, "finite number from 0"),
        ({"what": "reweight", "sample_id": [1], "weight": float("inf")}, "finite number from 0"),
        ({"what": "reweight", "sample_id": [1], "weight": True}, "finite number from 0"),
        ({"what": "tag", "tag": "", "sample_id": [1]}, "must be a name"),
        ({"what": "set"}, "needs `settings`"),
        ({"what": "set", "settings": {}}, "not empty"),
        ({"what": "set", "settings": {"lr": 0}}, "lr=0: it must be a number above 0, or schedule"),
        ({"what": "set", "settings": {"lr": "fast"}}, "lr='fast'"),
        ({"what": "set", "settings": {"epoch": 3}}, "Did you mean 'epochs'"),
        ({"what": "set", "settings": {"dropout": 3}}, "What can be set is lr, lr_scale"),
        ({"what": "set", "settings": {"epochs": 3.5}}, "epochs=3.5"),
        ({"what": "set", "settings": {"epochs": True}}, "epochs=True"),
        ({"what": "set", "settings": {"early_stopping": 1}}, "true or false"),
        ({"what": "evaluate"}, "either `split`"),
        ({"what": "evaluate", "split": "val", "tag": "hard"}, "either `split`"),
        ({"what": "evaluate", "split": "all"}, "train, val or test"),
        ({"what": "evaluate", "split": ["val"]}, "train, val or test"),
        ({"what": "resume", "schedule": False}, "must be true"),
        ({"what": "undo"}, "needs `action`"),
        ({"what": "pause", "for": 3}, "pause does not take `for`"),
        ({"what": "pause", "at_step": -1}, "whole number from 0"),
    ],
    ids=str,
)
def test_requests_that_are_refused(action: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        check(action)
    assert decide([{"id": "a", **action}]) == Decisions()


def test_a_value_that_no_reader_could_hold_is_not_asked_for() -> None:
    for arguments in ({"weight": 10**400}, {"weight": 10**5000}, {"key": ["\udcff"], "weight": 1}):
        with pytest.raises(ConfigError, match="it must be"):
            request("reweight", sample_id=[1], **arguments)
    with pytest.raises(ConfigError, match="not Unicode text"):
        request("pause", why="\udcff")
    with pytest.raises(ConfigError, match="it must be a name"):
        request("tag", sample_id=[1], tag="\udcff")
