"""Part: a stretch of a watched run's samples, and what people decided about them, whichever objects carry them now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from litscope.watch.samples.ids import WithIds
from litscope.watch.samples.nesting import Ids, positions_of

_numbers = count()


class Part:
    """Samples with consecutive ids. Those of a `with_ids` data set are one part, however often it is made anew.

    Args:
        split: of the loader that showed it; of several, train before val before test.
        first_id: `sample_id` of its first sample.
        num_samples: how many it has.
        names: of its samples, where the data set has some; else they are numbered.
        space: where ids of a person's own count, if its batches carry those (`own_ids`); else empty.

    Attributes:
        numbers: a person's own ids of its samples, where they are numbers.
        prefix: of its keys, if they are numbers.
        keys: of its samples in the manifest, as far as they have been given.
        is_discarded: (num_samples,) bool, in the order of ids.
        is_over: whether the samplers of its data sets stop.
        last_round: the round of loaders in which one of it was met last; see `Roster.begin_round`.
        positions: (num_samples,) of its samples in the data set of which they were a subset when this process saw them
            first; None where they were none.
        was_carried: whether this process has seen a data set of it.
        number: which part it is, among all in this process.
    """

    def __init__(
        self,
        split: str,
        first_id: int,
        num_samples: int,
        names: list[str] | None = None,
        space: str = "",
        prefix: str | None = None,
    ) -> None:
        self.split, self.first_id, self.num_samples = split, first_id, num_samples
        self.names, self.space, self.prefix = names, space, prefix
        self.numbers: list[int] | None = None
        self.keys: list[str] = []
        self.is_discarded: NDArray[np.bool_] = np.zeros(num_samples, bool)
        self.is_over = False
        self.last_round = -1
        self.positions: Ids | None = None
        self.was_carried = False
        self.number = next(_numbers)
        self._labels: dict[int, int] = {}
        self._carriers: WeakKeyDictionary[WithIds, Ids] = WeakKeyDictionary()
        self._bases: list[tuple[Callable[[], Any], Ids]] = []

    @property
    def is_own(self) -> bool:
        """Whether its batches carry ids of a person's own."""
        return bool(self.space)

    @property
    def ids(self) -> slice:
        """Where its samples lie among all of the run."""
        return slice(self.first_id, self.first_id + self.num_samples)

    def holds(self, sample_id: int) -> bool:
        """Whether a sample is one of it."""
        return self.first_id <= sample_id < self.first_id + self.num_samples

    # ---- data sets that carry it -----------------------------------------------------------------

    @property
    def data(self) -> WithIds | None:
        """A data set that carries it now, if there is one."""
        return next(iter(self._carriers), None)

    @property
    def is_steered(self) -> bool:
        """Whether a loader that follows discards draws from it, or none is there at the moment."""
        return not self._carriers or any(data.is_steered for data in self._carriers)

    def carry(self, data: WithIds, order: Ids | None = None) -> None:
        """Have the items of a data set be these samples, with what was decided about them.

        Args:
            order: (N,) place in this part of each item; None: as they are.
        """
        if order is None:
            order = np.arange(self.num_samples)
        if not self.was_carried and (positions := positions_of(data.dataset)) is not None:
            self.positions = np.empty(self.num_samples, np.int64)
            self.positions[order] = positions
        self.was_carried = True
        self._carriers[data] = order
        if self.order_of(data.dataset) is None and hasattr(type(data.dataset), "__weakref__"):
            self._bases.append((ref(data.dataset), order))
        data.is_known_as(self.first_id, order)
        data.known_by = self.number
        self._tell(data)

    def is_carried_by(self, data: WithIds) -> bool:
        """Whether the items of a data set are these samples; then they have their ids again."""
        if data not in self._carriers:
            return False
        if data.known_by != self.number:  # another run of this process had it meanwhile
            self.carry(data, self._carriers[data])
        return True

    def order_of(self, dataset: Any) -> Ids | None:
        """The place here of each item of the very data set that one of its `with_ids` wraps; None for another."""
        return next((order for base, order in self._bases if base() is dataset), None)

    # ---- what people decide ----------------------------------------------------------------------

    def follow(self, discarded: Iterable[int], labels: Mapping[int, int]) -> None:
        """Leave these of its samples out, and give these other labels; what held before holds no longer."""
        self.is_discarded = np.zeros(self.num_samples, bool)
        self.is_discarded[[sample_id - self.first_id for sample_id in discarded if self.holds(sample_id)]] = True
        self._labels = {sample_id: label for sample_id, label in labels.items() if self.holds(sample_id)}
        for data in self._carriers:
            if data.known_by == self.number:
                self._tell(data)

    def is_relabelled(self, sample_id: int) -> bool:
        """Whether people gave it another label."""
        return sample_id in self._labels

    def end(self, is_over: bool) -> None:
        """Have the samplers of its data sets stop."""
        self.is_over = is_over
        for data in self._carriers:
            data.is_over = is_over

    def hold(self) -> None:
        """Have its data sets follow again what was decided, after `release`."""
        for data in list(self._carriers):
            self.carry(data, self._carriers[data])

    def release(self) -> None:
        """The run is over: its data sets are as their owner made them."""
        for data in self._carriers:
            if data.known_by == self.number:
                data.leave_out(np.zeros(0, np.int64))
                data.relabel({})
                data.is_over = False

    def _tell(self, data: WithIds) -> None:
        data.leave_out(self.first_id + np.flatnonzero(self.is_discarded))
        data.relabel(self._labels)
        data.is_over = self.is_over
