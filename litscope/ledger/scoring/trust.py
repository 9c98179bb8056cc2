"""How far the ranking of suspects can be trusted, from what the run itself knows about it. No torch.

Recall comes from canaries (`recall`), precision from what people decided about the samples that they looked at. If
neither is known, the sentence says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from litscope.console import number_of
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import canaries, canary_kinds, check, entries, planted
from litscope.ledger.queries import classes
from litscope.ledger.scoring.clock import Clock
from litscope.ledger.scoring.recall import CanaryRanks, Estimate, Floats, wilson
from litscope.ledger.scoring.scorekeeper import Scores
from litscope.rundir import RunDir
from litscope.runs import is_watched

RIGHT_TAG = "ok"
"""The tag by which a person says that a label is right."""

NUM_LATEST = 20
"""How many of the last verdicts tell what the review still finds. Those before were of samples that looked worse: they
are no sample of what is left, and an interval over all of them is wrong about it nearly always."""


@dataclass(frozen=True)
class Trust:
    """What a run knows about its ranking of one split.

    Attributes:
        canaries: where the canaries stand in the ranking, which tells recall.
        precision: share of wrong labels among the last `NUM_LATEST` that people judged; None without a verdict.
    """

    canaries: CanaryRanks
    precision: Estimate | None

    def sentences(self, queue: Floats, num_shown: int) -> list[str]:
        """For people: recall down to a rank, and precision.

        Args:
            queue: (N,) descending suspicion of the samples that are left to be looked at.
            num_shown: how many of them are shown.
        """
        return [self.canaries.sentence(queue, num_shown), self._precision_sentence()]

    def to_dict(self, queue: Floats, num_shown: int) -> dict[str, Any]:
        """For programs: the same, as numbers."""
        precision = None if self.precision is None else self.precision._asdict()
        return {"recall": self.canaries.to_dict(queue, num_shown), "precision": precision}

    def _precision_sentence(self) -> str:
        if self.precision is None:
            return f"precision is not known: no verdicts yet; relabel, discard, or tag {RIGHT_TAG}."
        which = f"last {NUM_LATEST} labels" if self.precision.num == NUM_LATEST else "labels"
        return f"precision: of the {which} that people judged, {self.precision.text()} were wrong."


def measure(run: RunDir, scores: Scores, split: str) -> Trust:
    """What a run knows about its ranking of `split`.

    Args:
        run: an open run.
        scores: as `scorekeeper.refresh` returns them.
        split: the verdicts and canaries of this split count.
    """
    latest = list(verdicts(run, split).values())[-NUM_LATEST:]
    precision = wilson(sum(latest), len(latest)) if latest else None
    return Trust(_canary_ranks(run, scores, split), precision)


def verdicts(run: RunDir, split: str | None = None) -> dict[int, bool]:
    """What people decided: sample_id -> whether its label was wrong, in the order in which they decided.

    A discard, and a relabel to another class, say wrong; the tag `ok`, and a relabel back to the class
    of the manifest, say right. A decision that was refused, undone, restored or untagged is no verdict, and
    neither is one by a policy, by the run itself, or by a condition (`--where`), because nobody looked.

    Args:
        run: an open run.
        split: only samples of this split.
    """
    journal = [entry.action for entry in entries(run) if entry.status in ("applied", "pending")]
    actions = [action for action in journal if is_by_person(action) and _is_valid(action)]
    ids = sorted({i for action in actions for i in action.get("sample_id", [])})
    if not ids:
        return {}
    given = _labels(run, ids, split)
    found: dict[int, bool] = {}
    for action in actions:
        for sample_id, is_wrong in _verdicts_of(action, given):
            found.pop(sample_id, None)  # the last verdict counts, at the place where it was given
            if is_wrong is not None and sample_id in given:
                found[sample_id] = is_wrong
    return found


def is_by_person(action: dict[str, Any]) -> bool:
    """Whether a person chose these samples, not a condition, a policy, or the run itself, which signs as litscope."""
    is_own = str(action.get("who", "")).startswith("litscope") or action.get("canary") is True
    return not is_own and not action.get("where")


def _is_valid(action: dict[str, Any]) -> bool:
    try:
        check(action)
    except ConfigError:
        return False
    return True


def _verdicts_of(action: dict[str, Any], given: dict[int, str | None]) -> list[tuple[int, bool | None]]:
    """(sample_id, wrong or not) of one action; None takes a verdict back."""
    ids = action.get("sample_id", [])
    match action["what"]:
        case "discard":
            return [(i, True) for i in ids]
        case "restore":
            return [(i, None) for i in ids]
        case "relabel":
            labels = planted(action).items()
            return [(i, None if given.get(i) is None else name != given[i]) for i, name in labels]
        case "tag" if action["tag"] == RIGHT_TAG:
            return [(i, False) for i in ids]
        case "untag" if action["tag"] == RIGHT_TAG:
            return [(i, None) for i in ids]
    return []


def _labels(run: RunDir, ids: list[int], split: str | None) -> dict[int, str | None]:
    """sample_id -> class name in the manifest (None: no label), of those ids that are in the split."""
    wanted = pc.field("sample_id").isin(ids)
    if split is not None:
        wanted &= pc.field("split") == split
    table = pq.read_table(run.whole_manifest(), columns=["sample_id", "label"], filters=wanted, partitioning=None)
    names = classes(run)
    labels = [None if label < 0 else names[label] for label in table["label"].to_pylist()]
    return dict(zip(table["sample_id"].to_pylist(), labels, strict=True))


def _canary_ranks(run: RunDir, scores: Scores, split: str) -> CanaryRanks:
    """Where the canaries of a split stand. Only those count whose planted label was scored."""
    names, wrong, kinds = classes(run), canaries(run), canary_kinds(run)
    suspicion = scores.table["suspicion"].to_numpy()
    is_ranked = is_of_split(scores.table, split) & ~np.isnan(suspicion)
    sample_id, label = scores.table["sample_id"].to_numpy(), scores.table["label"].to_numpy()
    in_split = _labels(run, list(wrong), split) if wrong else {}
    planted_label = {i: names.index(wrong[i]) for i in in_split if wrong[i] in names}

    by_kind: dict[str, list[float]] = {}
    is_canary = np.isin(sample_id, list(wrong)) if wrong else np.zeros(len(sample_id), bool)
    for at in np.flatnonzero(is_canary & is_ranked):
        canary = int(sample_id[at])
        if planted_label.get(canary) == label[at]:
            by_kind.setdefault(kinds[canary], []).append(float(suspicion[at]))
    return CanaryRanks(
        suspicion={kind: np.sort(np.array(values)) for kind, values in sorted(by_kind.items())},
        num_planted=len(planted_label),
        others=np.sort(suspicion[is_ranked & ~is_canary]).astype(np.float64),
        num_wrong=_num_wrong(*scores.num_wrong.get(split, (0, 0)), sum(map(len, by_kind.values()))),
        can_plant=not is_watched(run),
    )


def is_of_split(scores: pa.Table, split: str) -> npt.NDArray[np.bool_]:
    """(N,) which rows of a table of scores are of a split."""
    return np.asarray(pc.equal(scores["split"], split).to_numpy(zero_copy_only=False), bool)


def _num_wrong(canaries_that_look_wrong: int, others: int, num_canaries: int) -> int:
    """About how many labels are wrong, of samples that are no canaries.

    So many look wrong. But of the canaries, which all are, only some do, the fewer the more the network has learned by
    heart; so there are as many more. An estimate by capture and recapture (Lincoln 1930, Petersen 1896). What looks
    wrong and is right makes it too large, which only makes recall known from a deeper rank on.
    """
    if not canaries_that_look_wrong:
        return others
    return round(others * num_canaries / canaries_that_look_wrong)


def clock_sentence(clock: Clock) -> str:
    """The memorisation clock for people. Epochs count from 1."""
    if clock.num_epochs == 0:
        return "Nothing is ranked yet: no epoch is complete."
    known = [share for share in clock.changing if share == share]
    changing = f" {100 * known[-1]:.1f} % of the predictions changed in the last epoch." if known else ""
    first, last_used = (epoch + 1 for epoch in clock.window)
    uses = f"uses epoch {first}" if first == last_used else f"uses epochs {first} to {last_used}"
    after = f"after {number_of(clock.num_epochs, 'epoch')}"
    if clock.t_star is not None:
        told = f"memorisation begins at epoch {clock.t_star + 1}; the ranking {uses}."
    elif clock.settled is not None:
        told = (
            f"after epoch {clock.settled} hardly any prediction changed: learning is over, also that of wrong labels; "
            f"the ranking {uses}, and more of them do not improve it."
        )
    elif clock.is_learning:
        told = f"still learning {after}, more of them improve the ranking; it {uses}."
    else:
        told = f"no sign of memorisation {after}; the ranking {uses}."
    return f"memorisation clock: {told}{changing}"
