"""Redrawn: an epoch whose samples were changed while it ran: what it had drawn by then, and what is left. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from litscope.data.sampler import EpochOrder, Ids, even, spread


@dataclass(frozen=True)
class Redrawn:
    """An epoch whose samples were changed while it ran.

    Attributes:
        first: number of the batch before which it was changed.
        rest: ids that were still to come then, of all ranks, in their order.
        drawn: ids that this epoch had drawn by then.
    """

    first: int
    rest: Ids
    drawn: Ids

    def at(self, number: int, num_batches: int) -> Redrawn:
        """The same, as it stands before batch `number` of `num_batches`."""
        starts = [start for start, _ in even(len(self.rest), num_batches - self.first)]
        done = [*starts, len(self.rest)][number - self.first]
        return Redrawn(number, self.rest[done:], np.concatenate([self.drawn, self.rest[:done]]))


def cut_rest(order: EpochOrder, num_drawn: int, num_steps: int, ids: Ids) -> list[Ids]:
    """A rank's share of what is left of an epoch whose samples were changed while it ran."""
    return spread(ids[num_drawn:], num_steps, order.rank, order.world)
