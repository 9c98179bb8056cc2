"""The ranking judged by wrong labels that are known: planted, trained on anew, and found or not."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from small_runs import DIGITS, small_fit, when_there

from litscope.cli import main
from litscope.curation.carry import net_actions
from litscope.data.manifest import Manifest
from litscope.errors import Interrupted
from litscope.experiments.planted import Validation, average_precision, depths, plant, validate
from litscope.ledger.journal.actions import Decisions, canaries, decide, decisions, entries, request, submit
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.rundir import RunDir

pytestmark = pytest.mark.slow  # each test trains several times

FLAGS: dict[str, Any] = {"epochs": 5, "limit_train_batches": None, "batch_size": 128, "lr": 0.01}
DISCARDED = list(range(0, 40))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Digits, with canaries, on which a person has decided something afterwards."""
    run = RunDir(tmp_path_factory.mktemp("validate") / "trained")
    small_fit(run.path, **FLAGS, canaries=0.02)
    submit(run, request("discard", sample_id=DISCARDED))
    return run


@pytest.fixture
def run(trained: RunDir, in_tmp: Path) -> RunDir:
    shutil.copytree(trained.path, "runs/trained")
    return RunDir("runs/trained")


def planted_in(run: RunDir) -> Decisions:
    return decide(entry.action for entry in entries(run))


@pytest.fixture(scope="module")
def kept(trained: RunDir, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Validation]:
    """A validation whose trainings were kept."""
    run = RunDir(tmp_path_factory.mktemp("validate") / "kept")
    shutil.copytree(trained.path, run.path)
    return run, validate(run, 0.1, keep=True)


def test_the_ranking_finds_most_of_what_was_planted(kept: tuple[RunDir, Validation]) -> None:
    _, found = kept
    assert [one.kind for one in found.kinds] == ["symmetric", "class-dependent"]
    for one in found.kinds:
        assert one.num_planted == round(0.1 * one.num_ranked)
        assert one.average_precision > 4 * 0.1, "chance is a tenth"
        half, equal, double = one.depths
        assert (half.rank, equal.rank, double.rank) == (
            round(one.num_planted / 2),
            one.num_planted,
            2 * one.num_planted,
        )
        assert half.recall < equal.recall < double.recall
        assert equal.precision == pytest.approx(equal.recall)
        assert half.precision > double.precision


def test_wrong_labels_are_planted_among_the_samples_that_count(kept: tuple[RunDir, Validation]) -> None:
    run, found = kept
    manifest = Manifest.read(run.manifest)
    for one in found.kinds:
        arm = RunDir(run.validation / "001" / one.kind)
        state = planted_in(arm)
        assert len(state.labels) == one.num_planted
        assert not set(state.labels) & set(DISCARDED)
        assert state.discarded == set(DISCARDED), "what people decided holds in the copy, too"
        assert {manifest.splits[i] for i in state.labels} == {"train"}
        assert all(name != manifest.classes[manifest.labels[i]] for i, name in state.labels.items())
        assert canaries(arm) == {}, "nothing in the training's folder tells which they are"
    symmetric, dependent = (planted_in(RunDir(run.validation / "001" / one.kind)).labels for one in found.kinds)
    assert set(symmetric) != set(dependent)
    assert decisions(run).labels == {}, "the run itself is as it was"


def test_average_precision_is_that_of_the_kept_rankings(kept: tuple[RunDir, Validation]) -> None:
    run, found = kept
    for one in found.kinds:
        arm = RunDir(run.validation / "001" / one.kind)
        table = refresh(arm).table
        is_train = np.array(table["split"].to_pylist()) == "train"
        suspicion = np.nan_to_num(np.asarray(table["suspicion"].to_numpy(), np.float64), nan=-1)[is_train]
        is_planted = np.isin(table["sample_id"].to_numpy()[is_train], list(planted_in(arm).labels))
        assert one.average_precision == pytest.approx(average_precision_score(is_planted, suspicion), abs=0.005)


def test_the_command(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in run.path.iterdir())
    assert main(["suspects", "trained", "--validate", "--share", "0.2"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"2 trainings with 20.0% wrong labels, 5 epochs each as in runs/trained: about \d+ s", err)
    lines = out.splitlines()
    assert lines[0].split() == ["planted", "number", "AP", "chance", "to", "rank", "precision", "recall"]
    assert lines[1].startswith("symmetric")
    assert lines[4].startswith("class-dependent")
    assert lines[-1].startswith("Labels that were wrong before count as false alarms")
    report = json.loads((run.validation / "001.json").read_text())
    assert [one["num_planted"] for one in report["kinds"]] == [
        round(0.2 * one["num_ranked"]) for one in report["kinds"]
    ]
    assert sorted(path.name for path in run.path.iterdir()) == sorted([*before, "validation"])
    assert [path.name for path in run.validation.iterdir()] == ["001.json"]


def test_the_same_question_has_the_same_answer(kept: tuple[RunDir, Validation], run: RunDir) -> None:
    assert validate(run, 0.1).kinds == kept[1].kinds


def test_an_interruption_leaves_nothing(run: RunDir) -> None:
    with when_there(run.validation / "001/symmetric/attempts.jsonl", signal.SIGINT):
        with pytest.raises(Interrupted, match="are removed"):
            validate(run)
    assert not run.validation.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["none", "--validate"], "does not exist"),
        (["trained", "--validate", "--share", "0.5"], "--share 0.5"),
        (["trained", "--validate", "--share", "0"], "--share 0"),
        (["trained", "--validate", "--share", "0.0001"], "too few to tell"),
        (["trained", "--validate", "-n", "5"], "leave out -n"),
        (["trained", "--validate", "--split", "val"], "leave out --split"),
        (["trained", "--validate", "--csv", "x.csv"], "leave out --csv"),
        (["trained", "--share", "0.1"], "belong to --validate"),
        (["trained", "--keep"], "belong to --validate"),
        (["silent", "--validate"], "ran with --no-ledger"),
    ],
)
def test_what_cannot_be_is_refused(
    run: RunDir, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "silent":
        small_fit(Path("runs/silent"), DIGITS, epochs=1, ledger=False)
    assert main(["suspects", *words]) == 2
    assert reason in capsys.readouterr().err
    assert not run.validation.exists()


def test_corrected_labels_are_the_ones_that_are_made_wrong(run: RunDir) -> None:
    train = [int(i) for i in Manifest.read(run.manifest).ids("train") if i not in DISCARDED]
    submit(run, request("relabel", sample_id=train, label="3"))
    planted = dict(plant(run, net_actions(run), 0.1, 1))
    assert all((labels != 3).all() for _, labels in planted.values())


def test_judging_by_hand() -> None:
    hits = np.array([True, False, True, False, False, True, False, False])
    assert average_precision(hits, 4) == pytest.approx((1 + 2 / 3 + 3 / 6) / 4), "the fourth is not ranked"
    assert depths(hits, 4) == [(2, 1 / 2, 1 / 4), (4, 2 / 4, 2 / 4), (8, 3 / 8, 3 / 4)]
