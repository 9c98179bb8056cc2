"""Views: samples that meet a filter, in an order, as they were at one moment. Positions in one never move.

An ordered view of a million samples takes 4 MB, and a window of it is a slice.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from litscope.studio.refusals import AskedWrong, ViewExpired
from litscope.studio.samples.filters import Word, parse
from litscope.studio.samples.masks import column, mask, used
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Ids, Values

MOST_KEPT, MOST_BYTES = 200, 128_000_000
"""Views that are kept: at most so many, and so many bytes of ids."""

MOST_SORTED_BY = 4


@dataclass(frozen=True)
class View:
    """Samples in an order.

    Attributes:
        id: by which it can be asked for again.
        run: its folder.
        revision: of the samples when it was made.
        filter, sort: as they were asked for.
        uses: columns that the filter names.
        ids: (n,) int32.
        added: columns that the filter made.
    """

    id: str
    run: Path
    revision: int
    filter: str
    sort: str
    uses: list[str]
    ids: NDArray[np.int32]
    added: dict[str, Values]


def default_sort(samples: Samples) -> str:
    """The most suspicious first, where that is known."""
    return "-suspicion" if "suspicion" in samples.names else "sample_id"


class Views:
    """Keeps views by id; those that were asked for longest ago go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, View] = OrderedDict()

    def made(self, samples: Samples, filter_text: str = "", sort: str = "") -> View:
        """The view of a filter and a sort over samples as they are.

        Raises:
            AskedWrong: if one of them is not valid.
        """
        sort = sort or default_sort(samples)
        words = f"{samples.run.path}\0{samples.revision}\0{filter_text}\0{sort}"
        view_id = f"v{hashlib.sha256(words.encode(errors='surrogatepass')).hexdigest()[:20]}"
        with self._lock:
            if view_id in self._kept:
                self._kept.move_to_end(view_id)
                return self._kept[view_id]
        condition, added = parse(filter_text), dict[str, Values]()
        chosen = mask(condition, samples, added) & samples.shown
        ids = _ordered(samples, np.flatnonzero(chosen), sort, added)
        uses = list(dict.fromkeys(used(condition)))
        path, revision = samples.run.path, samples.revision
        view = View(view_id, path, revision, filter_text, sort, uses, ids.astype(np.int32), added)
        with self._lock:
            self._kept[view_id] = view
            while len(self._kept) > 1 and self._are_too_many():
                self._kept.popitem(last=False)
        return view

    def kept(self, view_id: str, run: Path) -> View:
        """A view that was made before.

        Raises:
            ViewExpired: if it is not kept any more, or is of another run.
        """
        with self._lock:
            view = self._kept.get(view_id)
            if view is None or view.run != run:
                raise ViewExpired("This order of the samples is not kept any more; ask for it anew, without `view`.")
            self._kept.move_to_end(view_id)
            return view

    def _are_too_many(self) -> bool:
        num_bytes = sum(view.ids.nbytes for view in self._kept.values())
        return len(self._kept) > MOST_KEPT or num_bytes > MOST_BYTES


def _ordered(samples: Samples, ids: Ids, sort: str, added: dict[str, Values]) -> Ids:
    """The ids (n,) in the order that a sort says; what is missing comes last, and ties by id."""
    keys: list[NDArray[np.float64]] = []
    for name, is_descending in _sorted_by(sort):
        values = added[name] if name in added else column(Word(name, 0), samples, "sort")
        if not hasattr(values, "keys"):
            raise AskedWrong(f"There is no order by {name}.", "sort")
        key = values.keys()[ids]
        keys.append(-key if is_descending else key)  # NaN stays NaN, and goes to the end
    if len(keys) == 1:
        return ids[np.argsort(keys[0], kind="stable")]
    return ids[np.lexsort(keys[::-1])]


def _sorted_by(sort: str) -> Sequence[tuple[str, bool]]:
    names = [name.strip() for name in sort.split(",") if name.strip()]
    if not 1 <= len(names) <= MOST_SORTED_BY:
        raise AskedWrong(f"A sort names 1 to {MOST_SORTED_BY} columns, with commas between them.", "sort")
    return [(name.removeprefix("-"), name.startswith("-")) for name in names]


def sort_columns(sort: str) -> list[str]:
    """The columns of a sort."""
    return [name for name, _ in _sorted_by(sort)]
