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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from litscope.studio.refusals import AskedWrong, ViewExpired
from litscope.studio.samples.filters import Word, parse
from litscope.studio.samples.masks import column, mask, used
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Values

MOST_KEPT, MOST_BYTES = 200, 24_000_000
"""Views whose ids are kept: at most so many, and so many bytes. Others are made again, of samples that are as then."""

MOST_KNOWN = 2000
"""Views of which it is known what they were made of."""

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


class _Asked(NamedTuple):
    """What a view is made of."""

    run: Path
    revision: int
    filter: str
    sort: str

    def id(self) -> str:
        words = "\0".join(map(str, self))
        return f"v{hashlib.sha256(words.encode(errors='surrogatepass')).hexdigest()[:20]}"


class Views:
    """Keeps views by id; the ids of those that were asked for longest ago go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, View] = OrderedDict()
        self._known: OrderedDict[str, _Asked] = OrderedDict()

    def made(self, samples: Samples, filter_text: str = "", sort: str = "") -> View:
        """The view of a filter and a sort over samples as they are.

        Raises:
            AskedWrong: if one of them is not valid.
        """
        asked = _Asked(samples.run.path, samples.revision, filter_text, sort or default_sort(samples))
        view_id = asked.id()
        with self._lock:
            if view_id in self._kept:
                self._kept.move_to_end(view_id)
                return self._kept[view_id]
        view = _made(view_id, asked, samples)
        with self._lock:
            self._kept[view_id], self._known[view_id] = view, asked
            self._known.move_to_end(view_id)
            while len(self._kept) > 1 and self._are_too_many():
                self._kept.popitem(last=False)
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return view

    def kept(self, view_id: str, samples: Samples) -> View:
        """A view that was made before.

        Args:
            view_id: its id.
            samples: of its run, as they are.

        Raises:
            ViewExpired: if its ids are not kept any more and the samples have changed since, or it is of another run.
        """
        with self._lock:
            view, asked = self._kept.get(view_id), self._known.get(view_id)
            if view is not None and view.run == samples.run.path:
                self._kept.move_to_end(view_id)
                return view
        if asked is None or asked[:2] != (samples.run.path, samples.revision):
            raise ViewExpired("This order of the samples is not kept any more; ask for it anew, without `view`.")
        return self.made(samples, asked.filter, asked.sort)

    def _are_too_many(self) -> bool:
        num_bytes = sum(view.ids.nbytes for view in self._kept.values())
        return len(self._kept) > MOST_KEPT or num_bytes > MOST_BYTES


def _made(view_id: str, asked: _Asked, samples: Samples) -> View:
    condition, added = parse(asked.filter), dict[str, Values]()
    chosen = np.flatnonzero(mask(condition, samples, added) & samples.shown).astype(np.int32)
    ids = _ordered(samples, chosen, asked.sort, added)
    return View(view_id, *asked, list(dict.fromkeys(used(condition))), ids, added)


def _ordered(samples: Samples, ids: NDArray[np.int32], sort: str, added: dict[str, Values]) -> NDArray[np.int32]:
    """The ids (n,) in the order that a sort says; what is missing comes last, and ties by id."""
    keys: list[NDArray[Any]] = []
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
