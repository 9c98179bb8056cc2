"""`litscope.open_run`: a run as an object, on a folder made by hand and on a real run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acted_runs import NUM, last_action, make_run, set_process
from small_runs import IRIS, small_fit

import litscope
from litscope.cli import main
from litscope.ledger.journal.actions import Journal, answer
from litscope.opened import Run, open_run


@pytest.fixture
def run(in_tmp: Path) -> Run:
    make_run(Path("runs/a"))
    return open_run("a")


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(small_fit(tmp_path_factory.mktemp("iris") / "run", IRIS, test_split=0.2).run.path)


def test_a_run_is_opened_by_folder_by_name_or_as_the_newest(in_tmp: Path) -> None:
    make_run(Path("runs/a"))
    os.utime(Path("runs/a/attempts.jsonl"), (1, 1))
    make_run(Path("runs/b"))
    assert [open_run(name).path for name in ("runs/a", "a", None)] == [Path(f"runs/{n}") for n in "aab"]
    with pytest.raises(litscope.UserError, match="runs/aa"):
        open_run("runs/aa")


def test_a_finished_run_tells_what_its_commands_tell(iris: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert iris.classes == ["setosa", "versicolor", "virginica"]
    assert iris.metrics["val/accuracy"] == iris.summary["metrics"]["best"]["val/accuracy"]
    loss, tested = (f"{iris.metrics[name]:.4g}" for name in ("val/loss", "test/loss"))
    assert repr(iris) == f"Run('{iris.path}': finished, val/loss {loss}, test/loss {tested})"
    worst = iris.worst(5)
    assert main(["worst", str(iris.path), "-n", "5", "--no-sheet"]) == 0
    printed = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in printed] == worst["key"].to_pylist()
    assert iris.suspects(3).num_rows == 3
    assert iris.scores().num_rows == 150 > iris.scores("val").num_rows > 0
    assert set(iris.scores("val")["split"].to_pylist()) == {"val"}
    assert iris.sql("select count(*) as n from manifest").to_pylist() == [{"n": 150}]
    first = iris.sample(0)
    assert first == iris.sample(first["key"])


def test_its_predictions_are_those_that_sklearn_would_score(iris: Run) -> None:
    found = iris.predict(split="test")
    measured = iris.evaluate("test")
    right = np.mean([a == b for a, b in zip(*(found[c].to_pylist() for c in ("label", "prediction")), strict=True)])
    assert measured["metrics"]["test/accuracy"] == pytest.approx(right)


def test_the_curated_set_is_exported(iris: Run, tmp_path: Path) -> None:
    found = iris.export("csv", tmp_path / "iris.csv")
    assert found.path == tmp_path / "iris.csv"
    assert len((tmp_path / "iris.csv").read_text().splitlines()) == 151


ACTS: list[tuple[str, list[Any], dict[str, Any], list[str]]] = [
    ("discard", ["sample_id < 3"], {}, ["discard", "a", "--where", "sample_id < 3"]),
    ("discard", [], {"keys": "img/002.png"}, ["discard", "a", "--key", "img/002.png"]),
    ("discard", [], {"ids": 4}, ["discard", "a", "--id", "4"]),
    ("restore", [], {"ids": [1, 2]}, ["restore", "a", "--id", "1", "2"]),
    ("relabel", ["owl"], {"ids": [0]}, ["relabel", "a", "--to", "owl", "--id", "0"]),
    ("relabel", ["believed"], {"ids": [0, 1]}, ["relabel", "a", "--to", "believed", "--id", "0", "1"]),
    ("reweight", [0.5, "split = 'val'"], {}, ["reweight", "a", "--weight", "0.5", "--where", "split = 'val'"]),
    ("tag", ["odd"], {"ids": [5]}, ["tag", "a", "odd", "--id", "5"]),
    ("set", [], {"lr": 0.01}, ["set", "a", "lr=0.01"]),
]


@pytest.mark.parametrize(("method", "words", "named", "line"), ACTS)
def test_an_act_writes_what_the_command_writes(
    run: Run, method: str, words: list[Any], named: dict[str, Any], line: list[str]
) -> None:
    asked = getattr(run, method)(*words, **named, note="why")
    assert asked.status == "pending"
    by_hand = last_action(run.files)
    assert by_hand == asked.action
    assert main([*line, "--note", "why"]) == 0
    typed = last_action(run.files)
    assert typed["id"] != by_hand["id"]
    of_each = {"id", "when"}
    assert {k: v for k, v in typed.items() if k not in of_each} == {
        k: v for k, v in by_hand.items() if k not in of_each
    }


def test_an_act_is_undone_and_a_tag_taken_away(run: Run) -> None:
    tagged = run.tag("odd", ids=[5])
    run.untag("odd", ids=[5])
    run.discard(ids=[7])
    assert run.undo().action["action"] == run.actions()[2]["action"]["id"]
    run.undo(tagged.action["id"])
    assert [entry["status"] for entry in run.actions()] == ["undone", "pending", "undone", "pending", "pending"]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda run: run.discard(), "Say which samples"),
        (lambda run: run.discard(ids=[NUM]), "samples 0 to 39"),
        (lambda run: run.discard(keys=["img/099.png"]), "no sample 'img/099.png'"),
        (lambda run: run.discard("split = 'train'"), "would leave none to train on"),
        (lambda run: run.relabel("cow", ids=[1]), "no such class"),
        (lambda run: run.untag("odd", ids=[1]), "no samples tagged 'odd'"),
        (lambda run: run.undo(), "no action in"),
        (lambda run: run.pause(), "is not training"),
        (lambda run: run.checkpoint(), "is not training"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(run: Run, act: Any, words: str) -> None:
    with pytest.raises(litscope.UserError, match=words):
        act(run)
    assert run.actions() == []


def test_a_trainer_answers(run: Run) -> None:
    set_process(run.files, pid=os.getpid())

    def follow() -> None:
        journal, end = Journal(run.files), threading.Event()
        while not end.wait(0.02):
            for line in journal.poll():
                if "what" in line:
                    answer(run.files, line["id"], "refused", step=1, epoch=0, attempt=1, reason="too late")
                    end.set()

    trainer = threading.Thread(target=follow)
    trainer.start()
    asked = run.pause()
    trainer.join()
    assert asked.status == "refused"
    assert "too late" in repr(asked)


@pytest.mark.slow
def test_asking_a_run_needs_no_torch(run: Run) -> None:
    code = (
        "import sys, litscope\nrun = litscope.open_run('a')\nrun.sql('select 1'); run.worst(3); run.discard(ids=[1])\n"
        "run.scores(); repr(run)\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
