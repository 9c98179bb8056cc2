"""Recall of the ranking, told by canaries: wrong labels that the run planted itself. No torch.

Canaries are of two kinds (`CANARY_KINDS`). Labels drawn from how the network confuses classes ("classes") are easier to
find than most real errors; labels drawn from what it thinks of each sample ("sample") are its most tempting mistakes,
and harder. So recall is told as between what the two say, each with its sampling error. And n samples hold at most n
of the wrong labels: at ranks that are too shallow for the share that the canaries claim, nothing is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST = 0.8
"""`Recall.ranks_of_most` are those by which this share of the canaries is found."""

_Z = 1.959964  # of the standard normal distribution, for 95 %

_WORDS = {"classes": "drawn from confused classes", "sample": "drawn for each sample"}


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
    low, high = _limits(np.array([num_found]), num)
    return Estimate(num_found, num, float(low[0]), float(high[0]))


def _limits(num_found: npt.NDArray[np.int64], num: int) -> tuple[Floats, Floats]:
    """(N,) each: the lower and the upper limit of `wilson`."""
    share = num_found / num
    centre = share + _Z**2 / (2 * num)
    spread = _Z * np.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
    scale = 1 + _Z**2 / num
    return np.maximum(0.0, (centre - spread) / scale), np.minimum(1.0, (centre + spread) / scale)


class Recall(NamedTuple):
    """The recall of a queue of N samples at each of its ranks, which count from 1.

    Attributes:
        low: (N,) least share of the wrong labels that is found down to the rank: the lower 95 % limit of the kind that
            finds fewer. NaN where it is not known.
        high: (N,) greatest share: the upper limit of the kind that finds more. NaN where it is not known.
        told_from: the first rank at which recall is told; None if there is none.
        ranks_of_most: by which the share `MOST` of the canaries of the one and of the other kind is found, the
            smaller first; None if recall is told nowhere.
    """

    low: Floats
    high: Floats
    told_from: int | None
    ranks_of_most: tuple[int, int] | None


@dataclass(frozen=True)
class CanaryRanks:
    """Where the canaries of a split stand in its ranking.

    Attributes:
        suspicion: kind -> (K,) ascending suspicion of the canaries whose planted label was scored. No empty ones.
        num_planted: number of all that were planted in the split.
        others: (M,) ascending suspicion of the samples of the split that are no canaries.
        num_wrong: about how many of these are wrong (`trust`).
        can_plant: whether such a run can be made with canaries.
    """

    suspicion: Mapping[str, Floats]
    num_planted: int
    others: Floats
    num_wrong: int
    can_plant: bool = True

    def found(self, suspicion: float) -> dict[str, Estimate]:
        """Kind -> the share of its canaries that are at least as suspicious as this."""
        at = np.array([suspicion])
        return {kind: wilson(int(self._num_found(kind, at)[0]), len(own)) for kind, own in self.suspicion.items()}

    def recall(self, queue: Floats) -> Recall:
        """The recall at each rank.

        Args:
            queue: (N,) descending suspicion of the samples that are left to be looked at.
        """
        unknown = np.full(len(queue), np.nan)
        told_from = self._told_from(queue)
        if told_from is None:
            return Recall(unknown, unknown, None, None)
        limits = {kind: _limits(self._num_found(kind, queue), len(own)) for kind, own in self.suspicion.items()}
        is_told = np.arange(1, len(queue) + 1) >= told_from
        low = np.min([low for low, _ in limits.values()], axis=0) if "sample" in limits else unknown
        high = np.max([high for _, high in limits.values()], axis=0) if "classes" in limits else unknown
        ranks = [self._rank_of_most(kind, queue, told_from) for kind in self.suspicion]
        return Recall(
            np.where(is_told, low, np.nan), np.where(is_told, high, np.nan), told_from, (min(ranks), max(ranks))
        )

    def _num_found(self, kind: str, suspicion: Floats) -> npt.NDArray[np.int64]:
        """(N,) how many canaries of a kind are at least as suspicious as each of N values."""
        return len(self.suspicion[kind]) - np.searchsorted(self.suspicion[kind], suspicion, side="left")

    def _told_from(self, queue: Floats) -> int | None:
        """The rank after the last one down to which the canaries claim more wrong labels than there are samples.

        What somebody has decided on is no longer in the queue, but was looked at.
        """
        if not self.suspicion or not len(queue):
            return None
        shares = [self._num_found(kind, queue) / len(own) for kind, own in self.suspicion.items()]
        num_seen = len(self.others) - np.searchsorted(self.others, queue, side="left")
        is_too_shallow = np.max(shares, axis=0) * self.num_wrong > num_seen
        first = int(np.flatnonzero(is_too_shallow).max(initial=-1)) + 2
        return first if first <= len(queue) else None

    def _rank_of_most(self, kind: str, queue: Floats, told_from: int) -> int:
        wanted = math.ceil(MOST * len(self.suspicion[kind]))
        first = int(np.searchsorted(self._num_found(kind, queue), wanted, side="left")) + 1
        return min(max(first, told_from), len(queue))

    def sentence(self, queue: Floats, num_shown: int) -> str:
        """For people: the recall of a queue down to the rank that is shown, or why it is not told.

        Args:
            queue: as for `recall`.
            num_shown: how many of them are shown.
        """
        if not self.suspicion:
            if self.num_planted:
                return f"recall is not known yet: none of the {self.num_planted} canaries has been scored so far."
            if not self.can_plant:
                return "recall is not known: it takes canaries, which only a run of `litscope fit` plants."
            return "recall is not known: train with --canaries 0.02."
        recall = self.recall(queue)
        if recall.told_from is None or recall.ranks_of_most is None:
            return "recall: nothing is left in the queue that it could be told for."
        rank = max(num_shown, 1)
        if rank >= recall.told_from:
            told = f"recall: down {self._told(queue, recall, rank)}"
        else:
            few = f"about {self.num_wrong:,} labels are wrong, so the first {rank:,} samples are too few to tell it."
            told = f"recall: {few} Down {self._told(queue, recall, recall.told_from)}"
        first, last = recall.ranks_of_most
        by = f"rank {first:,}" if first == last else f"rank {first:,} to {last:,}"
        return f"{told} {100 * MOST:.0f} % are found by {by}."

    def _told(self, queue: Floats, recall: Recall, rank: int) -> str:
        low, high = recall.low[rank - 1], recall.high[rank - 1]
        if math.isnan(low):
            share = f"at most {100 * high:.0f} %"
        elif math.isnan(high):
            share = f"at least {100 * low:.0f} %"
        else:
            share = f"between {100 * low:.0f} and {100 * high:.0f} %"
        found = self.found(float(queue[rank - 1]))
        canaries = ", ".join(f"{one.num_found} of {one.num} {_WORDS[kind]}" for kind, one in found.items())
        return f"to rank {rank:,}, {share} of the wrong labels are found (canaries: {canaries})."

    def to_dict(self, queue: Floats, num_shown: int) -> dict[str, Any]:
        """For programs: what `sentence` is made of."""
        recall, rank = self.recall(queue), max(1, num_shown)
        is_told = recall.told_from is not None and recall.told_from <= rank <= len(queue)
        return {
            "rank": num_shown,
            "low": _known(recall.low[rank - 1]) if is_told else None,
            "high": _known(recall.high[rank - 1]) if is_told else None,
            "told_from_rank": recall.told_from,
            "ranks_of_80_percent": recall.ranks_of_most,
            "canaries": {
                kind: one._asdict() for kind, one in (self.found(float(queue[rank - 1])) if len(queue) else {}).items()
            },
            "num_canaries": self.num_planted,
            "num_wrong": self.num_wrong,
        }


def _known(share: float) -> float | None:
    """None for NaN."""
    return None if math.isnan(share) else float(share)
