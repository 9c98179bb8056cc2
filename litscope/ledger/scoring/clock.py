"""The memorisation clock: when a network stops learning the pattern and starts to learn samples by heart.

Wrong labels are found best in the epochs before. The epoch t* in which memorisation starts is where
the share of training predictions that change from one epoch to the next has its first local minimum
(the "label wave"; Yuan et al., ICLR 2024). Pure arithmetic on one number per epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

NOISE = 1.5
"""A fall or a rise counts if it is larger than this many standard errors of the share."""


class Clock(NamedTuple):
    """Where a run stands on the way from learning to memorising.

    Attributes:
        changing: per epoch, the share of training predictions that differ from the sample's visit
            before; NaN where there is none, as in the first epoch.
        t_star: the epoch in which memorisation starts; None while it is not reached.
        window: first and last epoch (inclusive) that the suspicion ranking looks at.
        num_epochs: complete epochs that were counted.
    """

    changing: list[float]
    t_star: int | None
    window: tuple[int, int]
    num_epochs: int


def read_clock(changing: Sequence[float], num_compared: Sequence[int]) -> Clock:
    """The clock after the epochs so far.

    Args:
        changing: per epoch from 0, the share of changed predictions, or NaN.
        num_compared: per epoch, the number of predictions that this is a share of.
    """
    t_star = first_minimum(changing, num_compared)
    end = max(0, len(changing) - 1) if t_star is None else t_star
    return Clock(list(changing), t_star, (end // 2, end), len(changing))


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
