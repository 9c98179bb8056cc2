"""What a run knows of its own ranking: recall from canaries, precision from verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asked_runs import act, asked_run

from litscope.data.manifest import build_manifest
from litscope.ledger.scoring.clock import Clock
from litscope.ledger.scoring.score_schema import SCORE_SCHEMA
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.scoring.trust import Estimate, clock_sentence, measure, verdicts, wilson
from litscope.rundir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return asked_run(tmp_path / "run")


def test_wilson_interval() -> None:
    """Wilson's interval of 8 in 10 at 95 %: [0.490, 0.943] (Agresti and Coull 1998 give the formula)."""
    found = wilson(8, 10)
    assert (found.share, found.low, found.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == pytest.approx(1.0)
    assert wilson(0, 10).high == pytest.approx(1 - wilson(10, 10).low)


def test_nothing_is_claimed_without_canaries_and_verdicts(run: RunDir) -> None:
    trust = measure(run, refresh(run).table, "train")
    assert trust.recall(np.array([0.5])) is None
    assert trust.sentences(5, 0.5) == [
        "recall is not known: train with --canaries 0.02.",
        "precision is not known: no verdicts yet; relabel, discard, or tag ok.",
    ]


def test_recall_is_the_share_of_canaries_at_least_as_suspicious(tmp_path: Path) -> None:
    planted = {0: 1, 4: 2, 8: 0}
    run = asked_run(tmp_path / "run", labels=planted)
    act(run, "relabel", [0, 4, 8], label=["bee", "wasp", "ant"], who="litscope", canary=True)
    scores = refresh(run).table
    trust = measure(run, scores, "train")
    assert trust.num_canaries == 3
    by_id = dict(zip(scores["sample_id"].to_pylist(), scores["suspicion"].to_pylist(), strict=True))
    assert trust.canary_suspicion.tolist() == sorted(by_id[i] for i in planted)
    middle = sorted(by_id[i] for i in planted)[1]
    found = trust.recall(np.array([1.1, middle, np.nextafter(middle, 0), 0.0]))
    assert found is not None
    assert found.tolist() == pytest.approx([0, 2 / 3, 2 / 3, 1])
    assert trust.recall_at(middle) == wilson(2, 3)
    sentence = "recall: down to rank 7, 2 of 3 (67 %, 95 % interval 21 to 94 %) canaries are found."
    assert trust.sentences(7, middle)[0] == sentence
    assert trust.most() == trust.canary_suspicion[0]  # 80 % of three are all three
    assert measure(run, scores, "val").num_canaries == 0


def test_canaries_that_were_never_scored_say_so(run: RunDir) -> None:
    act(run, "relabel", [4], label="wasp", who="litscope", canary=True)  # but trained with its own label
    trust = measure(run, refresh(run).table, "train")
    assert trust.recall(np.array([0.5])) is None
    assert trust.sentences(1, 0.5)[0] == "recall is not known yet: none of the 1 canaries has been scored so far."


def test_verdicts_are_what_people_decided_last(run: RunDir) -> None:
    act(run, "discard", [2, 3, 4])
    act(run, "relabel", [7], label="wasp", is_applied=False)
    act(run, "relabel", [8], label="wasp")  # its own class: it is right
    act(run, "tag", [5, 2], tag="ok")
    act(run, "tag", [9, 11], tag="odd")
    act(run, "tag", [11], tag="ok")
    act(run, "untag", [11], tag="ok")
    act(run, "untag", [5], tag="odd")
    act(run, "restore", [3])
    act(run, "discard", [6], who="litscope policy")
    act(run, "relabel", [0], label="bee", who="litscope", canary=True)
    undone = act(run, "discard", [10])
    act(run, "undo", action=undone)
    act(run, "discard", [12])
    assert list(verdicts(run).items()) == [(4, True), (7, True), (8, False), (5, False), (2, False), (12, True)]
    assert 12 not in verdicts(run, "train")
    trust = measure(run, refresh(run).table, "train")
    assert trust.precision == wilson(2, 5)
    assert (
        trust.sentences(3, 0.9)[1] == f"precision: of the labels that people judged, {wilson(2, 5).text()} were wrong."
    )


def test_the_latest_verdicts_tell_what_the_review_still_finds(tmp_path: Path) -> None:
    run = asked_run(tmp_path / "run")
    act(run, "discard", list(range(6)))
    act(run, "tag", list(range(6, 12)), tag="ok")
    trust = measure(run, refresh(run).table, "train")
    assert trust.precision == trust.latest == wilson(6, 12)
    assert "Of the last" not in trust.sentences(3, 0.9)[1]
    assert Estimate(1, 4, 0.0, 1.0).text() == "1 of 4 (25 %, 95 % interval 0 to 100 %)"


def test_the_last_twenty_verdicts_stand_apart(tmp_path: Path) -> None:
    """Of 22 the first two, both wrong, are not among them; the twenty-first still is in both."""
    run = RunDir.create(tmp_path / "run")
    build_manifest([str(i) for i in range(22)], np.zeros(22, np.int64), ["a", "b"], splits=["train"] * 22).write(
        run.manifest
    )
    nothing_scored = SCORE_SCHEMA.empty_table()
    act(run, "discard", list(range(3)))
    act(run, "tag", list(range(3, 20)), tag="ok")
    assert "Of the last" not in measure(run, nothing_scored, "train").sentences(1, None)[1]
    act(run, "tag", [20, 21], tag="ok")
    trust = measure(run, nothing_scored, "train")
    assert (trust.precision, trust.latest) == (wilson(3, 22), wilson(1, 20))
    assert trust.sentences(1, None)[1].endswith(f" were wrong. Of the last 20: {wilson(1, 20).text()}.")


def test_the_clock_in_words() -> None:
    nan = float("nan")
    assert "Nothing is ranked yet" in clock_sentence(Clock([], None, (0, 0), 0))
    learning = clock_sentence(Clock([nan, 0.5, 0.25], None, (0, 2), 3))
    assert "still learning after 3 epochs" in learning
    assert "uses epochs 1 to 3. 25.0 % of the predictions changed in the last epoch." in learning
    assert "begins at epoch 9; the ranking uses epochs 3 to 9" in clock_sentence(Clock([nan] * 12, 8, (2, 8), 12))
