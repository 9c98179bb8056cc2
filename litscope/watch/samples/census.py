"""Census: all processes of a watched run know the same samples, and the manifest in its folder lists them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litscope.claims import Guard, unguarded
from litscope.console import warn
from litscope.data.manifest import Manifest
from litscope.ledger.reader import LedgerReader
from litscope.live.ranks import Ranks
from litscope.live.records import SPLITS
from litscope.rundir import RunDir
from litscope.runs import is_watched
from litscope.watch.samples.drawn import Drawn
from litscope.watch.samples.ids import WithIds
from litscope.watch.samples.nesting import Ids
from litscope.watch.samples.own_ids import OwnIds, Stretch
from litscope.watch.samples.roster import Roster


class Census:
    """Keeps a roster, and its manifest on the disk.

    Args:
        roster: of the run.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._run: RunDir | None = None
        self._guard: Guard = unguarded
        self._own: OwnIds | None = None
        self._num_classes_written = 0
        self._said: set[str] = set()
        self._carried: dict[str, bool] = {}

    def open(self, run: RunDir, ranks: Ranks, step: int, guard: Guard = unguarded) -> OwnIds:
        """The run's folder is there: samples that come from now on are known to all processes alike.

        Args:
            step: optimizer steps that lie behind the weights; above 0 the run goes on.
            guard: asked before something is written.
        """
        if ranks.rank and step > 0:
            self.expect(run)  # rank 0 has
        self._roster.settle()
        self._run, self._ranks, self._guard = run, ranks, guard
        self._own = OwnIds(run.own_ids, lambda: len(self._roster), guard)
        return self._own

    def expect(self, run: RunDir) -> None:
        """The samples are those of a run that is there, if it is one that was watched."""
        if not self._roster.is_taken_up and run.is_run() and is_watched(run) and run.manifest.exists():
            self._roster.take_up(Manifest.read(run.manifest))

    def register(self, data: Drawn | WithIds, split: str) -> None:
        """Take in what a loader draws, or a whole data set. All ranks come here at the same point.

        Raises:
            ConfigError, RunError: as `Roster.add`.
        """
        before = len(self._roster)
        self._carried.clear()
        pieces = data.pieces() if isinstance(data, Drawn) else [(data, None)]
        is_exact = not isinstance(data, Drawn) or data.is_exact
        for one, indices in pieces:
            self._roster.add(one, split, indices, is_exact=is_exact, claim=self._claim)
        if isinstance(data, Drawn) and not data.is_exact and data.name not in self._said:
            self._said.add(data.name)
            count = sum(map(len, data.datasets))
            warn(
                f"{data.name} cannot be looked through: which of the {count:,} samples of its with_ids data sets it "
                "reads is not known before it does. They are recorded, and may be relabelled; discards cannot follow, "
                f"and only rows tell their split. Wrap the outermost data set instead: with_ids({data.name}(...))."
            )
        if self._run is not None and len(self._roster) != before and self._ranks.rank == 0:
            self.write()

    def carries(self, split: str) -> bool:
        """As `Roster.carries`, for every batch."""
        if split not in self._carried:
            self._carried[split] = self._roster.carries(split)
        return self._carried[split]

    def check(self, drawn: Drawn, split: str, ids: Tensor, label: Any) -> None:
        """Compare a loader's first batch with what is known of its samples: the items that were asked for, and their
        labels. Other labels are said; a data set may have given samples new ones, or show others in their place.

        Raises:
            ConfigError: as `Drawn.check`.
        """
        if drawn.is_another:
            drawn.is_another = False
            self.register(drawn, split)
            if self._ranks.rank == 0:
                self.write()
        if drawn.is_checked:
            return
        drawn.check(ids)
        labels = _class_indices(label, ids)
        if labels is None or self._ranks.rank or f"labels of {split}" in self._said:
            return
        other = self._roster.other_labels(ids.cpu().numpy(), labels)
        if len(other):
            self._said.add(f"labels of {split}")
            first, known, shown = other[0].tolist()
            warn(
                f"{len(other):,} of the {len(labels):,} samples of {split} in a batch have another label than before, "
                f"or than their data set tells: sample {first} has {shown}, and had {known}. Rows have the label of "
                "their batch, the manifest has the other. If other samples stand under the same keys now, name them: "
                "with_ids(dataset, keys=...)"
            )

    def _claim(self, count: int) -> int:
        if self._run is None or self._own is None:
            return len(self._roster)
        is_first = self._ranks.rank == 0
        first_id = int(self._ranks.first(self._own.claim(count, self._ranks.world_size == 1) if is_first else 0))
        self._take_own(first_id)
        return first_id

    def write(self) -> None:
        """Write the manifest. Rank 0 does."""
        assert self._run is not None
        self._guard()
        self._roster.manifest().write(self._run.manifest)
        self._num_classes_written = len(self._roster.classes)

    def share(self, min_epoch: int) -> None:
        """Know of what was recorded in this epoch and later. All ranks come here at the same point."""
        if self._ranks.rank == 0:
            self.learn(min_epoch)
        self._take_own(int(self._ranks.first(len(self._roster))))

    def learn(self, min_epoch: int) -> None:
        """Rank 0: learn labels, splits and ids that no data set told from the rows on the disk."""
        assert self._run is not None
        is_news = self._take_own(None) or self._num_classes_written != len(self._roster.classes)
        if not (is_news or self._roster.has_unknown):
            return
        rows = LedgerReader(self._run).table(["sample_id", "label", "split"], min_epoch=min_epoch)
        self._take_own(None)  # other processes write on; an id is on the disk before its rows
        for split in SPLITS:
            at = np.asarray(rows["split"].cast("string").to_numpy(zero_copy_only=False) == split)
            ids = rows["sample_id"].to_numpy()[at]
            if len(ids):
                is_news |= self._roster.learn(ids, rows["label"].to_numpy()[at].astype(np.int64), split)
        if is_news:
            self.write()

    def _take_own(self, end: int | None) -> bool:
        """Take in samples with ids of a person's own, up to the id `end`. True if there were any."""
        assert self._own is not None
        before = len(self._roster)
        stretches = self._own.refresh()
        for stretch in stretches:
            if before <= stretch.first_id and (end is None or stretch.first_id < end):
                self._roster.take_own(stretch)
        if len(self._roster) != before and self._ranks.rank == 0:
            self._tell_overlap(stretches)
        return len(self._roster) != before

    def _tell_overlap(self, stretches: list[Stretch]) -> None:
        """Say once that ids of one data set are ids of another too: they may be the same samples, or others."""
        spaces: dict[str, set[int | str]] = {}
        for stretch in stretches:
            spaces.setdefault(stretch.space, set()).update(stretch.own)
        for (one, ids), (other, more) in combinations(spaces.items(), 2):
            both = ids & more
            if both and other not in self._said:
                self._said.add(other)
                first = min(both, key=str)
                warn(
                    f"{len(both):,} ids of {other} are ids of {one} too, such as {first!r}: they count as other "
                    "samples. Where they are the same, give both loaders the same data set, or with_ids of it."
                )


def _class_indices(label: Any, ids: Tensor) -> Ids | None:
    """(B,) the labels of a batch on the host, -1 where a sample has none; None if they are no class indices."""
    values = torch.as_tensor(label) if isinstance(label, Tensor | np.ndarray | list | tuple) else None
    if values is None or values.numel() != ids.numel():
        return None
    whole = values.detach().reshape(-1).cpu().double().nan_to_num(-1.0).numpy()
    return whole.astype(np.int64) if (whole == np.floor(whole)).all() else None
