"""Names of strangers on their way to a terminal: shown, never obeyed."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from forked import run_cli
from PIL import Image

from litscope import console
from litscope.cli import main
from litscope.commands.line import show, show_json, write
from litscope.commands.text import table
from litscope.config.recipe import LoggingConfig
from litscope.console import number_of, one_line, printable, say, shell_word, table_lines, track, warn
from litscope.errors import ConfigError, DataError
from litscope.runs import claim_folder
from litscope.training.loop.progress import Progress

HOSTILE = {
    "\x1b[31mred": "\\x1b[31mred",
    "\x9b31m": "\\x9b31m",
    "a\rb": "a\\rb",
    "a\nerror: b": "a\\nerror: b",
    "\x07\x00\x7f": "\\x07\\x00\\x7f",
    "cat\u202egnp.exe": "cat\\u202egnp.exe",
    "\u2066a\u2069": "\\u2066a\\u2069",
    "a\u2028b": "a\\u2028b",
    "x\udcff.png": "x\\udcff.png",
    "\t": "\\t",
}
"""A name -> how it is shown."""

HARMLESS = ("Käfer", "猫", "שלום", "🐈", "a b", "[red]", "\\n", "=cmd|calc")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_one_line_that_does_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = HOSTILE[name]
    assert one_line(name) == shown
    say(f"class {name}")
    warn(name)
    Progress(show=True, bar=False).say(name)
    assert capsys.readouterr().err == f"class {shown}\nwarning: {shown}\n{shown}\n"
    assert table_lines(["name"], [[name]])[1] == shown
    assert table([{"name": name}, {"name": [name]}], {"name": "name"})[1:] == [shown, shown]


@pytest.mark.parametrize("name", HARMLESS)
def test_other_names_are_as_they_are(name: str) -> None:
    assert one_line(name) == printable(name) == name


class Found:
    def lines(self) -> list[str]:
        return list(HOSTILE)


def test_a_result_keeps_its_own_lines_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    show(Found(), False, sys.stdout)
    assert capsys.readouterr().out.splitlines() == list(HOSTILE.values())
    write("a\nb\x1b\n")
    assert capsys.readouterr().out == "a\nb\\x1b\n"


def test_json_says_the_same_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    show_json(list(HOSTILE), sys.stdout)
    text = capsys.readouterr().out
    assert text == printable(text)
    assert json.loads(text)["result"] == list(HOSTILE)


def test_an_error_of_several_lines_cannot_look_like_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_words: list[str]) -> int:
        raise DataError("no class a\x1b[2J\nerror: nothing\n  indented")

    monkeypatch.setattr("litscope.cli._run", fail)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: no class a\\x1b[2J\n  error: nothing\n  indented\n"


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_run_has_no_such_name(name: str, in_tmp: Path) -> None:
    with pytest.raises(ConfigError, match="it holds control characters"):
        LoggingConfig(name=name).check()
    made = claim_folder(name).name
    assert one_line(made) == made


def test_classes_and_files_of_such_names(tmp_path: Path) -> None:
    for kind in ("ca\x1b[31mt", "do\ng"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (60 * i, len(kind), 0)).save(tmp_path / "data" / kind / f"{i}\x9b.png")
        (tmp_path / "data" / kind / "bad\r.png").write_bytes(b"no picture")
    done = run_cli("check", "data", "--arch", "convnet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ca\\x1b[31mt" in done.stdout
    assert "do\\ng" in done.stdout
    assert "bad\\r.png" in done.stdout + done.stderr
    assert not {"\x1b", "\x9b", "\r"} & {*done.stdout, *done.stderr}


@pytest.mark.parametrize("name", ["runs/mine", "runs/my run", "runs/it's", "runs/$HOME", "runs/a;b", "runs/ü"])
def test_a_path_in_a_command_is_one_word_to_a_shell(name: str) -> None:
    assert shlex.split(shell_word(name)) == [name]


def test_a_path_in_a_command_is_no_flag() -> None:
    assert shell_word("-rf") == "./-rf"
    assert shell_word("runs/mine") == "runs/mine"  # nothing is quoted that needs no quotes


def test_one_is_not_many() -> None:
    assert (number_of(1, "epoch"), number_of(0, "epoch"), number_of(1200, "step")) == (
        "1 epoch",
        "0 epochs",
        "1,200 steps",
    )


def test_a_log_says_now_and_then_how_far_long_work_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside a terminal nothing was said of images that were decoded for minutes before the first step."""
    monkeypatch.setattr(console, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(console, "LINE_S", 0.0)
    assert list(track("abcd", "decoding images once", 4)) == list("abcd")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"decoding images once: {k}%" for k in (25, 50, 75)]
    assert all(line.endswith(" s more") for line in lines)
    assert list(track("abcd", "decoding images once", 4, show=False)) == list("abcd")
    monkeypatch.setattr(console, "FIRST_LINE_S", 60.0)
    assert list(track("abcd", "decoding images once", 4)) == list("abcd")
    assert capsys.readouterr().err == ""
