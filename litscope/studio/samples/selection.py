"""The samples that an action is about."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from litscope.studio.refusals import AskedWrong, NotThere
from litscope.studio.samples.grid import chosen
from litscope.studio.samples.orders import Views
from litscope.studio.samples.table import Samples


@dataclass(frozen=True)
class Selection:
    """Samples that an action is about; the parts add up.

    Attributes:
        ids: sample_ids.
        view: of `ranges`.
        ranges: positions [start, end) of the view.
        without: sample_ids that are left out.
        filter: all samples that meet it.
    """

    ids: list[int] = field(default_factory=list)
    view: str | None = None
    ranges: list[tuple[int, int]] = field(default_factory=list)
    without: list[int] = field(default_factory=list)
    filter: str | None = None


def selected(now: Samples, selection: Selection, views: Views) -> tuple[list[int], str | None]:
    """The ids that a selection names; and the filter that chose them, where nobody looked at each.

    Raises:
        AskedWrong: if the filter is not valid, or ranges come without their view.
        NotThere: if an id is not of this run.
        ViewExpired: if the view is not kept any more.
    """
    for sample_id in selection.ids:
        if not 0 <= sample_id < now.count:
            raise NotThere(f"There is no sample {sample_id}; the run has {now.count:,}, from 0.")
    parts, where = [np.array(selection.ids, np.int64)], None
    if selection.filter is not None:
        parts.append(np.flatnonzero(chosen(now, selection.filter)))
        where = selection.filter or "all samples"
    if selection.ranges:
        if selection.view is None:
            raise AskedWrong("Ranges are positions of a view: give `view`, too.", "samples")
        view = views.kept(selection.view, now)
        parts += [view.ids[start:end].astype(np.int64) for start, end in selection.ranges]
        if sum(end - start for start, end in selection.ranges) >= len(view.ids) > 1:
            where = view.filter or "all samples"
    without = np.array([sample_id for sample_id in selection.without if 0 <= sample_id < now.count], np.int64)
    ids = np.setdiff1d(np.concatenate(parts), without)
    return ids[now.shown[ids]].tolist(), where
