"""What a run knows of its own ranking: recall from canaries, precision from verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asked_runs import act, asked_run

from litscope.data.manifest import build_manifest
from litscope.ledger.scoring.clock import Clock
from litscope.ledger.scoring.recall import Estimate, wilson
from litscope.ledger.scoring.score_schema import SCORE_SCHEMA
from litscope.ledger.scoring.scorekeeper import Scores, refresh
from litscope.ledger.scoring.trust import _num_wrong, clock_sentence, measure, verdicts
from litscope.rundir import RunDir

NOBODY = np.array([], np.float64)
"""A queue in which nothing is left."""


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
    trust = measure(run, refresh(run), "train")
    queue = np.array([0.5])
    assert trust.canaries.recall(queue).told_from is None
    assert np.isnan(trust.canaries.recall(queue).low).all()
    assert trust.sentences(queue, 1) == [
        "recall is not known: train with --canaries 0.02.",
        "precision is not known: no verdicts yet; relabel, discard, or tag ok.",
    ]
    told = trust.to_dict(queue, 1)
    assert told["precision"] is None
    assert (told["recall"]["low"], told["recall"]["high"], told["recall"]["num_canaries"]) == (None, None, 0)


def test_canaries_stand_by_their_kind_where_their_planted_label_was_scored(tmp_path: Path) -> None:
    planted = {0: 1, 4: 2, 8: 0}
    run = asked_run(tmp_path / "run", labels=planted)
    kinds = ["classes", "sample", "classes"]
    act(run, "relabel", [0, 4, 8], label=["bee", "wasp", "ant"], who="litscope", canary=True, drawn_from=kinds)
    scores = refresh(run)
    ranks = measure(run, scores, "train").canaries
    table = scores.table.to_pylist()
    by_id = {row["sample_id"]: row["suspicion"] for row in table}
    assert ranks.num_planted == 3
    assert {kind: own.tolist() for kind, own in ranks.suspicion.items()} == {
        "classes": sorted([by_id[0], by_id[8]]),
        "sample": [by_id[4]],
    }
    others = sorted(row["suspicion"] for row in table if row["split"] == "train" and row["sample_id"] not in planted)
    assert ranks.others.tolist() == others
    of_canaries, of_others = scores.num_wrong["train"]
    assert ranks.num_wrong == (round(of_others * 3 / of_canaries) if of_canaries else of_others)
    assert measure(run, scores, "val").canaries.num_planted == 0
    assert measure(run, scores, "val").canaries.suspicion == {}


def test_canaries_of_before_there_were_two_kinds_are_of_classes(tmp_path: Path) -> None:
    run = asked_run(tmp_path / "run", labels={0: 1})
    act(run, "relabel", [0], label=["bee"], who="litscope", canary=True)
    assert list(measure(run, refresh(run), "train").canaries.suspicion) == ["classes"]


def test_canaries_that_were_never_scored_say_so(run: RunDir) -> None:
    act(run, "relabel", [4], label="wasp", who="litscope", canary=True)  # but trained with its own label
    trust = measure(run, refresh(run), "train")
    assert trust.canaries.suspicion == {}
    sentence = "recall is not known yet: none of the 1 canaries has been scored so far."
    assert trust.sentences(np.array([0.5]), 1)[0] == sentence


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
    trust = measure(run, refresh(run), "train")
    assert trust.precision == wilson(2, 5)
    assert (
        trust.sentences(NOBODY, 0)[1]
        == f"precision: of the labels that people judged, {wilson(2, 5).text()} were wrong."
    )


def test_the_last_twenty_verdicts_tell_what_the_review_still_finds(tmp_path: Path) -> None:
    """Of 22 the first two, both wrong, do not count; the twenty-first still does."""
    run = RunDir.create(tmp_path / "run")
    build_manifest([str(i) for i in range(22)], np.zeros(22, np.int64), ["a", "b"], splits=["train"] * 22).write(
        run.manifest
    )
    nothing_scored = Scores(SCORE_SCHEMA.empty_table(), Clock([], None, (0, 0), 0), {})
    act(run, "discard", list(range(3)))
    act(run, "tag", list(range(3, 19)), tag="ok")
    before = measure(run, nothing_scored, "train")
    assert before.precision == wilson(3, 19)
    assert before.sentences(NOBODY, 0)[1].startswith("precision: of the labels that people judged, 3 of 19 (")
    act(run, "tag", [19, 20, 21], tag="ok")
    trust = measure(run, nothing_scored, "train")
    assert trust.precision == wilson(1, 20)
    told = f"precision: of the last 20 labels that people judged, {wilson(1, 20).text()} were wrong."
    assert trust.sentences(NOBODY, 0)[1] == told
    assert trust.to_dict(NOBODY, 0)["precision"] == wilson(1, 20)._asdict()
    assert Estimate(1, 4, 0.0, 1.0).text() == "1 of 4 (25 %, 95 % interval 0 to 100 %)"


def test_the_clock_in_words() -> None:
    nan = float("nan")
    assert "Nothing is ranked yet" in clock_sentence(Clock([], None, (0, 0), 0))
    learning = clock_sentence(Clock([nan, 0.5, 0.25], None, (0, 2), 3))
    assert "still learning after 3 epochs" in learning
    assert "uses epochs 1 to 3. 25.0 % of the predictions changed in the last epoch." in learning
    one = clock_sentence(Clock([0.5], None, (0, 0), 1))
    assert "after 1 epoch, more of them improve the ranking; it uses epoch 1." in one
    assert "begins at epoch 9; the ranking uses epochs 3 to 9" in clock_sentence(Clock([nan] * 12, 8, (2, 8), 12))
    assert "more of them improve the ranking" in learning
    calm = clock_sentence(Clock([nan, 0.5, 0.1], None, (1, 2), 3))
    assert "no sign of memorisation after 3 epochs; the ranking uses epochs 2 to 3." in calm
    still = clock_sentence(Clock([nan, 0.0, 0.0], None, (1, 2), 3))
    by_heart = clock_sentence(Clock([nan, 0.4, 0.1, 0.0, 0.0], None, (1, 2), 5, 3))
    assert "after epoch 3 hardly any prediction changed: learning is over, also that of wrong labels;" in by_heart
    assert "the ranking uses epochs 2 to 3, and more of them do not improve it. 0.0 % of the pred" in by_heart
    for words in (calm, still, by_heart):
        assert "improve the ranking" not in words


def test_as_many_more_are_wrong_as_canaries_are_overlooked() -> None:
    """Half of the canaries do not look wrong, so of other wrong labels half do not, either."""
    assert _num_wrong(0, 7, 0) == 7
    assert _num_wrong(0, 7, 20) == 7
    assert _num_wrong(10, 7, 20) == 14
    assert _num_wrong(20, 7, 20) == 7
