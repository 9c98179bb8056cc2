"""Which part of a run a data set is that nobody has seen before: by its length, keys, labels and split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from litscope.console import warn
from litscope.data.content import match
from litscope.data.manifest import SPLITS, UNLABELLED, Manifest, build_manifest
from litscope.errors import RunError
from litscope.watch.samples.ids import WithIds
from litscope.watch.samples.nesting import Ids
from litscope.watch.samples.parts import Part


class Told(NamedTuple):
    """A data set as its loader shows it.

    Attributes:
        data: the data set.
        split: that of the loader.
        indices: those that the loader draws; None: all.
        labels: (N,) of its items, if it tells them without reading them.
        positions: (N,) of its items in the data set of which they are a subset; None if they are none.
    """

    data: WithIds
    split: str
    indices: Ids | None
    labels: Ids | None
    positions: Ids | None = None


class _Likeness(NamedTuple):
    """How a data set and a part of the same length are alike; of several, the least one is the same.

    Attributes:
        num_relabelled: samples with another label.
        is_elsewhere: whether the part is of another split.
        differences: in words.
    """

    num_relabelled: int
    is_elsewhere: bool
    differences: str


def find_part(
    told: Told, parts: Sequence[Part], labels: Ids, codes: NDArray[np.int8], current_round: int
) -> Part | None:
    """The part that a data set is; its items then have the ids of that, in any order. None if it is new.

    Names of the data set's own, the same in all, make it the same. Without names, the split has to be the same too, and
    of a data set that this process has seen before, the labels, and the indices if it is a subset. Two that stand side
    by side in one round of loaders are one only if their names and labels are.

    Args:
        told: the data set.
        parts: of the run.
        labels: (N,) of all samples of the run.
        codes: (N,) their splits, as positions in `SPLITS`.
        current_round: in which the data set is met.

    Raises:
        RunError: if the earlier attempt had as many samples in this split, and others.
    """
    alike = [part for part in parts if not part.is_own and part.num_samples == len(told.data)]
    for part in alike:
        if (order := part.order_of(told.data.dataset)) is not None:
            part.carry(told.data, order)
            return part
    names = told.data.names() if alike else None
    found: list[tuple[_Likeness, Part, Ids | None]] = []
    gone = ""
    changed = ""
    for part in alike:
        order, compared = None, _compare_numbered(told, part, names, labels)
        if names is not None and part.names is not None:
            order, compared = _compare_named(told, part, names, labels)
        is_waiting = not part.was_carried
        if isinstance(compared, str):
            gone = gone or (compared if is_waiting and part.split == told.split else "")
            continue
        is_elsewhere = not _is_of_split(told, part, order, codes)
        is_beside = part.was_carried and part.last_round == current_round
        has_labels = told.labels is not None and bool((labels[part.ids] != UNLABELLED).any())
        if names is not None:
            is_it = not (is_beside and not has_labels) and not (compared and (is_beside or is_elsewhere))
        else:
            is_it = not is_beside and not (compared and (part.was_carried or is_elsewhere))
            is_it &= not is_elsewhere or (is_waiting and has_labels)
            is_moved = told.positions is not None and not np.array_equal(
                told.positions, told.positions if part.positions is None else part.positions
            )
            is_it &= not is_moved
            if (compared or is_moved) and part.was_carried and not is_beside and not is_elsewhere:
                changed = "has other labels" if compared else "is another subset"
        if is_it:
            words = f"{compared:,} with another label" if compared else ""
            if order is not None and (np.diff(order) < 0).any():
                words = words or "all of them in another order"
            found.append((_Likeness(compared, is_elsewhere, words), part, order))
    if found:
        likeness, part, order = min(found, key=lambda each: each[0][:2])
        if likeness.differences:
            warn(f"the samples of {told.split} are not as they were: {likeness.differences}")
        part.carry(told.data, order)
        return part
    if gone:
        raise RunError(
            f"The data of {told.split} hold other samples than when the run began, of {len(told.data):,}: {gone}. Go "
            "on with the same samples (with_ids(..., keys=...) names them, so that they may be in another order), or "
            "start a run of its own: another run_dir."
        )
    if changed:
        warn(
            f"a data set of {told.split} is as long as one before ({len(told.data):,} samples), and {changed}: "
            "its samples count as others. If they are the same, name them: with_ids(..., keys=...), or take subsets of "
            "one data set: Subset(with_ids(dataset), indices). A split that setup() makes needs a seed: it runs again."
        )
    return None


def _is_of_split(told: Told, part: Part, order: Ids | None, codes: NDArray[np.int8]) -> bool:
    """Whether the part, or what the loader draws of it, is of the loader's split as far as it is known."""
    if part.split == told.split or not len(told.data):
        return part.split == told.split
    if told.indices is None:
        return False
    at = told.indices if order is None else order[told.indices]
    return bool(np.isin(codes[part.ids][at], (SPLITS.index(told.split), len(SPLITS))).all())


def _compare_numbered(told: Told, part: Part, names: list[str] | None, labels: Ids) -> int | str:
    """How many labels are others; in words, why nothing can be compared."""
    if names is not None or part.names is not None:
        return "they had names" if names is None else "they had no names"
    then = labels[part.ids]
    return 0 if told.labels is None else int(((then != told.labels) & (then != UNLABELLED)).sum())


def _compare_named(told: Told, part: Part, names: list[str], labels: Ids) -> tuple[Ids | None, int | str]:
    """The place in the part of each item, and how many labels are others; in words, that they are other samples."""
    assert part.names is not None
    then = labels[part.ids]
    if names == part.names:
        known = 0 if told.labels is None else int(((then != told.labels) & (then != UNLABELLED)).sum())
        return None, known
    labels_then = None if told.labels is None else then  # else there is nothing to compare
    found = match(_as_manifest(names, told.labels), _as_manifest(part.names, labels_then))
    if len(found.new) or len(found.gone):
        return None, found.differences()
    return found.sample_id, len(found.relabelled)


def _as_manifest(names: Sequence[str], labels: Any) -> Manifest:
    """Samples as `match` compares them."""
    known = np.full(len(names), UNLABELLED) if labels is None else labels
    classes = [str(i) for i in range(max(1, int(known.max(initial=-1)) + 1))]
    return build_manifest(pa.array(names, pa.string()), known, classes)
