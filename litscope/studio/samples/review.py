"""The review of suspected label errors: what to look at next, how well the ranking does so far, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from litscope.errors import RunError, did_you_mean
from litscope.ledger.scoring.recall import Estimate
from litscope.ledger.scoring.trust import NUM_LATEST, verdicts
from litscope.ledger.suspects import Suspects, suspects
from litscope.studio.refusals import AskedWrong
from litscope.studio.samples.grid import Row
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Ids, Numbers, Words

MOST_AT_ONCE = 200
NUM_TYPICAL = 6
MOST_SKIPPED = 5000

STOP_AT = 1
"""Of the last `NUM_LATEST` verdicts, so many wrong labels or fewer: further looks are hardly worth their time."""


@dataclass(frozen=True)
class ReviewItem:
    """A sample to look at.

    Attributes:
        rank: in the whole queue, from 1.
        sample: its row.
        p_label: the probability of its label, mean over the last epochs; None: not known.
        typical_of_label, typical_of_believed: samples that the network knows best of each class.
        why: a sentence.
    """

    rank: int
    sample: Row
    p_label: float | None
    typical_of_label: list[int]
    typical_of_believed: list[int]
    why: str


@dataclass(frozen=True)
class Verdicts:
    """What people decided.

    Attributes:
        num: how many verdicts there are.
        num_wrong: of them, labels that were wrong.
        last: the newest, the last one last: whether the label was wrong.
    """

    num: int
    num_wrong: int
    last: list[bool]


@dataclass(frozen=True)
class Precision:
    """Of the last labels that people judged, the share that was wrong: its likely limits, and a sentence."""

    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Recall:
    """Down to a rank, the share of wrong labels that was found: its likely limits."""

    rank: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Stop:
    """Whether to stop, and why."""

    should_stop: bool
    sentence: str


@dataclass(frozen=True)
class Review:
    """The queue of one split.

    Attributes:
        split: train, val or test.
        num_left: samples without a verdict; every labelled sample is ranked, so most of them are right.
        num_wrong: about how many labels of the split are wrong, decided ones included (`trust`).
        items: what to look at next.
        verdicts, precision, recall, stop: how the ranking does so far.
        sentences: what the numbers mean.
        warning: why this order is not to be decided by yet.
    """

    split: str
    num_left: int
    num_wrong: int
    items: list[ReviewItem]
    verdicts: Verdicts
    precision: Precision | None
    recall: list[Recall] | None
    stop: Stop
    sentences: list[str]
    warning: str | None


RowsOf = Callable[[Ids, Sequence[str]], list[Row]]


def review(samples: Samples, split: str, count: int, skip: frozenset[int], rows_of: RowsOf) -> Review:
    """The next samples to look at.

    Args:
        samples: of the run.
        split: train, val or test.
        count: how many.
        skip: sample_ids to leave out of this answer.
        rows_of: makes rows of ids, with those columns.

    Raises:
        RunError: if the run has no scores of that split.
    """
    most = min(count + len(skip), MOST_AT_ONCE + MOST_SKIPPED)
    found = suspects(samples.run, most, split=split, known=samples.known())
    ranked = [row for row in found.table.to_pylist() if row["sample_id"] not in skip][:count]
    ids = np.array([row["sample_id"] for row in ranked], np.int64)
    typical = _Typical(samples, split)
    items = [
        ReviewItem(
            rank=row["rank"],
            sample=shown,
            p_label=row["p_label"],
            typical_of_label=typical.of(row["label_name"], row["sample_id"]),
            typical_of_believed=typical.of(row["believed_name"], row["sample_id"]),
            why=_why(row),
        )
        for row, shown in zip(ranked, rows_of(ids, ("suspicion", "aum", "mean_loss")), strict=True)
    ]
    given = list(verdicts(samples.run, split).values())
    return Review(
        split=split,
        num_left=found.num_ranked,
        num_wrong=found.trust.canaries.num_wrong,
        items=items,
        verdicts=Verdicts(len(given), sum(given), given[-NUM_LATEST:]),
        precision=_precision(found.trust.precision),
        recall=_recall(found),
        stop=_stop(given),
        sentences=found.sentences(),
        warning=found.warning,
    )


def typical(samples: Samples, label: str, split: str, count: int) -> list[int]:
    """The samples of a class that the network knows best.

    Raises:
        AskedWrong: if there is no such class.
    """
    names = samples.values("current_name")
    assert isinstance(names, Words)
    if label not in names.names:
        raise AskedWrong(f"There is no class {label!r} in this run.{did_you_mean(label, names.names)}", "label")
    return _Typical(samples, split).of(label, -1, count)


class _Typical:
    """Finds the typical samples of each class once."""

    def __init__(self, samples: Samples, split: str) -> None:
        if "confidence" not in samples.names:
            raise RunError(f"{samples.run.path} has no scores yet, so nobody knows what is typical.")
        names, confidence, right = (samples.values(n) for n in ("current_name", "confidence", "is_right"))
        assert isinstance(names, Words)
        assert isinstance(confidence, Numbers)
        self._names, self._confidence = names, confidence.values
        splits = samples.base.split
        code = splits.names.index(split) if split in splits.names else -2
        discarded = samples.values("is_discarded")
        self._among = samples.shown & (splits.codes == code) & right.values & ~discarded.values  # type: ignore[union-attr]
        self._known: dict[str, list[int]] = {}

    def of(self, name: str | None, without: int, count: int = NUM_TYPICAL) -> list[int]:
        if name is None or name not in self._names.names:
            return []
        if name not in self._known:
            ids = np.flatnonzero(self._among & (self._names.codes == self._names.names.index(name)))
            best = np.argsort(-self._confidence[ids], kind="stable")[: max(count, NUM_TYPICAL) + 1]
            self._known[name] = ids[best].tolist()
        return [i for i in self._known[name] if i != without][:count]


def _why(row: dict[str, Any]) -> str:
    said, given = row["believed_name"], row["label_name"]
    p = "" if row["p_label"] is None else f", and gives {given} {100 * row['p_label']:.0f} %"
    if said is None or said == given:
        return f"The network is least sure of it{p}."
    learned = row["first_learned_epoch"]
    when = " It never learned the label." if learned is not None and learned < 0 else ""
    return f"The network believes it is {said}{p}.{when}"


def _precision(found: Estimate | None) -> Precision | None:
    return None if found is None else Precision(found.low, found.high, found.text())


def _recall(found: Suspects) -> list[Recall] | None:
    recall = found.trust.canaries.recall(found.queue)
    num = len(found.queue)
    ranks = sorted({rank for rank in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, num) if 1 <= rank <= num})
    known = [Recall(r, _known(recall.low[r - 1]), _known(recall.high[r - 1])) for r in ranks]
    return known if any(one.low is not None for one in known) else None


def _known(value: float) -> float | None:
    return None if value != value else float(value)


def _stop(given: Sequence[bool]) -> Stop:
    last = given[-NUM_LATEST:]
    if len(last) < NUM_LATEST:
        left = NUM_LATEST - len(last)
        return Stop(False, f"After {left} more verdicts it can be said whether going on is worth while.")
    wrong = sum(last)
    if wrong <= STOP_AT:
        return Stop(
            True, f"Of the last {NUM_LATEST} labels {wrong} was wrong: what comes now is hardly worth the time."
        )
    return Stop(False, f"Of the last {NUM_LATEST} labels {wrong} were wrong: it is worth while to go on.")
