"""The console: lines as people type them, scripts, completion, a real terminal. What it answers: test_doors."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acted_runs import DEAD, set_process
from asked_runs import act, asked_run
from doors import studio_over

from litscope.cli import main
from litscope.data.manifest import build_manifest
from litscope.live.beside import open_console
from litscope.rundir import RunDir
from litscope.studio.doors.console.offers import Offers
from litscope.studio.doors.console.session import Console
from litscope.studio.doors.console.typed import parse, quoted, tokens
from litscope.studio.doors.console.verbs import ALL, VERBS
from litscope.studio.doors.limits import RANGES
from litscope.studio.refusals import AskedWrong

ODD = [
    "an ant/0.png",
    "it's/1.png",
    'a "bee"/2.png',
    "two\nlines/3.png",
    "\x1b[31mred\x1b[0m/4.png",
    "ünï\u202ecode/5.png",
]
NOT_SHOWN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = asked_run(tmp_path / "runs" / "one", hue=list(range(15)))
    set_process(made, pid=DEAD)
    return made


@pytest.fixture
def console(run: RunDir, tmp_path: Path) -> Console:
    return Console(studio_over(run.path.parent, cache=tmp_path / "cache"))


def given(line: str) -> dict[str, Any]:
    return parse(line, VERBS).given


def offered(console: Console, line: str) -> list[str]:
    """The lines that completion makes of one."""
    return [line[: offer.start] + offer.text for offer in Offers(console).of(line)]


def test_lines_are_read_as_they_are_meant() -> None:
    assert given("list split = train and key ~ 'a --b' --sort -suspicion,key -n 5") == {
        "filter": "split = train and key ~ 'a --b'",
        "sort": "-suspicion,key",
        "count": 5,
    }
    assert given("list --sparklines is_right") == {"filter": "is_right", "sparklines": True}
    assert given("discard 3 it's.png --rows 1-3,7 --note='a b' --where label_name = 'a cat' --without 4 5") == {
        "samples": ["3", "it's.png"],
        "rows": [(0, 3), (6, 7)],
        "note": "a b",
        "where": "label_name = 'a cat'",
        "without": [4, 5],
    }
    assert given("""discard --where "label_name = 'cat'" """) == {"where": "label_name = 'cat'"}
    assert given("relabel 1 --to 'a \"cat\"'")["to"] == 'a "cat"'
    assert given("sql select 1 --of 'it'") == {"query": "select 1 --of 'it'"}
    assert given("facets label_name split = val") == {"by": "label_name", "filter": "split = val"}
    assert given("set lr=0.1 epochs=3 --wait 0") == {"settings": ["lr=0.1", "epochs=3"], "wait": 0.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lst", "'lst' is no command of the console. Did you mean 'list'"),
        ("list --srt key", "--srt is no option of list. Did you mean '--sort'"),
        ("list --count x", r"count 'x': it is a whole number. Usage: list"),
        ("list --sort", "--sort needs a value"),
        ("list key ~ 'a", "A quote is not closed: 'a"),
        ("pause now", "'now' is too much. Usage: pause"),
        ("confusion tran", "'tran': it is train, val, test"),
        ("discard --rows 0-3", "rows are numbered from 1"),
        ("facets", "facets needs BY"),
        ("sql", "sql needs QUERY"),
        ("reweight 1 --weight 1_0", "weight '1_0': it is a number"),
        ("list \udce9", "no UTF-8"),
    ],
)
def test_lines_that_cannot_be_read_say_how_they_are_typed(line: str, message: str) -> None:
    with pytest.raises(AskedWrong, match=re.escape(message)):
        parse(line, VERBS)


@pytest.mark.parametrize("text", [*ODD, "cat", "--x", "", "a'b\"c"])
def test_what_is_quoted_is_one_word_again(text: str) -> None:
    assert [word.value for word in tokens(f"x {quoted(text)}")] == ["x", text]


def test_every_verb_has_help_and_no_option_twice(console: Console) -> None:
    assert len(console.answer("help").lines()) == len(ALL) + 2
    for verb in ALL:
        assert console.answer(f"help {verb.name}").lines()[0] == verb.usage()
        names = [one.name for one in (*verb.words, *verb.options)]
        assert len(names) == len(set(names))
    assert "no command" in str(console.answer("help lst").error)


def test_no_answer_is_larger_than_that_of_another_door(console: Console, tmp_path: Path) -> None:
    for line in (
        "list --count 1001",
        "histogram hue --bins 5000",
        "review --count 201",
        "map --width 513",
        "curves --max-points 1",
    ):
        found = console.answer(line)
        assert isinstance(found.error, AskedWrong), line
    assert "filter: it may have 20,000 characters" in str(console.answer(f"count key ~ '{'a' * 30_000}'").error)
    many = console.answer("sql select i from range(1500) t(i)").lines()
    assert (len(many), many[-1]) == (1002, "1,000 of 1,500 rows are shown")


def test_limits_are_those_of_http(console: Console) -> None:
    from litscope.studio.doors.http import make_app

    paths = make_app(console.studio).openapi()["paths"]
    ends = {path.rpartition("/")[2]: facts for path, facts in paths.items()}
    places = {"sample_ids": ends["ids"], "sample": ends["{sample_id}"], "near": ends["near"]}
    for (method, name), (low, high) in RANGES.items():
        wanted = {"side": "size"}.get(name, name)
        (found,) = (one for one in (places.get(method) or ends[method])["get"]["parameters"] if one["name"] == wanted)
        schema = next((one for one in found["schema"].get("anyOf", []) if "minimum" in one), found["schema"])
        assert (schema["minimum"], schema["maximum"]) == (low, high), (method, name)


def test_names_cannot_move_the_cursor(tmp_path: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = asked_run(tmp_path / "runs" / "one")
    set_process(made, pid=DEAD)
    keys = [*ODD, *(f"plain/{i}.png" for i in range(9))]
    names = ["a\x1b[2Jnt", "b'e e", "wasp"]
    splits = ["train"] * 12 + ["val"] * 3
    build_manifest(keys, np.arange(15) % 3, names, splits=splits, encoding={"kind": "image"}).write(made.manifest)
    console = Console(studio_over(made.path.parent, cache=tmp_path / "cache"))
    act(made, "tag", [4], tag="\x1b]0;title\x07", is_applied=False)
    lines = ["list --sort sample_id", "sample 4", "status", "columns", "review", "classes train", "confusion train"]
    lines += [
        "facets label_name",
        "facets tags",
        'typical "b\'e e"',
        "journal",
        "compare one one",
        "sql select key from manifest",
    ]
    (in_tmp / "lines").write_text("\n".join([*lines, "discard 4 --note '\x1b[5mblink'", "sample \x1b[31m"]))
    with (in_tmp / "lines").open() as script, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", script)
        assert main(["console", str(made.path), "--keep-going"]) == 0
    out, err = capsys.readouterr()
    assert not NOT_SHOWN.search(out + err)
    assert "\\x1b[31mred" in out
    assert "two\\nlines/3.png" in out
    for key in ODD[:3]:
        assert console.answer(f"sample {quoted(key)}").found.sample.key == key
        assert f"sample {quoted(key)}" in offered(console, f"sample {quoted(key)[:4]}")
    assert not any(NOT_SHOWN.search(line) for line in offered(console, "sample lines") + offered(console, "untag "))
    assert offered(console, "list label_name = b") == ['list label_name = "b\'e e"']


def test_completion_knows_the_run(console: Console, run: RunDir) -> None:
    act(run, "tag", [5], tag="odd one")
    assert offered(console, "lis") == ["list"]
    assert offered(console, "list --so") == ["list --sort"]
    assert offered(console, "list --sort -susp") == ["list --sort -suspicion"]
    assert offered(console, "list mean_l") == ["list mean_loss"]
    assert offered(console, "list mean_loss > 1 and label_name = w") == ["list mean_loss > 1 and label_name = wasp"]
    assert offered(console, "list split=v") == ["list split=val"]
    assert offered(console, "list tags = ") == ['list tags = "odd one"']
    assert offered(console, "untag o") == ['untag "odd one"']
    assert offered(console, "relabel 3 --to b") == ["relabel 3 --to bee", "relabel 3 --to believed"]
    assert offered(console, "discard --where is_r") == ["discard --where is_right"]
    assert offered(console, "curves val") == ["curves val/accuracy"]
    assert offered(console, "sample bee/0") == [f"sample train/bee/0{i}.png" for i in (1, 4, 7)]
    assert offered(console, "set pat") == ["set patience="]
    assert offered(console, "use o") == ["use one"]
    assert offered(console, "confusion ") == ["confusion train", "confusion val", "confusion test"]
    assert offered(console, "sql select ") == []
    shutil.rmtree(run.path)
    time.sleep(1.1)  # the list of folders may be a second old
    assert offered(Console(console.studio), "list mean_l") == []


@pytest.mark.slow
def test_a_run_that_is_gone_or_broken_is_told(console: Console, run: RunDir) -> None:
    run.manifest.write_bytes(b"no parquet")
    for line in ("list", "sample 3", "confusion", "discard 3", "review", "map"):
        assert console.answer(line).error is not None, line
    assert any("cannot be read" in line for line in console.answer("status").lines())
    shutil.rmtree(run.path)
    time.sleep(1.1)
    assert "There is no run 'one-" in str(console.answer("status").error)
    assert console.answer("runs").lines() == [f"No runs in {run.path.parent}."]
    asked_run(run.path.parent / "two")
    time.sleep(1.1)
    assert console.answer("use two").error is None
    assert console.answer("count").found == 15


@pytest.mark.slow
def test_a_script_ends_at_its_first_refusal(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(script: str, *words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "litscope", "console", str(run.path), *words]
        environment = {**os.environ, "LITSCOPE_CACHE": str(tmp_path / "cache")}
        return subprocess.run(line, input=script, capture_output=True, text=True, timeout=120, env=environment)

    def said_here(script: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(script))
        return (main(["console", str(run.path), *words]), *capsys.readouterr())

    script = "# of the run\n\ncount split = train\ncount nonsense\ncount\n"
    found = said(script)
    assert (found.returncode, found.stdout) == (2, "12\n")
    assert "'nonsense' is no column" in found.stderr
    assert "Line 4 was refused; those after it were not asked." in found.stderr
    assert "Traceback" not in found.stderr
    answers = json.loads(said_here(script, "--keep-going", "--json")[1])["result"]
    assert [one["result"] for one in answers] == [12, None, 15]
    error = answers[1]["error"]
    assert (error["type"], error["field"], error["position"]) == ("AskedWrong", "filter", 0)
    code, out, _ = said_here(script, "--json")
    assert (code, len(json.loads(out)["result"])) == (2, 2)
    code, out, err = said_here("tag odd 3\nundo\ncount\n", "--read-only")
    assert (code, out) == (2, "")
    assert "started with --read-only" in err
    assert not run.actions.exists()


def test_the_trainers_answer_is_waited_for(run: RunDir, tmp_path: Path) -> None:
    import threading

    from litscope.ledger.journal.actions import answer, entries

    set_process(run, pid=os.getpid())
    console = Console(studio_over(run.path.parent, cache=tmp_path / "cache"))

    def trainer() -> None:
        while not (waiting := entries(run)):
            time.sleep(0.05)
        answer(run, waiting[0].action["id"], "refused", step=12, epoch=1, attempt=1, reason="too\nmuch")

    thread = threading.Thread(target=trainer)
    thread.start()
    lines = console.answer("lr 9").lines()
    thread.join()
    assert lines[1] == "refused, step 12: too\nmuch"
    assert console.answer("lr 8 --wait 0").lines()[1] == "Requested. The trainer applies it at its next step."
    assert "--wait -1: it is 0 to" in str(console.answer("lr 7 --wait -1").error)


_WITH_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches it
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.slow
def test_at_a_terminal(run: RunDir, tmp_path: Path) -> None:
    """Tab, Ctrl-C at the prompt and in an answer, Ctrl-D; the history is its owner's only."""
    controller, terminal = pty.openpty()
    cache = tmp_path / "cache"
    environment = {**os.environ, "TERM": "xterm", "LITSCOPE_CACHE": str(cache), "PROMPT_TOOLKIT_NO_CPR": "1"}
    line = [sys.executable, "-m", "litscope", "console", str(run.path)]
    controlled = [sys.executable, "-c", _WITH_TERMINAL, *line]
    process = subprocess.Popen(
        controlled, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    )
    os.close(terminal)
    seen = ""

    def until(text: str) -> None:
        nonlocal seen
        ends_at = time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < ends_at, seen
            if select.select([controller], [], [], 0.5)[0]:
                seen += os.read(controller, 65536).decode("utf-8", "replace")
        seen = seen.partition(text)[2]

    def type_in(keys: str) -> None:
        os.write(controller, keys.encode())

    try:
        until("one>")
        type_in("cou\t")
        until("nt")  # only what is new is drawn
        type_in(" split = train\r")
        until("12\r\n")
        until("one>")
        type_in("discard 3")
        type_in("\x03")
        until("one>")
        type_in("sql select count(*) from range(100000000) a, range(100000) b\r")
        until("range(100000) b")
        time.sleep(2)
        began = time.monotonic()
        type_in("\x03")
        until("interrupted")
        assert time.monotonic() - began < 10, "long before the limit of a query"
        until("one>")
        type_in("count nonsense\r")
        until("error: 'nonsense' is no column")
        until("one>")
        type_in("\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    assert not run.actions.exists()
    history = cache / "console_history"
    assert history.stat().st_mode & 0o077 == 0
    assert "+count split = train" in history.read_text()


def test_a_terminal_for_it_is_opened_where_there_is_one(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import litscope.watch as wl

    wl.serve(serving_cli=True)
    wl.clear_all()
    assert f"in another terminal: litscope console {in_tmp}/runs" in capsys.readouterr().err
    opened = in_tmp / "opened"
    (in_tmp / "bin").mkdir()
    (in_tmp / "bin" / "tmux").write_text(f'#!/bin/sh\necho "$@" > {opened}\n')
    (in_tmp / "bin" / "tmux").chmod(0o755)
    monkeypatch.setenv("PATH", f"{in_tmp}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("TMUX", "/tmp/a socket,1,0")
    monkeypatch.setenv("LITSCOPE_STUDIO", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert open_console(in_tmp / "my runs")
    assert opened.read_text().startswith("split-window -d ")
    assert f"console '{in_tmp}/my runs'" in opened.read_text()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert not open_console(in_tmp)
