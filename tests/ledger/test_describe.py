"""Actions and their answers in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from journals import applied, ask, refused

from litscope.attempts import begin_attempt
from litscope.ledger.journal.actions import entries
from litscope.ledger.journal.describe import describe, describe_answer, describe_status
from litscope.rundir import RunDir


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ({"what": "discard", "sample_id": [1], "where": "aum < 0"}, "discard 1 sample where aum < 0"),
        ({"what": "tag", "tag": "hard", "sample_id": list(range(1200))}, "tag hard 1,200 samples"),
        ({"what": "relabel", "sample_id": [1, 2], "label": ["cat", "dog"]}, "relabel 2 samples to cat, dog"),
        ({"what": "relabel", "sample_id": [0] * 5, "label": list("abcde")}, "relabel 5 samples to a, b, c and 2 more"),
        ({"what": "reweight", "sample_id": [1], "weight": 0.5}, "reweight 1 sample to weight 0.5"),
        ({"what": "set", "settings": {"lr": 0.1, "early_stopping": False}}, "set lr=0.1 early_stopping=false"),
        ({"what": "resume", "schedule": True}, "resume schedule"),
        ({"what": "evaluate", "split": "val"}, "evaluate val"),
        ({"what": "evaluate", "tag": "hard"}, "evaluate hard"),
        ({"what": "undo", "action": "abc"}, "undo abc"),
        ({"what": "stop", "at_step": 70}, "stop at step 70"),
        ({"what": "merge", "settings": 3, "sample_id": "all"}, "merge"),
    ],
)
def test_an_action_in_words(action: dict[str, Any], words: str) -> None:
    assert describe(action) == words


def test_an_answer_in_words(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run")
    begin_attempt(run, 0, None)
    one, two, three = ask(run, "evaluate", split="val"), ask(run, "pause"), ask(run, "checkpoint")
    applied(run, one, step=7, metrics={"val/accuracy": 0.5, "num_samples": 3}, note="of the last weights")
    refused(run, two, "no")
    applied(run, three, path="a.ckpt")
    found = [describe_answer(entry.answer) for entry in entries(run) if entry.answer]
    assert found == [
        [
            "applied at step 7 (epoch 1). of the last weights",
            "  val/accuracy         0.5000",
            "  num_samples          3",
        ],
        ["refused at step 10 (epoch 1): no"],
        ["applied at step 10 (epoch 1)", "  a.ckpt"],
    ]
    ask(run, "stop")
    statuses = [describe_status(entry) for entry in entries(run)]
    assert statuses[1:] == ["refused, step 10: no", "applied, step 10", "pending"]
