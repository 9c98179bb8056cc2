"""`litscope undo` and `litscope actions`, on a run folder made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acted_runs import last_action, make_run

from litscope.cli import main
from litscope.ledger.journal.actions import answer, decisions, entries, request, submit
from litscope.rundir import RunDir, append_line


@pytest.fixture
def run(in_tmp: Path) -> RunDir:
    return make_run(Path("runs/a"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with `code`, and returns its standard output."""

    def call(*words: str, code: int = 0) -> str:
        assert main(words) == code
        return capsys.readouterr().out

    return call


def test_undo_takes_back_the_last_action_then_the_one_before(run: RunDir, cli: Callable[..., str]) -> None:
    cli("discard", "--id", "1")
    cli("set", "lr=0.1")
    assert "(set lr=0.1)" in cli("undo")
    assert decisions(run).settings == {}
    assert "(discard 1 sample)" in cli("undo", "runs/a")
    assert decisions(run).discarded == set()
    cli("undo", code=2)


def test_undo_by_the_beginning_of_an_id_and_of_an_undo(run: RunDir, cli: Callable[..., str]) -> None:
    cli("discard", "--id", "1")
    first = last_action(run)["id"]
    cli("discard", "--id", "2")
    cli("undo", first[:6])
    assert decisions(run).discarded == {2}
    cli("undo", "a", last_action(run)["id"])
    assert decisions(run).discarded == {1, 2}


def test_undo_passes_over_what_it_cannot_take_back(run: RunDir, cli: Callable[..., str]) -> None:
    cli("discard", "--id", "1")
    submit(run, request("relabel", sample_id=[2], label="cat", canary=True, who="litscope"))
    submit(run, request("stop"))
    append_line(run.actions, {"id": "f" * 12, "what": "merge"})
    refused = request("pause")
    submit(run, refused)
    answer(run, refused["id"], "refused", step=1, epoch=0, attempt=1, reason="no")
    assert "(discard 1 sample)" in cli("undo")


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"what": "stop"}, "it changes nothing that could be put back"),
        ({"what": "merge"}, "this litscope does not know what it does"),
        ({"what": "relabel", "sample_id": [1], "label": "cat", "canary": True}, "the run planted it"),
    ],
)
def test_what_cannot_be_undone_says_why(
    run: RunDir, capsys: pytest.CaptureFixture[str], action: dict[str, Any], message: str
) -> None:
    append_line(run.actions, {"id": "f" * 12, **action})
    assert main(["undo", "fff"]) == 2
    assert message in capsys.readouterr().err
    assert len(entries(run)) == 1


def test_what_is_undone_or_refused_cannot_be_undone_again(
    run: RunDir, cli: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    cli("set", "lr=1")
    action_id = last_action(run)["id"]
    cli("undo", action_id)
    assert main(["undo", action_id]) == 2
    assert "it was undone already" in capsys.readouterr().err
    answer(run, last_action(run)["id"], "refused", step=1, epoch=0, attempt=1, reason="no")
    assert main(["undo", last_action(run)["id"]]) == 2
    assert "it was refused already" in capsys.readouterr().err


def test_an_id_that_is_not_clear(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    for action_id in ("abc1", "abc2"):
        append_line(run.actions, {"id": action_id, "what": "pause"})
    assert main(["undo", "abc"]) == 2
    assert "'abc' may be abc1 and abc2" in capsys.readouterr().err
    assert main(["undo", "x"]) == 2
    assert "No action has the id 'x'" in capsys.readouterr().err


def test_the_log(run: RunDir, cli: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["actions"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "No actions in runs/a/actions.jsonl" in captured.err
    cli("discard", "--where", "key < 'img/002'", "--note", "two\nlines")
    answer(run, last_action(run)["id"], "applied", step=12, epoch=2, attempt=1)
    cli("set", "patience=2")
    answer(run, last_action(run)["id"], "refused", step=13, epoch=2, attempt=1, reason="no")
    append_line(run.actions, {"id": "f" * 12, "what": "merge", "when": "now"})
    out = cli("actions").splitlines()
    assert out[0].split() == ["id", "when", "what", "why", "status", "who"]
    assert re.search(r"discard 2 samples where key < 'img/002'  two lines  applied, step 12  +\S+$", out[1])
    assert re.search(r"[A-Z][a-z]{2} \d\d \d\d:\d\d  set patience=2 +refused, step 13: no  \S+$", out[2])
    assert re.search(r"^f{12}  \? +merge +pending$", out[3])
    assert len(out) == 4
    assert [line.split()[-1] for line in cli("actions", "a", "--status", "pending").splitlines()] == [
        "status",
        "pending",
    ]
    applied = cli("actions", "a", "--status", "applied").splitlines()
    assert applied[0].split() == ["id", "when", "what", "why", "status"]
    who = entries(run)[0].action["who"]
    assert applied[-1] == f"all by {who}"
    found = json.loads(cli("actions", "--json"))["result"]
    assert [line["status"] for line in found] == ["applied", "refused", "pending"]
    assert found[0]["action"]["sample_id"] == [0, 1]
    assert json.loads(cli("actions", "--status", "undone", "--json"))["result"] == []
