"""Roster: the samples of a watched run. It knows the data sets, their ids, and the manifest of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from litscope.console import warn
from litscope.data.content import match
from litscope.data.manifest import UNLABELLED, Manifest, build_manifest
from litscope.errors import ConfigError, RunError
from litscope.ledger.reader import LedgerReader
from litscope.live.records import SPLITS
from litscope.rundir import RunDir
from litscope.watch.ids import Ids, WithIds, classes_of, labels_of, numbered

_PARTS = "watched"
"""Key in the manifest's encoding: [split, first id, number] of each data set, so that a resumed run finds its ids."""


@dataclass
class Part:
    """One data set of a run.

    Attributes:
        split: train, val or test.
        first_id: `sample_id` of its first sample.
        num_samples: how many it has.
        data: None if the batches carry a person's own ids, or its loader was not seen in this attempt.
    """

    split: str
    first_id: int
    num_samples: int
    data: WithIds | None = None


class Roster:
    """All samples of a run; grows when a loader of a new data set is seen, or an id that no data set has.

    Args:
        class_names: as a person gave them; else those of the data sets, else 0, 1, ...
    """

    def __init__(self, class_names: tuple[str, ...] | None) -> None:
        self.parts: list[Part] = []
        self._given = class_names
        self._names = class_names
        self._num_classes = len(class_names or ())
        self._keys: list[str] = []
        self._splits: list[str] = []
        self._labels: Ids = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes known so far."""
        known = self._names or ()
        return known + tuple(str(i) for i in range(len(known), max(1, self._num_classes)))

    @property
    def num_unlabelled(self) -> int:
        """Samples whose label is not known yet."""
        return int((self._labels == UNLABELLED).sum())

    def take_up(self, manifest: Manifest) -> None:
        """Go on with the samples of an earlier attempt."""
        self._keys, self._splits = list(manifest.keys), list(manifest.splits)
        self._labels = manifest.labels.copy()
        self._names = self._given or manifest.classes
        self._num_classes = max(self._num_classes, manifest.num_classes)
        known = self.parts
        self.parts = [Part(*part) for part in manifest.encoding.get(_PARTS, ())]
        for part in known:
            assert part.data is not None
            self.add(part.data, part.split)

    def add(self, data: WithIds, split: str, indices: Ids | None = None) -> None:
        """Take in a data set, or a subset of one, and give it its ids. A known one stays as it is.

        Args:
            indices: those that the split has; None: all.

        Raises:
            ConfigError: if it has no label that fits the classes.
        """
        if all(part.data is not data for part in self.parts):
            self._add_part(data, split)
        if indices is not None:
            for sample_id in data.ids(indices).tolist():
                self._splits[sample_id] = split

    def _add_part(self, data: WithIds, split: str) -> None:
        count = len(data)
        if (known := self._known_part(data, split)) is not None:
            known.data = data
            return
        data.first_id = len(self)
        self.parts.append(Part(split, len(self), count, data))
        labels = labels_of(data.dataset)
        names = classes_of(data.dataset)
        self._names = self._names or names
        if labels is not None and count:
            self._num_classes = max(self._num_classes, int(labels.max()) + 1)
        self._keys += data.keys(split)
        self._splits += [split] * count
        self._labels = np.append(self._labels, np.full(count, UNLABELLED) if labels is None else labels)
        if self._given is not None and self._num_classes > len(self._given):
            raise ConfigError(
                f"class_names has {len(self._given)} names, but a label of {split} is {self._num_classes - 1}."
            )

    def _known_part(self, data: WithIds, split: str) -> Part | None:
        """The part of an earlier attempt that a data set is; its items then have the ids that they had, in any order.

        Raises:
            RunError: if there were as many samples in this split, and others.
        """
        count, changes = len(data), ""
        for part in self.parts:
            if part.data is not None or (part.split, part.num_samples) != (split, count):
                continue
            then = slice(part.first_id, part.first_id + count)
            labels = labels_of(data.dataset)
            labels_then = None if labels is None else self._labels[then]  # else there is nothing to compare
            found = match(_told(data.keys(split), labels), _told(self._keys[then], labels_then))
            if not len(found.new) and not len(found.gone):
                data.is_known_as(part.first_id, found.sample_id)
                if found.differences():
                    warn(f"the samples of {split} are not as they were: {found.differences()}")
                return part
            changes = found.differences()
        if changes:
            raise RunError(
                f"The data of {split} hold other samples than when the run began, of {count:,}: {changes}. Go on with "
                "the same samples (with_ids(..., keys=...) names them, so that they may be in another order), or start "
                "a run of its own: another run_dir."
            )
        return None

    def split_of(self, data: WithIds, indices: Ids | None) -> str | None:
        """The split of a loader's data set, if it is known, else None."""
        if all(part.data is not data for part in self.parts) or not len(data):
            return None
        first = 0 if indices is None or not len(indices) else int(indices[0])
        return self._splits[int(data.ids()[first])]

    def has_classes(self, count: int) -> None:
        """Learn from the logits that there are `count` classes."""
        self._num_classes = max(self._num_classes, count)

    def learn(self, ids: Ids, labels: Ids, split: str) -> bool:
        """Take in unknown labels, and ids that no data set has, from what was recorded. True if there were any."""
        new = int(ids.max(initial=-1)) + 1
        is_news = new > len(self)
        if is_news:
            more = range(len(self), new)
            if self.parts and self.parts[-1].data is None and self.parts[-1].split == split:
                self.parts[-1].num_samples += len(more)
            else:
                self.parts.append(Part(split, len(self), len(more)))
            self._keys += [numbered(split, i) for i in more]
            self._splits += [split] * len(more)
            self._labels = np.append(self._labels, np.full(len(more), UNLABELLED))
        unknown = (self._labels[ids] == UNLABELLED) & (labels >= 0)
        self._labels[ids[unknown]] = labels[unknown]
        self._num_classes = max(self._num_classes, int(self._labels.max(initial=-1)) + 1)
        return is_news or bool(unknown.any())

    def is_in(self, split: str) -> Any:
        """(N,) bool: the samples of a split."""
        return np.asarray(self._splits, dtype=object) == split

    def ids_of(self, split: str) -> Ids:
        """The samples of a split that are not discarded."""
        return np.flatnonzero(self.is_in(split) & ~self.is_discarded())

    def is_discarded(self) -> Any:
        """(N,) bool: which samples people left out."""
        found = np.zeros(len(self), bool)
        for part in self.parts:
            if part.data is not None:
                found[part.data.ids()] = part.data.is_discarded
        return found

    def part_of(self, sample_id: int) -> Part | None:
        """The data set that a sample belongs to."""
        return next((p for p in self.parts if p.first_id <= sample_id < p.first_id + p.num_samples), None)

    def manifest(self) -> Manifest:
        """All samples as a run's manifest."""
        parts = [[part.split, part.first_id, part.num_samples] for part in self.parts]
        return build_manifest(
            pa.array(self._keys, pa.string()),
            self._labels,
            self.classes,
            splits=self._splits,
            encoding={"kind": "watched", _PARTS: parts},
        )


def learn_from_rows(run: RunDir, roster: Roster, min_epoch: int) -> bool:
    """Teach a roster the labels and ids that no data set told, from the rows since an epoch. True if there were any."""
    rows = LedgerReader(run).table(["sample_id", "label", "split"], min_epoch=min_epoch)
    is_news = False
    for split in SPLITS:
        at = np.asarray(rows["split"].cast("string").to_numpy(zero_copy_only=False) == split)
        ids = rows["sample_id"].to_numpy()[at]
        if len(ids):
            is_news |= roster.learn(ids, rows["label"].to_numpy()[at].astype(np.int64), split)
    return is_news


def _told(keys: Sequence[str], labels: Ids | None) -> Manifest:
    """Samples as `match` compares them."""
    known = np.full(len(keys), UNLABELLED) if labels is None else labels
    classes = [str(i) for i in range(max(1, int(known.max(initial=-1)) + 1))]
    return build_manifest(pa.array(keys, pa.string()), known, classes)
