"""Tables on a real terminal of 80 columns, and in a pipe: nothing is broken in mid-word, and nothing is lost unsaid."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from acted_runs import make_run
from asked_runs import act, asked_run
from rich.cells import cell_len

from litscope import doctor
from litscope.cli import main
from litscope.commands.line import show, write_lines
from litscope.console import table_lines
from litscope.evaluation.predict import Predictions
from litscope.experiments.cv_result import CvResult
from litscope.experiments.trials import Trial, TuneResult
from litscope.rundir import RunDir, append_line
from litscope.training.loop.progress import Progress

WIDTH = 80
STEM = "2026-11-30_camera-north_field-17_"
BOLD = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A real terminal of `width` columns in place of standard output, and what is shown on it."""

    def __init__(self, width: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.stdout = os.fdopen(theirs, "w", encoding="utf-8")
        self._seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self._seen += os.read(self._ours, 65536)
            except OSError:  # the other side is closed
                return

    def close(self) -> str:
        """All that was written to it."""
        self.stdout.close()
        self._reader.join()
        os.close(self._ours)
        return self._seen.decode().replace("\r\n", "\n")


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What a call shows on a terminal, in lines without their style."""
    monkeypatch.setenv("TERM", "xterm-256color")

    def watch(call: Callable[[], object], width: int = WIDTH) -> list[str]:
        terminal = Terminal(width)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", terminal.stdout)
                call()
        finally:
            shown = terminal.close()
        return BOLD.sub("", shown).splitlines()

    return watch


@pytest.fixture
def work(in_tmp: Path) -> Path:
    """A run whose keys are long, another one, and one with a journal."""
    asked_run(Path("runs/one"), stem=STEM)
    asked_run(Path("runs/two"), labels={7: 2, 0: 1}, stem=STEM)
    act(RunDir("runs/one"), "relabel", [7, 2], label=["wasp", "bee"], why="looked at it twice, with a magnifying glass")
    append_line(RunDir("runs/two").epoch_metrics, {"epoch": 4, "step": 50, "attempt": 1, "val/accuracy": 0.9})
    make_run(Path("runs/acted"))
    return in_tmp


LINES = [
    ["worst", "runs/one", "--no-sheet"],
    ["suspects", "runs/one", "--no-sheet", "--all"],
    ["scores", "runs/one"],
    ["sql", "runs/one", "select * from samples"],
    ["sql", "runs/one", "select key || key || key || key as key, 1 as n from samples"],
    ["sample", "runs/one", "7"],
    ["confusions", "runs/one", "--split", "train"],
    ["compare", "runs/one", "runs/two"],
    ["actions", "runs/one"],
    ["runs"],
    ["restore", "runs/one", "--where", "true", "--dry-run"],
]


@pytest.mark.thorough
@pytest.mark.parametrize("words", LINES, ids=lambda words: " ".join(words[:3]))
def test_no_line_is_wider_than_the_screen(
    work: Path, words: list[str], on_terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    piped = []

    def call() -> None:
        assert main(words) == 0

    lines = on_terminal(call)
    call()
    piped = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if not line.startswith(("first: ", "second: ", "actions  "))]
    assert [line for line in tables if cell_len(line) > WIDTH] == []
    known = "\n".join(piped)
    for word in " ".join(tables).replace("no room for", "").split():
        start, cut, end = word.partition("…")
        assert start.rstrip(",:") in known or word in NOTE.split(), f"{word!r} is a piece of a word"
        assert not cut or re.search(re.escape(start) + ".+" + re.escape(end), known), word


NOTE = "a wider screen has them, and so has a pipe (| less -S)"


def test_a_pipe_has_every_column_in_full(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "runs/one", "select * from samples"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert len(head.split()) > 15
    assert "…" not in "".join(rows)
    assert NOTE not in "".join(rows)


def test_columns_without_room_are_named(work: Path, on_terminal: Callable[..., list[str]]) -> None:
    lines = on_terminal(lambda: main(["scores", "runs/one"]))
    note = " ".join(lines[[line.startswith("no room for ") for line in lines].index(True) :])
    shown = lines[0].split()
    assert note.endswith(NOTE)
    left_out = note.removeprefix("no room for ").removesuffix(f": {NOTE}").split(", ")
    assert "suspicion (rank)" in [lines[0][-16:], *left_out]
    assert not set(shown) & set(left_out)
    wide = on_terminal(lambda: main(["scores", "runs/one"]), 400)
    assert wide[0].split() == " ".join([*shown, *left_out]).split()
    assert not any("no room" in line or "…" in line for line in wide)


def test_a_curve_is_whole_and_a_long_key_keeps_both_ends(work: Path, on_terminal: Callable[..., list[str]]) -> None:
    lines = on_terminal(lambda: main(["suspects", "runs/two", "--no-sheet", "-n", "1"]))
    assert lines[0].endswith("suspicion (rank)  p(label)  by epoch")
    *_, curve = lines[1].split()
    assert len(curve) == 4
    assert re.fullmatch(r"train/\S*…\S*\d\d\.png", lines[1].split()[1])


def test_a_long_curve_makes_room_for_the_keys(on_terminal: Callable[..., list[str]]) -> None:
    rows = [["digits/" + "x" * 50, "▁▁▂▂▃▃▄▄▅▅▆▆▇▇██"], ["digits/y", "█"]]
    lines = on_terminal(lambda: print("\n".join(table_lines(["key", "by epoch"], rows, curves=["by epoch"]))))
    assert lines == ["key" + " " * 56 + "by epoch", f"digits/{'x' * 50}  ▁▁▂▂▃▃▄▄▅▅▆▆▇▇██", "digits/y" + " " * 51 + "█"]
    lines = on_terminal(lambda: print("\n".join(table_lines(["key", "by epoch"], rows, curves=["by epoch"]))), 67)
    assert lines[1] == f"digits/{'x' * 50}  ▁▂▃▄▅▆▇█"


def test_the_overview_of_commands_fits_the_screen(
    on_terminal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = on_terminal(lambda: main([]))
    assert max(map(cell_len, lines)) <= WIDTH
    main([])
    assert " ".join(capsys.readouterr().out.split()) == " ".join(" ".join(lines).split())


def test_the_line_of_an_epoch_keeps_its_numbers(
    on_terminal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"epoch": 9, "train/loss": 0.5, "val/loss": 0.25, "val/accuracy": 0.75, "epoch_s": 12.5, "samples_per_s": 19}

    def tell() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", sys.stdout)
            Progress(show=True, bar=False).epoch_line(row, 60)

    numbers = "epoch 10/60  train/loss 0.5000  val/loss 0.2500  val/accuracy 0.7500"
    assert on_terminal(tell) == [f"{numbers}  12.5 s"]
    assert on_terminal(tell, 60) == [numbers], "never without its numbers"
    tell()
    assert capsys.readouterr().out == f"{numbers}  12.5 s  19 samples/s\n"
    row["samples_per_s"] = 0.2
    tell()
    assert capsys.readouterr().out.endswith("  0.2 samples/s\n"), "a slow training is not one that stands still"


FOLD = {"num_samples": 12.0, "loss": 0.51234, "accuracy": 0.5, "precision": 0.5, "recall": None, "f1": 0.5}
FOLD |= {"auroc": 0.5, "ap": 1.0}
SETTINGS = {"augment": "strong", "weight_decay": 1e-05, "label_smoothing": 0.1, "mixup": 0.2, "batch_size": 128}
TRIALS = tuple(Trial(n, {"lr": 0.001 * n, **SETTINGS}, 0.5, f"runs/tune-1/{n}", 1.0) for n in range(1, 4))
MANY = [
    CvResult("my_images", (FOLD,) * 3, FOLD, Path("runs/cv-1/predictions.parquet"), True, 12.0),
    TuneResult("my_images", "val/accuracy", "max", TRIALS, Path("runs/tune-1")),
]


@pytest.mark.parametrize("found", MANY, ids=["cv", "tune"])
def test_tables_of_many_trainings(found: Any, on_terminal: Callable[..., list[str]]) -> None:
    lines = on_terminal(lambda: show(found, False, sys.stdout))
    rows = [line for line in lines if re.match(r" *(fold|trial|\d|mean|sd|pooled)\b", line)]
    assert len(rows) >= 4
    assert max(map(cell_len, rows)) <= WIDTH
    ends = {len(row.rstrip()) for row in rows if row.split()[0].isdigit()}
    assert len(ends) == 1, "numbers end under each other"


def predicted(num_classes: int, num_samples: int) -> Predictions:
    names = [f"{STEM}{i % num_classes:03d}" * 2 for i in range(num_samples)]
    table = pa.table({"key": names, "prediction": names, "p_max": pa.array([0.5] * num_samples, pa.float32())})
    return Predictions(table, [], None)


@pytest.mark.parametrize(
    ("found", "head"),
    [(predicted(3, 3), ["key", "prediction", "probability"]), (predicted(25, 1200), ["prediction", "samples"])],
    ids=["samples", "classes"],
)
def test_predictions(found: Predictions, head: list[str], on_terminal: Callable[..., list[str]]) -> None:
    lines = on_terminal(lambda: show(found, False, sys.stdout))
    assert lines[0] == f"{found.table.num_rows:,} samples predicted"
    assert lines[1].split() == head
    assert max(map(cell_len, lines)) <= WIDTH
    ends = {len(line) for line in lines[1:] if not line.startswith("...")}
    assert len(ends) == 1, "numbers end under each other"
    more = [line for line in lines if line.startswith("...")]
    assert more == (["... and 5 more classes: --output FILE.csv has all"] if head[-1] == "samples" else [])


def test_metrics_of_an_evaluation(on_terminal: Callable[..., list[str]]) -> None:
    run = Path(__file__).resolve().parents[1] / "golden" / "run_v1"
    lines = on_terminal(lambda: main(["evaluate", str(run), "--split", "val", "--accelerator", "cpu"]), 24)
    assert lines[0].split() == ["metric", "value"]
    assert [line.split()[0] for line in lines[1:3]] == ["val/loss", "val/accuracy"]
    metrics = lines[: lines.index("")]
    assert {cell_len(line) for line in metrics} == {len("val/precision  0.1234")}
    assert max(map(cell_len, lines)) <= 24


def test_what_doctor_finds(on_terminal: Callable[..., list[str]]) -> None:
    facts = doctor.examine()
    facts["problems"] = [f"The cache {'/a' * 60} cannot be written; set LITSCOPE_CACHE or give --cache-dir."]
    whole = doctor.lines(facts)
    lines = on_terminal(lambda: write_lines(doctor.lines(facts), sys.stdout))
    tables = lines[: lines.index("problems")]
    assert max(map(cell_len, tables)) <= WIDTH
    assert [line.split()[0] for line in tables if line] == [line.split()[0] for line in whole[: len(tables)] if line]
    assert whole[-1] == facts["problems"][0]
    broken = lines[len(tables) + 1 :]
    assert broken[0] == "The cache"
    assert [word for line in broken for word in line.split()] == whole[-1].split(), "never in mid-word"


def test_numbers_stand_on_the_right(on_terminal: Callable[..., list[str]]) -> None:
    rows = [["a", 1, 0.123456, "7"], ["long", 200, None, "1,234"]]
    head = ["name", "n", "x", "size"]
    expected = ["name    n       x   size", "a       1  0.1235      7", "long  200          1,234"]
    assert table_lines(head, rows, right=["size"]) == expected
    assert on_terminal(lambda: print("\n".join(table_lines(head, rows, right=["size"])))) == expected


def test_wide_letters_are_counted_as_they_are_drawn(on_terminal: Callable[..., list[str]]) -> None:
    rows = [["猫" * 60, "cat"], ["a", "dog"]]
    lines = on_terminal(lambda: print("\n".join(table_lines(["key", "label"], rows))))
    assert WIDTH - 3 < cell_len(lines[1]) <= WIDTH
    assert re.fullmatch("猫+…猫+ +cat", lines[1])


HOSTILE = ["\x1b[31mred", "a\rb", "cat\u202egnp.exe", "x\udcff.png", "[bold]not markup[/bold]", ":smile:"]


def test_strangers_names_are_shown_and_never_obeyed(on_terminal: Callable[..., list[str]]) -> None:
    table = [[name, name] for name in HOSTILE]

    class Found:
        def lines(self) -> list[str]:
            return table_lines(["\x1b[2Jkey", "label"], table)

    lines = on_terminal(lambda: show(Found(), False, sys.stdout))
    assert lines[0].split() == ["\\x1b[2Jkey", "label"]
    assert not {"\x1b", "\r", "\u202e"} & {*"".join(lines)}
    assert lines[1].split() == ["\\x1b[31mred"] * 2
    assert lines[5].startswith("[bold]not markup[/bold]")
    assert lines[6].split() == [":smile:"] * 2


def test_a_dumb_terminal_gets_no_style(on_terminal: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal(WIDTH)
    monkeypatch.setattr(sys, "stdout", terminal.stdout)
    print("\n".join(table_lines(["key"], [["a"]])))
    monkeypatch.undo()
    assert terminal.close() == "key\na\n"


@pytest.mark.parametrize("command", ["fit", "worst", "tune", "evaluate", "discard", "set"])
def test_help_is_as_wide_as_the_screen_and_breaks_no_word(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {}
    for width in (WIDTH, 1000):
        monkeypatch.setenv("COLUMNS", str(width))
        with contextlib.suppress(SystemExit):  # argparse ends the process after its help
            main([command, "--help"])
        texts[width] = capsys.readouterr().out
    assert max(map(len, texts[WIDTH].splitlines())) <= WIDTH
    assert sorted(texts[WIDTH].split()) == sorted(texts[1000].split())


@pytest.fixture(autouse=True)
def _no_colour_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
