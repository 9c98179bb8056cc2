"""How far the ranking of suspects can be trusted, from what the run itself knows about it. No torch.

Recall comes from canaries (wrong labels that the run planted itself), precision from what people
decided about the samples that they looked at. If neither is known, the sentence says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from litscope.errors import ConfigError
from litscope.ledger.journal.actions import canaries, check, entries, planted
from litscope.ledger.queries import classes
from litscope.ledger.scoring.scorekeeper import Clock
from litscope.rundir import RunDir

RIGHT_TAG = "ok"
"""The tag by which a person says that a label is right."""

NUM_LATEST = 20
"""How many of the last verdicts tell how much the review still finds."""

MOST = 0.8
"""`Trust.most` says how far down this share of the canaries is found."""

_Z = 1.959964  # of the standard normal distribution, for 95 %


class Estimate(NamedTuple):
    """A share with its 95 % interval."""

    num_found: int
    num: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """num_found / num."""
        return self.num_found / self.num

    def text(self) -> str:
        """For people: 8 of 10 (80 %, 95 % interval 49 to 94 %)."""
        share, low, high = (f"{100 * value:.0f}" for value in (self.share, self.low, self.high))
        return f"{self.num_found} of {self.num} ({share} %, 95 % interval {low} to {high} %)"


def wilson(num_found: int, num: int) -> Estimate:
    """The share of `num_found` in `num` > 0 with its 95 % interval: Wilson (1927), J. Am. Stat. Assoc. 22, 209."""
    share = num_found / num
    centre = share + _Z**2 / (2 * num)
    spread = _Z * math.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
    scale = 1 + _Z**2 / num
    return Estimate(num_found, num, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


@dataclass(frozen=True)
class Trust:
    """What a run knows about its ranking of one split.

    Attributes:
        canary_suspicion: (K,) ascending suspicion of the canaries whose planted label was scored.
        num_canaries: number of all that were planted in this split.
        precision: share of wrong labels among those that people judged; None without a verdict.
        latest: the same of the last `NUM_LATEST` verdicts: what the review still finds.
    """

    canary_suspicion: npt.NDArray[np.float64]
    num_canaries: int
    precision: Estimate | None
    latest: Estimate | None

    def recall(self, suspicion: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
        """(N,) share of canaries that are at least as suspicious as each of N values; None if it is not known."""
        if len(self.canary_suspicion) == 0:
            return None
        before = np.searchsorted(self.canary_suspicion, suspicion, side="left")
        return 1 - before / len(self.canary_suspicion)

    def recall_at(self, suspicion: float) -> Estimate | None:
        """The same at one value, with its interval."""
        num = len(self.canary_suspicion)
        found = num - int(np.searchsorted(self.canary_suspicion, suspicion, side="left"))
        return wilson(found, num) if num else None

    def most(self) -> float | None:
        """The suspicion down to which the share `MOST` of the canaries is found; None if it is not known."""
        num = len(self.canary_suspicion)
        return float(self.canary_suspicion[num - math.ceil(MOST * num)]) if num else None

    def sentences(self, rank: int, suspicion: float | None, rank_of_most: int | None = None) -> list[str]:
        """For people: recall down to a rank (whose sample has this `suspicion`), the rank of `most`, and precision."""
        recall = self._recall_sentence(rank, suspicion)
        if rank_of_most:
            recall += f" {100 * MOST:.0f} % are found by rank {rank_of_most:,}."
        return [recall, self._precision_sentence()]

    def _recall_sentence(self, rank: int, suspicion: float | None) -> str:
        found = None if suspicion is None else self.recall_at(suspicion)
        if found is not None:
            return f"recall: down to rank {rank}, {found.text()} canaries are found."
        if len(self.canary_suspicion):
            return "recall: nothing is left in the queue that it could be told for."
        if self.num_canaries:
            return f"recall is not known yet: none of the {self.num_canaries} canaries has been scored so far."
        return "recall is not known: train with --canaries 0.02."

    def _precision_sentence(self) -> str:
        if self.precision is None or self.latest is None:
            return f"precision is not known: no verdicts yet; relabel, discard, or tag {RIGHT_TAG}."
        latest = (
            f" Of the last {self.latest.num}: {self.latest.text()}." if self.precision.num > self.latest.num else ""
        )
        return f"precision: of the labels that people judged, {self.precision.text()} were wrong.{latest}"


def measure(run: RunDir, scores: pa.Table, split: str) -> Trust:
    """What a run knows about its ranking of `split`.

    Args:
        run: an open run.
        scores: as `scorekeeper.refresh` returns them.
        split: the verdicts and canaries of this split count.
    """
    num_canaries, suspicion = _canary_suspicion(run, scores, split)
    in_split = verdicts(run, split)
    wrong = list(in_split.values())
    latest = wrong[-NUM_LATEST:]
    return Trust(
        canary_suspicion=suspicion,
        num_canaries=num_canaries,
        precision=wilson(sum(wrong), len(wrong)) if wrong else None,
        latest=wilson(sum(latest), len(latest)) if latest else None,
    )


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


def _canary_suspicion(run: RunDir, scores: pa.Table, split: str) -> tuple[int, npt.NDArray[np.float64]]:
    """How many canaries the split has, and the ascending suspicion of those whose planted label was scored."""
    wrong = canaries(run)
    if not wrong:
        return 0, np.array([], np.float64)
    names = classes(run)
    in_split = _labels(run, list(wrong), split)
    known = [(i, names.index(wrong[i])) for i in in_split if wrong[i] in names]
    sown = pa.table(
        {"sample_id": pa.array([i for i, _ in known], pa.int64()), "sown": pa.array([k for _, k in known], pa.int32())}
    )
    rows = scores.select(["sample_id", "label", "suspicion"]).join(sown, "sample_id", join_type="inner")
    scored = rows.filter((pc.field("label") == pc.field("sown")) & pc.field("suspicion").is_valid())
    suspicion = np.asarray(scored["suspicion"].to_numpy(), dtype=np.float64)
    return len(known), np.sort(suspicion[~np.isnan(suspicion)])


def clock_sentence(clock: Clock) -> str:
    """The memorisation clock for people."""
    known = [share for share in clock.changing if share == share]
    changing = f" {100 * known[-1]:.1f} % of the predictions changed in the last epoch." if known else ""
    if clock.num_epochs == 0:
        return "Nothing is ranked yet: no epoch is complete."
    first, last = (epoch + 1 for epoch in clock.window)
    if clock.t_star is None:
        return (
            f"memorisation clock: still learning after {clock.num_epochs} epochs, more of them improve the ranking; "
            f"it uses epochs {first} to {last}.{changing}"
        )
    return (
        f"memorisation clock: memorisation begins at epoch {clock.t_star + 1}; "
        f"the ranking uses epochs {first} to {last}.{changing}"
    )
