"""The JSON document that --json prints: of each command, when it works and when it fails, as docs/json.md has it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from acted_runs import make_run, set_process
from fake_slurm import FakeSlurm
from small_bodies import ARCH, save_sides, save_weights

import litscope
from litscope.cli import COMMANDS, main
from litscope.cluster.records import add
from litscope.commands.envelope import Envelope
from litscope.ledger.encode import json_rows
from litscope.rundir import RunDir

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text()
KEYS = ["litscope", "command", "run", "warnings", "error", "result"]

IRIS = ["iris", "--arch", "mlp", "--accelerator", "cpu", "--logger", "none", "--no-progress"]
SHORT = [*IRIS, "--epochs", "1"]
ONE, ACTED, ALIVE, OF_IMAGES = "runs/one", "runs/acted", "runs/alive", "runs/images"

CASES: dict[str, list[str]] = {
    "fit": [*IRIS, "--epochs", "2", "--run-dir", "runs/fit"],
    "check": IRIS,
    "calibrate": [ONE, "--coverage", "0.8"],
    "evaluate": [ONE, "--split", "val"],
    "predict": [ONE, "--split", "val"],
    "tune": [*SHORT, "--trials", "2"],
    "cv": [*SHORT, "--folds", "2"],
    "ensemble": [ONE, "runs/other", "--accelerator", "cpu"],
    "lr-find": [*IRIS, "--num-sweeps", "1", "--num-steps", "20"],
    "batch-size-find": [*IRIS, "--most", "8"],
    "models": ["resnet18"],
    "bench": ["prune", *IRIS, "--epochs", "3", "--seeds", "2"],
    "launch": ["slurm", "--dry-run", "--", "fit", "iris"],
    "jobs": [],
    "logs": [ACTED],
    "cancel": [ACTED],
    "studio": ["runs", "--port", "0", "--idle-timeout", "0.2"],
    "report": [ONE],
    "console": ["runs"],
    "runs": [],
    "rename": ["acted", "renamed"],
    "delete": ["acted", "--yes"],
    "worst": [ONE, "-n", "3"],
    "suspects": [ONE, "-n", "3"],
    "scores": [ONE, "-n", "3"],
    "sample": [ONE, "7"],
    "confusions": [ONE, "--split", "train"],
    "sql": [ONE, "select split, count(*) as n from samples group by split order by split"],
    "compare": [ONE, "runs/other"],
    "export": [ONE, "--to", "csv", "-o", "curated.csv"],
    "features": ["few", "-o", "few.csv", "--arch", ARCH, "--weights", "seven.pt", "--accelerator", "cpu"],
    "neighbours": [OF_IMAGES, "left/03.png", "-n", "2"],
    "prepare": ["few", "--output-dir", "again"],
    "index": ["shards", "-o", "indexed"],
    "verify": ["shards"],
    "discard": [ACTED, "--id", "1"],
    "restore": [ACTED, "--id", "1"],
    "relabel": [ACTED, "--id", "1", "--to", "owl"],
    "reweight": [ACTED, "--id", "1", "--weight", "0.5"],
    "tag": [ACTED, "odd", "--id", "1"],
    "untag": [ACTED, "odd", "--id", "1"],
    "pause": [ALIVE, "--wait", "0"],
    "resume": [ALIVE, "--wait", "0"],
    "set": [ALIVE, "lr=0.1", "--wait", "0"],
    "checkpoint": [ALIVE, "--wait", "0"],
    "stop": [ALIVE, "--wait", "0"],
    "undo": [ACTED],
    "actions": [ACTED],
    "replay": [ONE],
    "whatif": [ONE, "--discard", "sample_id < 5", "--epochs", "1", "--seeds", "2"],
    "doctor": [],
    "demo": [],
    "completion": ["bash"],
}
"""Every command with words that make it work, on the runs of `work`."""

TRAIN_LONG = {"tune", "cv", "bench", "replay", "whatif", "demo", "lr-find"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real runs on iris, one made by hand with a tag in its journal, and one that a process trains now."""
    folder = tmp_path_factory.mktemp("work")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, seed in (("one", "1"), ("other", "2")):
            seeds = ["--seed", seed, "--split-seed", "0"]
            assert main(["fit", *IRIS, "--epochs", "2", *seeds, "--run-dir", f"runs/{name}"]) == 0
        make_run(Path(ACTED))
        assert main(["tag", ACTED, "odd", "--id", "1"]) == 0
        add(RunDir(ACTED), "4711", None, None)
        RunDir(ACTED).job_logs.mkdir()
        (RunDir(ACTED).job_logs / "4711.out").write_text("epoch 1\n")
        set_process(make_run(Path(ALIVE)), pid=os.getpid())
        save_weights(save_sides(Path("few"), each=5).with_name("seven.pt"))
        by = ["--arch", ARCH, "--weights", "seven.pt", "--finetune", "head", "--accelerator", "cpu", "--logger", "none"]
        assert main(["fit", "few", *by, "--epochs", "1", "--run-dir", OF_IMAGES]) == 0
        assert main(["prepare", "few", "--output-dir", "shards"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def work(runs: Path, in_tmp: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runs, in the working directory, and a Slurm in which the job of one has ended."""
    FakeSlurm(tmp_path_factory.mktemp("fake") / "bin", monkeypatch).say(
        "squeue", "4711||COMPLETED|None|2026-11-30T14:00:00|n1\n"
    )
    for name in ("runs", "few", "shards"):
        shutil.copytree(runs / name, in_tmp / name)
    shutil.copy(runs / "seven.pt", in_tmp)
    return in_tmp


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The one document that a command prints with --json, after a look at its keys. Its input is a line of a script."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("count split = train\n"))

    def call(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        end = words.index("--") if "--" in words else len(words)
        assert main([*words[:end], "--json", *words[end:]]) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert list(found) == KEYS
        assert found["litscope"] == litscope.__version__
        assert found["command"] == words[0]
        return found

    return call


def documented(command: str) -> Any:
    """The `result` that the page shows for a command."""
    section = re.search(rf"^### (?:[\w-]+, )*{command}(?:, [\w-]+)*\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/json.md has no section about {command}"
    example = re.search(r"^```json\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert example is not None, f"docs/json.md shows no result of {command}"
    return json.loads(example[1])


def differences(shown: Any, real: Any, path: str = "result") -> list[str]:
    """Where an example has other keys than the result. Its key `...` stands for any others."""
    if isinstance(shown, dict) and isinstance(real, dict):
        named = {key for key in shown if key != "..."}
        found = [f"{path}.{key} is shown, and is not there" for key in sorted(named - set(real))]
        if "..." not in shown:
            found += [f"{path}.{key} is there, and is not shown" for key in sorted(set(real) - named)]
        return found + [
            line for key in named & set(real) for line in differences(shown[key], real[key], f"{path}.{key}")
        ]
    if isinstance(shown, list) and isinstance(real, list):
        return differences(shown[0], real[0], f"{path}[0]") if shown and real else []
    if shown is None or real is None:
        return []
    is_same = isinstance(shown, dict | list) == isinstance(real, dict | list) and isinstance(shown, str) == isinstance(
        real, str
    )
    return [] if is_same else [f"{path} is shown as {shown!r}, and is {real!r}"]


def test_the_page_shows_the_keys() -> None:
    shown = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[:2]]
    assert [list(document) for document in shown] == [KEYS, KEYS]


def test_every_command_has_a_case() -> None:
    assert set(CASES) == set(COMMANDS), (
        "a new command: give words that make it work, and show its result in docs/json.md"
    )


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=pytest.mark.slow) if name in TRAIN_LONG else name for name in CASES]
)
def test_the_document_is_as_the_page_shows_it(
    work: Path, document: Callable[..., dict[str, Any]], command: str
) -> None:
    found = document(command, *CASES[command])
    assert found["error"] is None
    assert not differences(documented(command), found["result"])
    named = [word for word in CASES[command][:1] if word.startswith("runs/")]
    about = {
        "fit": ["runs/fit"],
        "ensemble": ["runs/ensemble-1"],
        "rename": ["runs/renamed"],
        "demo": ["runs/demo"],
        "compare": [None],
    }.get(command, named)
    assert found["run"] == (about or [None])[0]


def test_what_the_page_says_is_looked_at() -> None:
    shown = {"a": 1, "b": [{"c": None}], "d": {"x": 1, "...": 0}}
    assert not differences(shown, {"a": 2, "b": [{"c": "text"}], "d": {"x": 3, "y": 4}})
    assert set(differences(shown, {"a": "2", "b": [{}], "d": {"y": 4}, "e": 0})) == {
        "result.a is shown as 1, and is '2'",
        "result.b[0].c is shown, and is not there",
        "result.d.x is shown, and is not there",
        "result.e is there, and is not shown",
    }


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["worst", "nowhere"], "RunError", "nowhere does not exist"),
        (["fti"], "ConfigError", "'fti' is not a command"),
        (["fit", "digits", "--lr", "x"], "ConfigError", "--lr: 'x' is not a number"),
        (["sql", ACTED], "ConfigError", "required: SELECT"),
        (["fit", "nowhere"], "DataError", "'nowhere' is neither a file or folder nor a known data set"),
        (["predict", ACTED, "nowhere.png"], "RunError", "has no best checkpoint"),
    ],
)
def test_an_error_is_a_document_too(
    work: Path,
    capsys: pytest.CaptureFixture[str],
    document: Callable[..., dict[str, Any]],
    words: list[str],
    kind: str,
    message: str,
) -> None:
    found = document(*words, code=2)
    assert found["result"] is None
    error = found["error"]
    assert (error["type"], error["exit_code"]) == (kind, 2)
    assert message in error["message"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "", "without --json standard output is for results"
    assert message in err


def test_words_behind_a_double_hyphen_are_no_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worst", "nowhere", "--", "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_warnings_are_in_the_document(work: Path, document: Callable[..., dict[str, Any]]) -> None:
    found = document("discard", ACTED, "--id", "31", "--dry-run")
    assert ["metrics before and after" in warning for warning in found["warnings"]] == [True]
    assert document("discard", ACTED, "--id", "1", "--dry-run")["warnings"] == []
    assert found["result"]["samples"][0]["sample_id"] == 31


def test_a_configuration_is_a_document(document: Callable[..., dict[str, Any]]) -> None:
    found = document("fit", "digits", "--lr", "0.5", "--print-config")
    assert found["result"]["training"]["lr"] == 0.5
    assert found["result"]["data"]["dataset"] == "digits"


def test_a_question_that_is_answered_no_deletes_nothing(
    work: Path, document: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pty

    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert document("delete", "acted", code=2)["result"] == []
    os.close(ours)
    assert Path(ACTED).is_dir()


def test_a_table_is_written_row_by_row() -> None:
    """A million rows as Python objects would be gigabytes: what is alive at a time is a block of them."""
    pieces: list[str] = []

    class Out:
        def writelines(self, texts: Any) -> None:
            for text in texts:
                pieces.append(text)
                alive.append(len(text))

        def write(self, text: str) -> None:
            pieces.append(text)

    alive: list[int] = []
    table = pa.table({"i": range(100_000), "x": [float("nan")] * 100_000})
    Envelope("sql", True, ()).show(json_rows(table), Out(), "runs/a")  # type: ignore[arg-type]
    text = "".join(pieces)
    assert max(alive) < len(text) / 10
    found = json.loads(text)
    assert found["result"][99_999] == {"i": 99_999, "x": None}
    assert len(text.splitlines()) > 100_000, "a line for each row, for grep and head"


def test_a_full_disk_behind_the_pipe_is_no_traceback(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "litscope", "worst", "nowhere", "--json"]
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: nowhere does not exist."]
