"""The data of a run as they are now: each sample in the split, and with the label, that it has in the run.

A row is in a split of the run only if its content is that of a sample there. Data that share no content with the run,
and that a person named, are another data set, with splits of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from litscope.console import say, warn
from litscope.curation.run_data import RunData
from litscope.data.content import align
from litscope.data.manifest import SPLITS, UNLABELLED
from litscope.data.sources.source import Source
from litscope.errors import DataError
from litscope.ledger.journal.actions import decisions


@dataclass
class KnownData:
    """Samples to measure a run on.

    Attributes:
        source: the run's samples first, in its order, under its keys; then rows that are none of them.
        sample_id: (n,) the run's id of each row; -1 where it is no sample of the run.
        is_stranger: whether the data are another data set.
        facts: what is not as in the run, for --json.
    """

    source: Source
    sample_id: NDArray[np.int64]
    is_stranger: bool
    facts: dict[str, int | bool]

    def ids(self, split: str) -> NDArray[np.int64]:
        """Rows of a split: labelled ones of train, val, test; all labelled ones; or those without a label."""
        manifest = self.source.manifest
        if split in SPLITS:
            return manifest.ids(split)
        is_labelled = manifest.labels != UNLABELLED
        return np.flatnonzero(is_labelled if split == "all" else ~is_labelled).astype(np.int64)


def known_data(data: RunData, is_named: bool) -> KnownData:
    """Put a run's data in order, and say what is not as in the run.

    Args:
        data: from `run_data`.
        is_named: a person said where they are; else they lie where the run's data were.

    Raises:
        DataError: for a class that the run does not know, or if none of the run's samples is left where they were.
    """
    source, found, known = data.source, data.match, data.manifest
    unknown = source.manifest.classes[known.num_classes :]
    if unknown:
        raise DataError(
            f"{source.name} has the class {unknown[0]!r}, which the run does not know. "
            f"It was trained on: {_some(known.classes)}."
        )
    facts: dict[str, int | bool] = {
        "is_checked": found.is_checked,
        "is_another_data_set": found.is_stranger,
        "num_changed": len(found.changed),
        "num_new": len(found.new),
        "num_gone": len(found.gone),
        "num_moved": len(found.moved),
        "num_relabelled": len(found.relabelled),
    }
    if found.is_stranger:
        if not is_named:
            raise DataError(
                f"None of the {len(known):,} samples of {data.run.path} is in {source.name} any more "
                f"({found.differences()}). Say where they are: --dataset PATH; PATH may also be another data set."
            )
        warn(
            f"{source.name} shares no sample with the run's data; it is taken as another data set, with its own splits."
        )
        return KnownData(source, found.sample_id, True, facts | {"num_changed": 0})
    if found.differences():
        left_out = " The changed ones are left out." if len(found.changed) else ""
        in_none = " New ones are in no split of the run." if len(found.new) else ""
        warn(
            f"the data have changed since the run, of {len(known):,} samples: {found.differences()}.{left_out}{in_none}"
        )
    source, ids = align(source, known, found)
    return KnownData(source, ids, False, facts)


def with_decisions(
    data: KnownData, known: RunData, ids: NDArray[np.int64], holds: bool, is_told: bool = True
) -> tuple[KnownData, NDArray[np.int64], int]:
    """Let the run's journal decide labels and discards of its samples.

    Args:
        data: the run's data, in order.
        known: what they were made of.
        ids: the rows that are asked for.
        holds: whether the decisions hold; else they are only counted.
        is_told: say so, and by which flag it would be otherwise.

    Returns:
        The data, the rows without discarded ones, and how many of the rows are decided otherwise than the source says.
    """
    decided, manifest = decisions(known.run), data.source.manifest
    row_of = {int(i): row for row, i in enumerate(data.sample_id) if i >= 0}
    position = {name: index for index, name in enumerate(known.manifest.classes)}
    labels, asked = manifest.labels.copy(), set(ids.tolist())
    for sample_id, name in decided.labels.items():
        if sample_id in row_of and name in position:
            labels[row_of[sample_id]] = position[name]
    gone = {row_of[i] for i in decided.discarded if i in row_of} & asked
    relabelled = set(np.flatnonzero(labels != manifest.labels).tolist()) & asked - gone
    if holds:
        data = replace(data, source=replace(data.source, manifest=manifest.with_labels(labels)))
        ids = np.array(sorted(asked - gone), np.int64)
    if is_told:
        _say_decisions(len(relabelled), len(gone), holds)
    return data, ids, len(relabelled) + len(gone)


def _say_decisions(num_relabelled: int, num_discarded: int, holds: bool) -> None:
    parts = [f"{n:,} {what}" for n, what in ((num_relabelled, "relabelled"), (num_discarded, "discarded")) if n]
    if parts and holds:
        say(f"decisions of the run's journal count: {', '.join(parts)} (--source-labels: as the source has them)")
    elif parts:
        say(f"decisions of the run's journal do not count: {', '.join(parts)}")


def _some(names: tuple[str, ...], limit: int = 10) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
