"""What a decision would do: two arms from one checkpoint, on the same seeds and the same validation samples."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import At, send, small_fit, when_there

from litscope.cli import main
from litscope.data.manifest import Manifest
from litscope.errors import Interrupted, RunError
from litscope.experiments.whatif import ask, whatif
from litscope.experiments.whatif_result import Question, WhatIf, t_interval
from litscope.ledger.journal.actions import Entry, entries, request, submit
from litscope.live import steering
from litscope.rundir import RunDir, read_lines

pytestmark = pytest.mark.slow  # each test trains several times

HARM: dict[str, Any] = {"limit_train_batches": 25, "limit_val_batches": None, "monitor": "val/accuracy"}


@pytest.fixture(autouse=True)
def _looks_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "POLL_S", 0.0)


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Digits of which nearly half the training labels were shifted by one; those are tagged `bad`."""
    run = RunDir(tmp_path_factory.mktemp("whatif") / "harmed")

    def harm() -> None:
        manifest = Manifest.read(run.manifest)
        bad = manifest.ids("train")
        bad = bad[bad % 9 < 4]
        submit(run, request("relabel", sample_id=bad, label=[str((k + 1) % 10) for k in manifest.labels[bad]]))
        submit(run, request("tag", sample_id=bad, tag="bad"))

    small_fit(run.path, **HARM, epochs=4, callbacks=[At(1, harm)])
    return run


@pytest.fixture
def run(harmed: RunDir, in_tmp: Path) -> RunDir:
    """A copy, in an empty working directory."""
    shutil.copytree(harmed.path, "runs/harmed")
    return RunDir("runs/harmed")


def about_samples(run: RunDir) -> list[Entry]:
    return [entry for entry in entries(run) if "sample_id" in entry.action]


BAD = "list_contains(tags, 'bad')"


def test_leaving_out_what_was_planted_wrong_improves(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in run.path.iterdir())
    assert main(["whatif", "harmed", "--discard", BAD, "--epochs", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)["result"]
    num = len(read_lines(run.actions)[0]["sample_id"])
    assert found["num_samples"] == num
    assert found["verdict"].startswith(f"Discarding these {num} samples changes val/accuracy by +")
    assert found["is_clear"]
    assert found["difference"]["interval"][0] > 0
    assert found["seeds"] == [42, 43, 44]
    assert len(set(found["as_is"]["values"])) > 1, "seeds matter"
    assert "2 x 3 trainings of 2 epochs, from the end of epoch 4" in err
    assert sorted(path.name for path in run.path.iterdir()) == sorted([*before, "whatif"])
    assert [path.name for path in run.whatif.iterdir()] == ["001.json"]
    assert json.loads((run.whatif / "001.json").read_text()) == found


def test_the_same_question_has_the_same_answer(run: RunDir) -> None:
    one, two = (whatif(run, discard=BAD, epochs=1, seeds=2, keep=True) for _ in range(2))
    assert (one.as_is, one.changed) == (two.as_is, two.changed)
    assert (one.report, two.report) == (str(run.whatif / "001.json"), str(run.whatif / "002.json"))
    arms = sorted(path.name for path in (run.whatif / "001").iterdir() if path.is_dir())
    assert arms == ["seed42-as-is", "seed42-changed", "seed43-as-is", "seed43-changed"]
    changed, as_is = (RunDir(run.whatif / "001" / f"seed43-{arm}") for arm in ("changed", "as-is"))
    assert [(e.action["what"], e.status) for e in about_samples(changed)] == [
        ("relabel", "applied"),
        ("tag", "applied"),
        ("discard", "applied"),
    ]
    assert [entry.action["what"] for entry in about_samples(as_is)] == ["relabel", "tag"]
    tables = [Manifest.read(r.manifest).table.select(["key", "label", "split"]) for r in (run, changed, as_is)]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2]), "the splits are those of the run, whatever the seed"


def test_nothing_can_be_seen_where_nothing_differs(run: RunDir) -> None:
    found = whatif(
        run, discard="sample_id = (select min(sample_id) from samples where split = 'train')", seeds=2, epochs=1
    )
    assert not found.is_clear
    assert found.verdict().startswith("No difference can be seen with 2 seeds: discarding this sample changes")
    assert found.question.num_samples == 1


def test_held_out_samples_stay_and_the_checkpoint_may_be_another(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    found = whatif(run, discard="sample_id < 300", epochs=1, seeds=2, metric="val/loss", checkpoint="best")
    assert found.first_epoch == json.loads(run.summary.read_text())["best_epoch"] + 1
    assert Path(found.checkpoint).name.startswith("epoch")
    splits = Manifest.read(run.manifest).splits[:300]
    assert found.question.num_samples == (splits == "train").sum()
    assert found.question.num_held_out == (splits == "val").sum() > 0
    assert f"{found.question.num_held_out} samples outside the training split stay" in capsys.readouterr().err
    assert found.num_val == (Manifest.read(run.manifest).splits == "val").sum()
    assert "points" not in found.verdict()


def test_what_waits_in_the_journal_can_be_tried(run: RunDir) -> None:
    truth = Manifest.read(run.manifest)
    bad = np.array(read_lines(run.actions)[0]["sample_id"])
    back = request("relabel", sample_id=bad, label=[str(k) for k in truth.labels[bad]])
    wrong = request("relabel", sample_id=bad[:5], label="0")
    for action in (back, wrong, request("undo", action=wrong["id"]), request("set", settings={"lr": 9.0})):
        submit(run, action)
    question = ask(run, [entry.action for entry in entries(run)[:2]], None, "runs/harmed")
    assert [action["what"] for action in question.actions] == ["relabel", "relabel", "undo"]
    assert question.what == f"following these decisions ({len(bad)} relabelled)"
    found = whatif(run, actions="runs/harmed", epochs=1, seeds=2)
    assert found.question.num_samples == len(bad)
    assert np.mean(found.differences) > 0


def test_decisions_of_a_file(run: RunDir) -> None:
    file = Path("decided.jsonl")
    bad = read_lines(run.actions)[0]["sample_id"]
    keys = Manifest.read(run.manifest).keys
    some = [int(i) for i in bad[:50]]
    lines = [request("discard", sample_id=some, key=keys[some]), request("tag", sample_id=[0], key=[keys[0]], tag="x")]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    question = ask(run, [], None, str(file))
    assert question.what == "discarding these 50 samples"
    assert [action["sample_id"] for action in question.actions if action["what"] == "discard"] == [some]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(run: RunDir, number: signal.Signals) -> None:
    with when_there(run.whatif / "001/seed42-as-is/attempts.jsonl", number):
        with pytest.raises(Interrupted, match="are removed"):
            whatif(run, discard=BAD, epochs=50, keep=True)
    assert not run.whatif.exists()


def test_a_refusal_is_not_taken_for_no_difference(run: RunDir) -> None:
    with pytest.raises(RunError, match="refused to discard: That would leave 1 training samples"):
        whatif(
            run, discard="split = 'train' and sample_id <> (select min(sample_id) from samples where split = 'train')"
        )
    assert not run.whatif.exists()


def break_off(run: RunDir) -> None:
    """A run whose last checkpoint lies inside an epoch."""
    with pytest.raises(Interrupted):
        small_fit(Path("runs/cut"), callbacks=[At(3, send(signal.SIGTERM))])


def without_validation(run: RunDir) -> None:
    small_fit(Path("runs/blind"), epochs=1, val_split=0.0)


@pytest.mark.parametrize(
    ("words", "reason", "prepare"),
    [
        (["none", "--discard", BAD], "does not exist", None),
        (["harmed"], "Say what to try", None),
        (["harmed", "--discard", BAD, "--actions", "x"], "Say what to try", None),
        (["harmed", "--discard", "nonsense > 1"], "nonsense", None),
        (["harmed", "--discard", "sample_id < 0"], "No sample", None),
        (["harmed", "--discard", "split = 'val'"], "changes no training sample", None),
        (["harmed", "--actions", "harmed"], "changes no training sample", None),
        (["harmed", "--actions", "nothing"], "neither a run nor a file", None),
        (["harmed", "--discard", BAD, "--epochs", "0"], "--epochs 0", None),
        (["harmed", "--discard", BAD, "--seeds", "1"], "--seeds 1", None),
        (["harmed", "--discard", BAD, "--metric", "val/acuracy"], "Did you mean 'val/accuracy'", None),
        (["harmed", "--discard", BAD, "--checkpoint", "first"], "not `best`, `last` or a file", None),
        (["harmed", "--discard", BAD, "--checkpoint", "runs/cut/checkpoints/last.ckpt"], "is of runs/cut", break_off),
        (["cut", "--discard", "sample_id < 9"], "lies inside epoch 1", break_off),
        (["blind", "--discard", "sample_id < 9"], "watches train/loss", without_validation),
        (["blind", "--discard", "sample_id < 9", "--metric", "val/loss"], "has no such number", without_validation),
    ],
)
def test_what_cannot_be_is_refused(
    run: RunDir,
    words: list[str],
    reason: str,
    prepare: Callable[[RunDir], None] | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if prepare is not None:
        prepare(run)
    assert main(["whatif", *words]) == 2
    assert reason in capsys.readouterr().err
    assert not list(Path("runs").glob("*/whatif"))


def result(as_is: list[float], changed: list[float], metric: str = "val/accuracy") -> WhatIf:
    question = Question([], "discarding these 27 samples", 27, 0)
    seeds = list(range(len(as_is)))
    return WhatIf("runs/a", "last.ckpt", question, 5, 3, metric, 200, seeds, as_is, changed, "report.json")


def test_the_interval_is_students() -> None:
    low, high = t_interval([0.006, 0.008, 0.010])
    half = 4.302653 * 0.002 / 3**0.5  # t of 97.5 % with two degrees of freedom, by the table
    assert (low, high) == pytest.approx((0.008 - half, 0.008 + half), rel=1e-6)


def test_verdicts() -> None:
    clear = result([0.90, 0.91, 0.92], [0.906, 0.918, 0.930])
    assert clear.verdict() == "Discarding these 27 samples changes val/accuracy by +0.8 points (0.3 to 1.3)."
    assert "200 validation samples; one of them is 0.5 points" in clear.lines()[0]
    same = result([0.9, 0.8], [0.9, 0.8])
    assert same.verdict() == (
        "No difference can be seen with 2 seeds: discarding these 27 samples changes val/accuracy by "
        "+0.0 points (-1.3 to 1.3)."
    )
    by_one_sample = result([0.9, 0.8], [0.905, 0.805])
    assert not by_one_sample.is_clear, "equal differences of so coarse a number are no proof"
    worse = result([0.3, 0.4], [0.5, 0.60001], "val/loss")
    assert worse.verdict() == "Discarding these 27 samples changes val/loss by +0.2000 (0.1999 to 0.2001)."
