"""Recall told by canaries of two kinds: between what they say, and only at ranks that can hold as much."""

from __future__ import annotations

import numpy as np
import pytest

from litscope.ledger.scoring.recall import CanaryRanks, Estimate, wilson

NUM = 100
QUEUE = np.arange(NUM)[::-1] / NUM
"""Suspicion .99, .98, ... 0: rank r has 1 - r / 100."""


def ranks_of(num_wrong: int = 0, num_seen: int = 0, **suspicion: list[float]) -> CanaryRanks:
    """Canaries beside `QUEUE` and `num_seen` samples that somebody has decided on, all of them above the queue."""
    own = {kind: np.array(values) for kind, values in suspicion.items()}
    num_planted = sum(map(len, own.values()))
    return CanaryRanks(own, num_planted, np.append(np.sort(QUEUE), np.ones(num_seen)), num_wrong)


def test_recall_lies_between_the_two_kinds_with_their_sampling_error() -> None:
    ranks = ranks_of(classes=[0.505, 0.805, 0.905, 0.955], sample=[0.105, 0.305, 0.505, 0.905])
    recall = ranks.recall(QUEUE)
    at_10 = ranks.found(QUEUE[9])
    assert at_10 == {"classes": wilson(2, 4), "sample": wilson(1, 4)}
    assert recall.low[9] == pytest.approx(wilson(1, 4).low)
    assert recall.high[9] == pytest.approx(wilson(2, 4).high)
    assert recall.told_from == 1
    assert (np.diff(recall.low) >= 0).all()
    assert (np.diff(recall.high) >= 0).all()
    assert (recall.low[-1], recall.high[-1]) == (pytest.approx(wilson(4, 4).low), pytest.approx(1.0))
    # 80 % of four are all four: the last ones lie between .51 and .50, and between .11 and .10
    assert recall.ranks_of_most == (50, 90)
    assert ranks.sentence(QUEUE, 10) == (
        "recall: down to rank 10, between 5 and 85 % of the wrong labels are found (canaries: 2 of 4 drawn from "
        "confused classes, 1 of 4 drawn for each sample). 80 % are found by rank 50 to 90."
    )


def test_the_kinds_may_come_the_other_way_round() -> None:
    recall = ranks_of(classes=[0.2, 0.3], sample=[0.8, 0.9]).recall(QUEUE)
    assert recall.low[29] == pytest.approx(wilson(0, 2).low)
    assert recall.high[29] == pytest.approx(wilson(2, 2).high)


def test_canaries_of_confused_classes_alone_tell_at_most() -> None:
    ranks = ranks_of(classes=[0.505, 0.905])
    recall = ranks.recall(QUEUE)
    assert np.isnan(recall.low).all()
    assert recall.high[9] == pytest.approx(wilson(1, 2).high)
    assert "down to rank 10, at most 91 % of the wrong labels are found (canaries: 1 of 2" in ranks.sentence(QUEUE, 10)
    assert ranks.to_dict(QUEUE, 10)["low"] is None
    only = ranks_of(sample=[0.505, 0.905])
    assert "down to rank 10, at least 9 % of the wrong" in only.sentence(QUEUE, 10)


def test_no_recall_is_told_where_the_rank_cannot_hold_as_many_wrong_labels() -> None:
    """Both canaries lie at the top. With 40 wrong labels, 39 samples cannot be all of them."""
    ranks = ranks_of(num_wrong=40, classes=[0.985, 0.995], sample=[0.985, 0.995])
    recall = ranks.recall(QUEUE)
    assert recall.told_from == 40
    assert np.isnan(recall.low[:39]).all()
    assert np.isnan(recall.high[:39]).all()
    assert recall.low[39] == pytest.approx(wilson(2, 2).low)
    assert recall.ranks_of_most == (40, 40)
    assert ranks.sentence(QUEUE, 20) == (
        "recall: about 40 labels are wrong, so the first 20 samples are too few to tell it. Down to rank 40, between "
        "34 and 100 % of the wrong labels are found (canaries: 2 of 2 drawn from confused classes, 2 of 2 drawn for "
        "each sample). 80 % are found by rank 40."
    )
    told = ranks.to_dict(QUEUE, 20)
    assert (told["rank"], told["low"], told["high"], told["told_from_rank"]) == (20, None, None, 40)


def test_what_somebody_decided_on_was_looked_at_too() -> None:
    decided = ranks_of(num_wrong=40, num_seen=25, classes=[0.985, 0.995], sample=[0.985, 0.995])
    assert decided.recall(QUEUE).told_from == 15


def test_with_more_wrong_labels_than_samples_nothing_is_told() -> None:
    ranks = ranks_of(num_wrong=1_000, classes=[0.995], sample=[0.995])
    assert ranks.recall(QUEUE).told_from is None
    assert ranks.recall(QUEUE).ranks_of_most is None
    assert ranks.sentence(QUEUE, 10) == "recall: nothing is left in the queue that it could be told for."


def test_an_empty_queue_has_no_recall() -> None:
    ranks, nobody = ranks_of(classes=[0.5], sample=[0.5]), np.array([], np.float64)
    assert ranks.recall(nobody).told_from is None
    assert ranks.sentence(nobody, 0) == "recall: nothing is left in the queue that it could be told for."
    assert ranks.to_dict(nobody, 0)["canaries"] == {}


def test_canaries_below_the_whole_queue_are_found_at_its_end() -> None:
    recall = ranks_of(classes=[-1.0], sample=[0.995]).recall(QUEUE)
    assert recall.ranks_of_most == (1, NUM)


def test_for_programs() -> None:
    ranks = ranks_of(num_wrong=3, classes=[0.505, 0.905], sample=[0.305, 0.905])
    assert ranks.to_dict(QUEUE, 10) == {
        "rank": 10,
        "low": pytest.approx(wilson(1, 2).low),
        "high": pytest.approx(wilson(1, 2).high),
        "told_from_rank": 1,
        "ranks_of_80_percent": (50, 70),
        "canaries": {"classes": wilson(1, 2)._asdict(), "sample": wilson(1, 2)._asdict()},
        "num_canaries": 4,
        "num_wrong": 3,
    }
    assert Estimate(1, 4, 0.0, 1.0).share == 0.25
