"""Roster: the samples of a watched run. It knows their parts, ids, splits and labels, and the manifest of all.

A part of the data is what its split, length, keys and labels say, whatever object carries it: a data set that is
wrapped anew in each epoch, or in a `setup()` that runs again, finds the samples that it had (`identity`). A sample has
one split: of several loaders that show it, train wins, then val.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from litscope.console import warn
from litscope.data.manifest import SPLITS, UNLABELLED, Manifest, build_manifest
from litscope.errors import ConfigError
from litscope.watch.samples.drawn import Drawn
from litscope.watch.samples.identity import Told, find_part
from litscope.watch.samples.ids import WithIds
from litscope.watch.samples.keys import KeyGiver
from litscope.watch.samples.nesting import Ids, classes_of, labels_of, positions_of
from litscope.watch.samples.own_ids import Stretch
from litscope.watch.samples.parts import Part

_PARTS = "watched"
"""Key in the manifest's encoding: what a resumed run has to know of each part to find its samples."""

_NONE = len(SPLITS)
"""Code of a sample in no split, beside the positions in `SPLITS`."""


class Roster:
    """All samples of a run; grows when a loader of a new data set is seen, or an id that no data set has.

    Args:
        class_names: as a person gave them; else those of the data sets, else 0, 1, ...

    Attributes:
        parts: of its samples, in the order of ids.
        is_taken_up: whether it goes on with the samples of an earlier attempt.
    """

    def __init__(self, class_names: tuple[str, ...] | None) -> None:
        self.parts: list[Part] = []
        self.is_taken_up = False
        self._given = class_names
        self._names = class_names
        self._num_classes = len(class_names or ())
        self._codes = np.zeros(0, np.int8)
        self._labels: Ids = np.zeros(0, np.int64)
        self._round = 0
        self._has_unknown_splits = False
        self._said: set[str] = set()
        self._is_settled = False
        self._met: list[tuple[WithIds, str, Ids | None]] = []

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes known so far."""
        known = self._names or ()
        return known + tuple(str(i) for i in range(len(known), max(1, self._num_classes)))

    @property
    def has_unknown(self) -> bool:
        """Whether rows could still tell a label, or of which split a sample is."""
        is_split_unknown = self._has_unknown_splits and bool((self._codes == _NONE).any())
        return is_split_unknown or bool((self._labels == UNLABELLED).any())

    # ---- data sets ---------------------------------------------------------------------------------

    def begin_round(self) -> None:
        """The loaders that are met from now on come after those before, and may be the same ones made anew.

        Data sets of one round stand side by side: however alike they are, they are two.
        """
        self._round += 1

    def add(
        self,
        data: WithIds,
        split: str,
        indices: Ids | None = None,
        *,
        is_exact: bool = True,
        claim: Callable[[int], int] | None = None,
    ) -> None:
        """Take in a data set, or a subset of one, and give it its ids. A known one has those that it had.

        Args:
            indices: those that the split has; None: all.
            is_exact: whether it is known which items the split has; else rows will tell.
            claim: of so many samples that are new: the first id.

        Raises:
            ConfigError: if it has a label for which there is no class.
            RunError: if it holds other samples than when the run began.
        """
        part = next((part for part in self.parts if part.is_carried_by(data)), None)
        if part is None:
            told = Told(data, split, indices, labels_of(data.dataset), positions_of(data.dataset))
            part = find_part(told, self.parts, self._labels, self._codes, self._round)
        if part is None:
            part = self._new_part(data, split, len(self) if claim is None else claim(len(data)))
        part.last_round = self._round
        if not self._is_settled:
            self._met.append((data, split, indices if is_exact else np.zeros(0, np.int64)))
        part.split = min(part.split, split, key=_rank)
        if is_exact:
            ids = data.ids(indices)
            before = self._codes[ids]
            if len(ids) and split not in self._said and (before < _rank(split)).all():
                self._said.add(split)
                warn(f"a loader of {split} shows samples of {SPLITS[before.max()]}, and they count as those")
            self._codes[ids] = np.minimum(before, _rank(split))
        else:
            self._has_unknown_splits = True

    def _new_part(self, data: WithIds, split: str, first_id: int) -> Part:
        assert first_id == len(self), "samples of other parts lie between"
        count = len(data)
        labels, names = labels_of(data.dataset), classes_of(data.dataset)
        num_classes = (
            self._num_classes if labels is None or not count else max(self._num_classes, int(labels.max()) + 1)
        )
        if self._given is not None and num_classes > max(len(self._given), self._num_classes):
            raise ConfigError(f"class_names has {len(self._given)} names, but a label of {split} is {num_classes - 1}.")
        self._num_classes, self._names = num_classes, self._names or names
        part = Part(split, first_id, count, data.names())
        self.parts.append(part)
        self._grow(count, _NONE, labels)
        part.carry(data)
        return part

    def _grow(self, count: int, code: int, labels: Ids | None = None) -> None:
        self._codes = np.append(self._codes, np.full(count, code, np.int8))
        self._labels = np.append(self._labels, np.full(count, UNLABELLED) if labels is None else labels)

    def take_up(self, manifest: Manifest) -> None:
        """Go on with the samples of an earlier attempt."""
        met, self._met, self.is_taken_up = self._met, [], True
        self.settle()
        self.begin_round()
        self._codes = np.array([_rank(split) for split in manifest.splits], np.int8)
        self._labels = manifest.labels.copy()
        self._names = self._given or manifest.classes
        self._num_classes = max(self._num_classes, manifest.num_classes)
        keys = manifest.keys.tolist()
        self.parts = [KeyGiver.read(part, keys) for part in manifest.encoding.get(_PARTS, ())]
        for data, split, indices in met:
            is_exact = indices is None or len(indices) > 0
            self.add(data, split, indices if is_exact else None, is_exact=is_exact)

    def settle(self) -> None:
        """No earlier attempt will be taken up any more."""
        self._is_settled, self._met = True, []

    def follow(self, discarded: Iterable[int], labels: Mapping[int, int]) -> None:
        """Leave samples out, and give some other labels, by `sample_id`; what held before holds no longer."""
        for part in self.parts:
            part.follow(discarded, labels)

    def end(self, split: str, is_over: bool) -> None:
        """Have the samplers of a split stop."""
        for part in self.parts:
            if part.split == split:
                part.end(is_over)

    def hold(self) -> None:
        """Have the data sets follow what was decided."""
        for part in self.parts:
            part.hold()

    def release(self) -> None:
        """The run is over: its data sets are as their owner made them."""
        for part in self.parts:
            part.release()

    # ---- what the rows tell ------------------------------------------------------------------------

    def take_own(self, stretch: Stretch) -> None:
        """Take in samples whose batches carry ids of a person's own."""
        first_id, split, space, own = stretch
        if first_id < len(self):
            return  # known from the manifest
        assert first_id == len(self), "samples of other parts lie between"
        names = None if isinstance(own[0], int) else [str(name) for name in own]
        part = Part(split, first_id, len(own), names, space)
        part.numbers = [int(number) for number in own] if names is None else None
        self.parts.append(part)
        self._grow(len(own), _rank(split))

    def has_classes(self, count: int) -> None:
        """Learn from the logits that there are `count` classes."""
        self._num_classes = max(self._num_classes, count)

    def learn(self, ids: Ids, labels: Ids, split: str) -> bool:
        """Take in unknown labels and splits from what was recorded of a split. True if there were any."""
        unknown = (self._labels[ids] == UNLABELLED) & (labels >= 0)
        self._labels[ids[unknown]] = labels[unknown]
        self._num_classes = max(self._num_classes, int(self._labels.max(initial=-1)) + 1)
        is_split_unknown = self._codes[ids] > _rank(split) if self._has_unknown_splits else np.zeros(len(ids), bool)
        self._codes[ids[is_split_unknown]] = _rank(split)
        return bool(unknown.any() or is_split_unknown.any())

    def other_labels(self, ids: Ids, labels: Ids) -> Ids:
        """(n, 3) those of the samples whose known label is another, which people did not change: their id, the known
        label and that of `labels`."""
        is_other = (self._labels[ids] >= 0) & (labels >= 0) & (self._labels[ids] != labels)
        is_other &= np.array([not self._is_relabelled(sample_id) for sample_id in ids.tolist()], bool)
        found: Ids = np.stack([ids, self._labels[ids], labels], axis=1)[is_other]
        return found

    def _is_relabelled(self, sample_id: int) -> bool:
        part = self.part_of(sample_id)
        return part is not None and part.is_relabelled(sample_id)

    # ---- who is what -------------------------------------------------------------------------------

    def split_of(self, drawn: Drawn | WithIds) -> str | None:
        """The split of all that a loader draws, or of a whole data set, if it is one and known, else None."""
        datasets = drawn.datasets if isinstance(drawn, Drawn) else [drawn]
        if not {data.known_by for data in datasets} <= {part.number for part in self.parts}:
            return None
        ids = drawn.ids()
        codes = np.unique(self._codes[ids]).tolist()
        return SPLITS[codes[0]] if len(codes) == 1 and codes[0] != _NONE else None

    def carries(self, split: str) -> bool:
        """Whether batches of a split have the ids of `with_ids`: some data set of it was met."""
        return any(
            not part.is_own and (part.split == split or bool((self._codes[part.ids] == _rank(split)).any()))
            for part in self.parts
        )

    def is_in(self, split: str) -> Any:
        """(N,) bool: the samples of a split."""
        return self._codes == _rank(split)

    def ids_of(self, split: str) -> Ids:
        """The samples of a split that are not discarded."""
        return np.flatnonzero(self.is_in(split) & ~self.is_discarded())

    def is_discarded(self) -> Any:
        """(N,) bool: which samples people left out."""
        found = np.zeros(len(self), bool)
        for part in self.parts:
            found[part.ids] = part.is_discarded
        return found

    def part_of(self, sample_id: int) -> Part | None:
        """The part that a sample belongs to."""
        at = bisect_right(self.parts, sample_id, key=lambda part: part.first_id) - 1
        while at >= 0 and not self.parts[at].num_samples:
            at -= 1
        return self.parts[at] if at >= 0 and self.parts[at].holds(sample_id) else None

    def part_carried_by(self, data: WithIds) -> Part | None:
        """The part whose samples a data set carries."""
        return next((part for part in self.parts if part.number == data.known_by), None)

    def manifest(self) -> Manifest:
        """All samples as a run's manifest."""
        giver = KeyGiver(self.parts)
        if said := giver.give():
            warn(said)
        return build_manifest(
            pa.array([key for part in self.parts for key in part.keys], pa.string()),
            self._labels,
            self.classes,
            splits=[(*SPLITS, "")[code] for code in self._codes],
            encoding={"kind": "watched", _PARTS: giver.describe()},
        )


def _rank(split: str) -> int:
    """The position of a split; of two, the smaller one wins."""
    return SPLITS.index(split) if split in SPLITS else _NONE
