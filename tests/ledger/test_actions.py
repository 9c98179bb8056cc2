"""The journal: what is written, what a crash leaves, and what is void after a resume."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from journals import applied, ask, refused, statuses

from litscope.attempts import begin_attempt
from litscope.errors import ConfigError, LedgerError, RunError
from litscope.ledger.journal.actions import (
    Decisions,
    Journal,
    canaries,
    check,
    decisions,
    entries,
    request,
    submit,
)
from litscope.ledger.journal.describe import describe, describe_status
from litscope.ledger.tables import actions_table
from litscope.rundir import RunDir, append_line, json_text


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run in its first attempt."""
    run = RunDir.create(tmp_path / "run")
    begin_attempt(run, 0, None)
    return run


# ---- the file ----------------------------------------------------------------------------------


def test_what_is_asked_and_answered_comes_back(run: RunDir) -> None:
    one = ask(run, "discard", sample_id=[3], key=["c"], why="blurred")
    two = ask(run, "pause")
    three = ask(run, "evaluate", split="val")
    four = ask(run, "stop")
    applied(run, one, step=12)
    refused(run, two, "not now")
    applied(run, three, metrics={"val/accuracy": float("nan")}, note="weights of step 10")
    found = entries(run)
    assert [entry.action["id"] for entry in found] == [one, two, three, four]
    assert statuses(run) == ["applied", "refused", "applied", "pending"]
    assert found[0].action["why"] == "blurred"
    assert found[0].answer is not None
    assert (found[0].answer["step"], found[0].answer["attempt"]) == (12, 1)
    assert found[1].answer is not None
    assert found[1].answer["reason"] == "not now"
    assert found[2].answer is not None
    assert found[2].answer["metrics"] == {"val/accuracy": None}
    assert found[3].answer is None


def test_a_run_without_a_journal(run: RunDir) -> None:
    assert entries(run) == []
    assert Journal(run).poll() == []
    assert decisions(run) == Decisions()
    assert canaries(run) == {}
    assert not run.actions.exists()


def test_lines_of_others_are_kept_and_never_fatal(run: RunDir) -> None:
    ask(run, "discard", sample_id=[1])
    append_line(run.actions, {"id": "f" * 12, "what": "merge", "sample_id": [2], "with": 3})  # of a newer version
    append_line(run.actions, {"id": "e" * 12, "what": "discard", "sample_id": "all"})
    append_line(run.actions, {"id": "d" * 12, "what": "relabel", "canary": True})
    applied(run, "d" * 12)
    for junk in ({"id": 3, "what": "discard"}, {"id": "x", "what": None}, {"hello": 1}, {}, {"answers": "e" * 12}):
        append_line(run.actions, junk)
    append_line(run.actions, {"answers": "e" * 12, "status": "maybe", "step": 1, "epoch": 0, "attempt": 1})
    append_line(run.actions, {"answers": "e" * 12, "status": "applied", "step": None, "epoch": 0, "attempt": 1})
    applied(run, "c" * 12)  # an answer without a request
    with run.actions.open("ab") as file:
        file.write(b"[1, 2]\n\xff\xfe\nnull\n")
    assert [entry.action["what"] for entry in entries(run)] == ["discard", "merge", "discard", "relabel"]
    assert statuses(run) == ["pending", "pending", "pending", "applied"]
    assert decisions(run) == Decisions(discarded={1})
    assert canaries(run) == {}
    assert [describe(entry.action) for entry in entries(run)][1] == "merge 1 sample"
    refused(run, "f" * 12, "unknown")
    assert statuses(run)[1] == "refused"


def test_an_id_counts_once_whoever_repeats_it(run: RunDir) -> None:
    first = request("discard", sample_id=[1])
    submit(run, first)
    submit(run, {**first, "sample_id": [2]})
    assert [entry.action["sample_id"] for entry in entries(run)] == [[1]]


@pytest.mark.parametrize("cut", [1, 10, 60, -2, -1])
def test_a_torn_last_line_waits_and_is_closed_off_by_the_next(run: RunDir, cut: int) -> None:
    journal = Journal(run)
    first = ask(run, "discard", sample_id=[1], key=["Straße.png"])
    assert [line["id"] for line in journal.poll()] == [first]
    torn = json.dumps(request("discard", sample_id=[2], key=["Straße.png"]), ensure_ascii=False).encode() + b"\n"
    with run.actions.open("ab") as file:
        file.write(torn[:cut])
    assert journal.poll() == []
    assert statuses(run)[0] == "pending"
    second = ask(run, "restore", sample_id=[1])
    found = [line["id"] for line in journal.poll()]
    assert found[-1] == second
    assert found[:-1] == ([json.loads(torn)["id"]] if cut == -1 else [])  # only its line end was missing
    assert [entry.action["id"] for entry in entries(run)] == [first, *found]
    assert Journal(run).poll() == [entry.action for entry in entries(run)]


def test_a_line_that_is_finished_later_is_given_then(run: RunDir) -> None:
    journal = Journal(run)
    text = json.dumps(request("pause")).encode() + b"\n"
    for byte in range(0, len(text), 7):
        assert journal.poll() == []
        with run.actions.open("ab") as file:
            file.write(text[byte : byte + 7])
    assert [line["what"] for line in journal.poll()] == ["pause"]
    assert journal.poll() == []


def test_polling_costs_one_stat_when_nothing_is_new(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(run, "pause")
    with run.actions.open("ab") as file:
        file.write(b'{"half')
    journal = Journal(run)
    assert len(journal.poll()) == 1
    opened: list[Path] = []
    original = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: opened.append(path) or original(path, *a, **k))
    assert [journal.poll() for _ in range(3)] == [[], [], []]
    assert opened == []


def test_polling_reads_what_is_new_and_not_the_journal_anew(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(run)
    ask(run, "pause", why="x" * 5000)
    assert len(journal.poll()) == 1
    num_read = 0

    class Counting(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal num_read
            found = super().read(size) or b""
            num_read += len(found)
            return found

    monkeypatch.setattr(Path, "open", lambda path, mode: Counting(path, mode.removesuffix("b")))
    before = run.actions.stat().st_size
    ask(run, "resume")
    assert [line["what"] for line in journal.poll()] == ["resume"]
    assert num_read == 64 + run.actions.stat().st_size - before


def test_a_journal_that_cannot_be_read_is_an_error_and_one_that_is_absent_is_not(run: RunDir) -> None:
    journal = Journal(run)
    assert journal.poll() == []
    run.actions.mkdir()
    with pytest.raises(IsADirectoryError):
        journal.poll()
    run.actions.rmdir()
    ask(run, "pause")
    assert len(journal.poll()) == 1


def test_a_journal_that_is_being_replaced_is_read_at_the_next_poll(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system says ESTALE of a file that another machine has put another in place of."""

    def stale(*_: Any) -> Any:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    journal = Journal(run)
    ask(run, "pause")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", stale)
        assert journal.poll() == []
    assert len(journal.poll()) == 1


def test_a_journal_that_is_cut_or_replaced_gives_no_line_twice_and_loses_none(run: RunDir) -> None:
    journal = Journal(run)
    first, second = ask(run, "pause", why="x" * 500), ask(run, "resume")
    assert [line["id"] for line in journal.poll()] == [first, second]
    whole = run.actions.read_bytes()
    run.actions.write_bytes(whole[: whole.index(b"\n") + 1])  # cut
    assert journal.poll() == []
    third = ask(run, "stop")
    assert [line["id"] for line in journal.poll()] == [third]
    run.actions.unlink()
    assert journal.poll() == []
    run.actions.write_bytes(whole)
    assert journal.poll() == []
    run.actions.write_bytes(whole[whole.index(b"\n") + 1 :])  # cut at its start, and longer than before at once
    fourth = ask(run, "pause", why="y" * 5000)
    assert [line["id"] for line in journal.poll()] == [fourth]


def _ask_many(path: Path, writer: int) -> None:
    for number in range(40):
        action = request("tag", tag=f"{writer}/{number}", sample_id=range(2000), key=["x" * 10] * 2000)
        submit(RunDir(path), action)
        if number % 2:
            applied(RunDir(path), action["id"], step=number)


def test_writers_at_once_and_a_reader_meanwhile(run: RunDir) -> None:
    context = forked.server()
    writers = [context.Process(target=_ask_many, args=(run.path, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    journal, lines = Journal(run), []
    while any(writer.is_alive() for writer in writers):
        lines += journal.poll()
    lines += journal.poll()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    asked = [line for line in lines if "what" in line]
    assert {line["tag"] for line in asked} == {f"{w}/{n}" for w in range(3) for n in range(40)}
    assert len(lines) == 3 * 60
    assert asked == [entry.action for entry in entries(run)]
    assert [statuses(run).count(status) for status in ("applied", "pending")] == [60, 60]


@pytest.fixture
def small_files(run: RunDir) -> Iterator[None]:
    """The journal cannot grow beyond 1000 bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_nothing_before_is_lost(run: RunDir, small_files: None) -> None:
    first = ask(run, "discard", sample_id=[1])
    with pytest.raises(LedgerError, match="cannot be written: File too large"):
        ask(run, "discard", sample_id=range(2000))
    assert [entry.action["id"] for entry in entries(run)] == [first]


def test_a_journal_that_may_not_be_written_is_the_users_mistake(run: RunDir) -> None:
    run.actions.mkdir()  # not a matter of modes: whoever runs this may be root
    with pytest.raises(RunError, match="Is a directory"):
        ask(run, "pause")


def test_many_samples_in_one_action(run: RunDir) -> None:
    ids = np.random.default_rng(0).permutation(50_000)
    ask(run, "discard", sample_id=ids, key=[f"{i}.png" for i in ids])
    ask(run, "relabel", sample_id=ids[:20_000], label=["cat"] * 20_000)
    found = decisions(run)
    assert found.discarded == set(range(50_000))
    assert len(found.labels) == 20_000


# ---- answers after a resume ---------------------------------------------------------------------


def test_an_answer_is_void_when_a_later_attempt_began_before_its_step(run: RunDir) -> None:
    early, at_cut, late = (ask(run, "discard", sample_id=[i]) for i in range(3))
    for action_id, step in ((early, 40), (at_cut, 60), (late, 61)):
        applied(run, action_id, step=step)
    assert statuses(run) == ["applied"] * 3
    begin_attempt(run, 60, "last.ckpt")
    assert statuses(run) == ["applied", "applied", "pending"]
    assert entries(run)[2].answer is None
    assert decisions(run, with_pending=False).discarded == {0, 1}
    assert decisions(run).discarded == {0, 1, 2}
    applied(run, late, step=60, attempt=2)
    assert statuses(run) == ["applied"] * 3
    begin_attempt(run, 0, "first.ckpt")
    assert statuses(run) == ["pending"] * 3


def test_a_refusal_is_void_then_too(run: RunDir) -> None:
    action_id = ask(run, "discard", sample_id=[1])
    refused(run, action_id)
    assert decisions(run) == Decisions()
    begin_attempt(run, 5, "last.ckpt")
    assert statuses(run) == ["pending"]
    assert decisions(run).discarded == {1}


def test_a_void_answer_that_stands_last_does_not_hide_the_valid_one(run: RunDir) -> None:
    action_id = ask(run, "discard", sample_id=[1])
    begin_attempt(run, 5, "last.ckpt")
    applied(run, action_id, step=5, attempt=2)
    applied(run, action_id, step=9, attempt=1)  # the first attempt's process lived on
    assert entries(run)[0].answer is not None
    assert entries(run)[0].answer["attempt"] == 2  # type: ignore[index]


def test_what_only_meant_the_process_that_trained_then_is_not_repeated(run: RunDir) -> None:
    verbs = [{"what": "pause"}, {"what": "checkpoint"}, {"what": "evaluate", "split": "val"}, {"what": "stop"}]
    for arguments in (*verbs, {"what": "resume"}, {"what": "pause"}, {"what": "resume", "schedule": True}):
        applied(run, ask(run, **arguments), step=50)
    assert decisions(run).is_paused
    begin_attempt(run, 20, "last.ckpt")
    assert statuses(run) == [*["applied"] * 6, "pending"]
    assert not decisions(run).is_paused
    applied(run, ask(run, "pause"), step=20, attempt=2)
    assert decisions(run).is_paused


# ---- lines that no reader could hold --------------------------------------------------------------

DEEP = b'{"id": "x", "what": "tag", "tag": ' + 100_000 * b"[" + 100_000 * b"]" + b"}"

HOSTILE = {
    "a number of 400 digits": (
        b'{"id": "x", "what": "reweight", "sample_id": [1], "weight": 1' + 400 * b"0" + b"}",
        "64",
    ),
    "of 5000 digits": (b'{"id": "x", "what": "reweight", "sample_id": [1], "weight": 1' + 5000 * b"0" + b"}", "64"),
    "an id of 400 digits": (b'{"id": "x", "what": "discard", "sample_id": [1' + 400 * b"0" + b"]}", "64"),
    "a time of 400 digits": (b'{"id": "x", "what": "pause", "when": 1' + 400 * b"0" + b"}", "64"),
    "a step of 400 digits": (b'{"id": "x", "what": "pause", "at_step": 1' + 400 * b"0" + b"}", "64"),
    "a verb of a newer version": (b'{"id": "x", "what": "merge", "with": 1' + 400 * b"0" + b"}", "64"),
    "100,000 brackets": (DEEP, "inside each other"),
    "900 brackets": (DEEP.replace(99_100 * b"[", b"").replace(99_100 * b"]", b""), "inside each other"),
    "a lone surrogate in a tag": (b'{"id": "x", "what": "tag", "sample_id": [1], "tag": "a\\ud800"}', "surrogate"),
    "a lone surrogate in a note": (b'{"id": "x", "what": "pause", "why": "\\uDFFF"}', "surrogate"),
    "a lone surrogate in a name": (b'{"id": "x", "what": "pause", "\\udc00": 1}', "surrogate"),
    "a lone surrogate in a key": (
        b'{"id": "x", "what": "tag", "tag": "a", "sample_id": [1], "key": ["\\ud8ff"]}',
        "surrogate",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_line_that_no_reader_could_hold_is_refused_with_the_reason(name: str, run: RunDir) -> None:
    line, reason = HOSTILE[name]
    ask(run, "discard", sample_id=[1])
    with run.actions.open("ab") as file:
        file.write(line + b"\n")
    ask(run, "tag", tag="\N{GRINNING FACE}", sample_id=[2])
    assert statuses(run) == ["pending", "refused", "pending"]
    hostile = entries(run)[1]
    assert reason in describe_status(hostile)
    assert describe(hostile.action)
    with pytest.raises(ConfigError, match=f"cannot be used: .*{reason}"):
        check(hostile.action)
    assert decisions(run) == Decisions(discarded={1}, tags={"\N{GRINNING FACE}": {2}})
    assert Journal(run).poll() == [entry.action for entry in entries(run)]
    table = actions_table(run)
    assert table["status"].to_pylist() == ["pending", "refused", "pending"]
    assert reason in table["reason"][1].as_py()
    assert json.dumps(table["arguments"].to_pylist(), ensure_ascii=False).encode()
    json_text([entry.action for entry in entries(run)]).encode()


@pytest.mark.parametrize("when", ["Infinity", "NaN", "1e300", "-1e300", "-1", "true", "253402300800"])
def test_a_time_that_is_none(when: str, run: RunDir) -> None:
    with run.actions.open("a") as file:
        file.write(f'{{"id": "x", "what": "pause", "when": {when}}}\n')
    asked = actions_table(run)["asked_at"].to_pylist()
    assert asked[0] is None or asked[0].year == 1970


def test_an_answer_that_no_reader_could_hold_is_none(run: RunDir) -> None:
    action = ask(run, "pause")
    with run.actions.open("a") as file:
        file.write(f'{{"answers": "{action}", "status": "applied", "step": 1{400 * "0"}, "epoch": 0, "attempt": 1}}\n')
    assert statuses(run) == ["pending"]
    assert actions_table(run)["step"].to_pylist() == [None]
