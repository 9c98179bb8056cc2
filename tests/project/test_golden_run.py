r"""A run folder that an earlier version wrote opens as it did: every command that reads a run, on a copy of it.

`golden/run_v1` is the work of litscope 0.1.0 before the rooms of the package were moved, without its figures:

    litscope fit iris --epochs 1 --name run_v1 --test-split 0.2 --seed 1 --accelerator cpu --optimizer sgd \
        --momentum 0 --lr 0.02 --precision 32 --num-threads 1 --scheduler-type constant --monitor val/accuracy
    litscope tag run_v1 odd --id 77
    litscope discard run_v1 --id 56 --note "two flowers in one picture"
    litscope relabel run_v1 --to virginica --id 50
    litscope fit --resume run_v1 --epochs 2
    litscope tag run_v1 look-again --id 84

Its checkpoints are called epoch00-... (epochs were counted from 0), and there is no best.ckpt.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest
from places import GOLDEN

from litscope.cli import main
from litscope.data.manifest import Manifest
from litscope.ledger.journal.actions import decisions
from litscope.ledger.reader import LedgerReader
from litscope.rundir import RunDir, read_lines

RUN = "runs/run_v1"
TEST_ACCURACY, TEST_LOSS = 0.8333333134651184, 0.8865432739257812
"""Of its summary, on the test split, with the best weights."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A copy, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN / "run_v1", tmp_path / RUN)
    return RunDir.open(RUN)


@pytest.fixture
def call(run: RunDir, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command that succeeds; its standard output, as JSON where that was asked for."""

    def do(*words: object) -> Any:
        assert main([str(word) for word in words]) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        return json.loads(out)["result"] if "--json" in words else out

    return do


def test_the_ledger_and_the_journal(run: RunDir) -> None:
    table = LedgerReader(run).table()
    train = LedgerReader(run).table(["sample_id", "epoch"], split="train", phase="train").to_pydict()
    assert len(table) == 299
    assert [train["epoch"].count(epoch) for epoch in (0, 1)] == [105, 104], "one was discarded before the second epoch"
    found = decisions(run)
    assert set(found.discarded) == {56}
    assert found.labels == {50: "virginica"}
    assert len(Manifest.read(run.manifest)) == 150


def test_worst(call: Any) -> None:
    rows = call("worst", RUN, "-n", 3, "--last-epochs", 2, "--no-sheet", "--json")
    told = json.loads((RunDir(RUN).summary).read_text())["hardest"]
    assert [row["sample_id"] for row in rows["samples"]] == [row["sample_id"] for row in told[:3]]
    assert call("worst", RUN, "-n", 3).count("iris/") == 3


def test_suspects_and_scores(call: Any) -> None:
    ranked = call("suspects", RUN, "--json")["suspects"]
    assert {50, 56}.isdisjoint(row["sample_id"] for row in ranked), "decided on"
    assert {row["key"] for row in ranked} <= {f"iris/{i:05d}" for i in range(150)}
    assert len(call("scores", RUN, "--json", "--split", "train")) == 105
    assert call("suspects", RUN, "-n", 2, "--no-sheet").splitlines()[0].startswith("rank")


def test_sample(call: Any) -> None:
    found = call("sample", RUN, "iris/00050", "--json")
    assert (found["label_name"], found["current_name"], found["split"]) == ("versicolor", "virginica", "train")
    assert [(visit["epoch"], visit["label"]) for visit in found["visits"]] == [(0, 1), (1, 2)]
    assert [(action["what"], action["status"]) for action in found["actions"]] == [("relabel", "applied")]
    assert call("sample", RUN, 77).startswith("sample_id")


def test_sql_and_confusions(call: Any) -> None:
    rows = call("sql", RUN, 'select epoch, "val/accuracy" as accuracy from metrics order by epoch', "--json")
    assert rows == [{"epoch": 0, "accuracy": 1.0}, {"epoch": 1, "accuracy": 1.0}]
    assert call("sql", RUN, "select count(*) as n from signals", "--json") == [{"n": 299}]
    assert isinstance(call("confusions", RUN, "--split", "train", "--json"), list)


def test_actions(call: Any) -> None:
    listed = call("actions", RUN, "--json")
    assert [(entry["action"]["what"], entry["status"]) for entry in listed] == [
        ("tag", "applied"),
        ("discard", "applied"),
        ("relabel", "applied"),
        ("tag", "pending"),
    ]
    assert "applied, step 7" in call("actions", RUN)


def test_compare(call: Any) -> None:
    found = call("compare", RUN, RUN, "--json")
    assert all(row["difference"] == 0 for row in found["metrics"].values())


@pytest.mark.parametrize("form", ["csv", "json", "cleanlab", "actions"])
def test_export(call: Any, tmp_path: Path, form: str) -> None:
    output = tmp_path / f"out.{'csv' if form == 'csv' else 'jsonl' if form == 'actions' else 'json'}"
    call("export", RUN, "--to", form, "--output", output)
    text = "".join(path.read_text() for path in ([output] if output.is_file() else sorted(output.glob("*.json*"))))
    assert text
    if form == "csv":
        labels = pyarrow.csv.read_csv(output)["label"].to_pylist()
        assert [labels.count(name) for name in ("setosa", "versicolor", "virginica")] == [50, 48, 51], "56 and 50"


@pytest.mark.parametrize("which", ["best", "last", "epoch00-val_accuracy1.0000.ckpt"])
def test_evaluate(call: Any, which: str) -> None:
    where = f"{RUN}/checkpoints/{which}" if which.endswith(".ckpt") else which
    found = call("evaluate", RUN, "--checkpoint", where, "--accelerator", "cpu", "--json")
    assert found["num_samples"] == 30
    assert found["metrics"]["test/accuracy"] == pytest.approx(TEST_ACCURACY, abs=1e-4)
    is_best = found["metrics"]["test/loss"] == pytest.approx(TEST_LOSS, abs=1e-4)
    assert is_best == (which != "last")
    assert Path(found["checkpoint"]).name == ("last.ckpt" if which == "last" else "epoch00-val_accuracy1.0000.ckpt")


def test_predict(call: Any, tmp_path: Path) -> None:
    call("predict", RUN, "--split", "test", "--accelerator", "cpu", "--output", tmp_path / "out.csv")
    rows = pyarrow.csv.read_csv(tmp_path / "out.csv").to_pylist()
    assert sum(row["prediction"] == row["label"] for row in rows) == round(30 * TEST_ACCURACY)


@pytest.mark.thorough
@pytest.mark.parametrize("which", [RUN, "best"])
def test_it_goes_on(call: Any, run: RunDir, which: str) -> None:
    """From the last checkpoint, or the best, which an old name tells; then names count from 1."""
    folder = [] if which == RUN else ["--run-dir", RUN]
    call("fit", "--resume", which, *folder, "--epochs", 3, "--accelerator", "cpu")
    summary = json.loads(run.summary.read_text())
    assert (summary["status"], summary["epochs"]) == ("finished", 3)
    assert [line["attempt"] for line in read_lines(run.attempts)] == [1, 2, 3]
    assert read_lines(run.attempts)[-1]["start_step"] == (14 if which == RUN else 7)
    assert [row["status"] for row in call("actions", RUN, "--json")][:4] == ["applied"] * 4
    best = Path(summary["checkpoints"]["best"])
    assert run.best_checkpoint.read_bytes() == best.read_bytes()


def test_replay(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    """The same steps with the same actions. The weights are equal bit for bit where torch and the processor are."""
    code = main(["replay", RUN, "--json"])
    found = json.loads(capsys.readouterr().out)["result"]
    assert code in (0, 1)
    assert found["num_actions"] == 3
    assert RunDir("runs/run_v1-replay").is_run()
