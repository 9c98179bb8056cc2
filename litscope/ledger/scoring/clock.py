"""The memorisation clock: when a network stops learning the pattern and starts to learn samples by heart.

Wrong labels are found best in the epochs before. Two signs tell that they are over, whichever comes first. The share of
training predictions that change from one epoch to the next reaches a first local minimum, t*, and rises (the
"label wave"; Yuan et al., ICLR 2024): what was stable begins to move again. Or hardly anything is left to change: a
small, strong network learns right and wrong labels in one go, and the share falls to nothing without a
minimum. Pure arithmetic on one number per epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

NOISE = 1.5
"""A fall or a rise counts if it is larger than this many standard errors of the share."""

LITTLE = 0.05
"""Hardly anything is left to change when the share has fallen to this part of its greatest value."""

HALF = 0.5
"""The network has learned what most samples have in common when the share has fallen to this part."""


class Clock(NamedTuple):
    """Where a run stands on the way from learning to memorising.

    Attributes:
        changing: per epoch, the share of training predictions that differ from the sample's visit
            before; NaN where there is none, as in the first epoch.
        t_star: the epoch in which memorisation starts; None while it is not reached, or where learning settled before.
        window: first and last epoch (inclusive) that the suspicion ranking looks at.
        num_epochs: complete epochs that were counted.
        settled: the first epoch in which hardly any prediction changed, so that all was learned in those before; None
            while predictions change, or where memorisation started before.
    """

    changing: list[float]
    t_star: int | None
    window: tuple[int, int]
    num_epochs: int
    settled: int | None = None

    @property
    def is_learning(self) -> bool:
        """Whether the network still learns what samples have in common, so that the ranking is not what it will be.

        Its predictions change half as much as at most, or more; or nothing can be said of it, before the second epoch.
        """
        known = [share for share in self.changing if not math.isnan(share)]
        if self.t_star is not None or self.settled is not None or not self.num_epochs:
            return False
        return not known or 0 < known[-1] >= HALF * max(known)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: an epoch without a share is null."""
        return {**self._asdict(), "changing": [None if math.isnan(share) else share for share in self.changing]}


def read_clock(changing: Sequence[float], num_compared: Sequence[int]) -> Clock:
    """The clock after the epochs so far.

    The window ends with t*, or with the last epoch in which something was learned, else with the last epoch. It begins
    where half of the way to its end is behind or, if that is earlier, in the epoch after which predictions
    change half as much as they did: from there on the network knows what it is looking at, and each further epoch can
    only lose wrong labels to memory.

    Args:
        changing: per epoch from 0, the share of changed predictions, or NaN.
        num_compared: per epoch, the number of predictions that this is a share of.
    """
    t_star = first_minimum(changing, num_compared)
    settled = first_fall(changing, num_compared, LITTLE)
    if settled is not None and (t_star is None or settled - 1 <= t_star):
        t_star, end = None, settled - 1
    else:
        settled, end = None, max(0, len(changing) - 1) if t_star is None else t_star
    calmed = first_fall(changing, num_compared, HALF)
    start = end // 2 if calmed is None else min(end // 2, calmed - 1)
    return Clock(list(changing), t_star, (start, end), len(changing), settled)


def first_fall(changing: Sequence[float], num_compared: Sequence[int], part: float) -> int | None:
    """The first epoch whose share is at most `part` of the greatest before it, or None while there is none.

    The fall must be larger than 1.5 standard errors, as for `first_minimum`. It depends on no later epoch.
    """
    top, num_at_top = 0.0, 1
    for epoch, (share, n) in enumerate(zip(changing, num_compared, strict=True)):
        if math.isnan(share):
            continue
        if share >= top:
            top, num_at_top = share, n
        elif share <= part * top and top - share > _noise(top, num_at_top):
            return epoch
    return None


def first_minimum(changing: Sequence[float], num_compared: Sequence[int]) -> int | None:
    """The epoch of the first local minimum of the smoothed share, or None while there is none.

    The curve is smoothed by a centred moving average of three epochs. At its beginning the average is
    over two (there is no epoch before); its last epoch has no value yet (the epoch after is missing).
    So a minimum that was found stays where it is, whatever comes later.

    A share of n predictions is uncertain by its standard error sqrt(s (1 - s) / n). A minimum is the
    lowest point after a fall, and before a rise, of more than 1.5 of these (at the higher of the two
    points, n over the averaged epochs). So neither a plateau, at zero or elsewhere, nor a single
    changed prediction among a hundred is one.
    """
    known = [(e, s, n) for e, (s, n) in enumerate(zip(changing, num_compared, strict=True)) if not math.isnan(s)]
    averaged = [known[max(0, i - 1) : i + 2] for i in range(len(known) - 1)]
    curve = [(sum(s for _, s, _ in three) / len(three), sum(n for _, _, n in three)) for three in averaged]
    low: int | None = None
    top = 0
    for i, (share, n) in enumerate(curve):
        if low is None:
            if share >= curve[top][0]:
                top = i
            elif curve[top][0] - share > _noise(*curve[top]):
                low = i
        elif share < curve[low][0]:
            low = i
        elif share - curve[low][0] > _noise(share, n):
            return known[low][0]
    return None


def _noise(share: float, n: int) -> float:
    return NOISE * math.sqrt(share * (1 - share) / n)
