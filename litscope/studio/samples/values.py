"""The columns of a run's samples, as they lie in memory: one value for each sample_id, (N,)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from litscope.studio.samples.turns import large_read

MOST_ONE_BY_ONE = 1000
"""So many texts are picked one by one."""

Mask = NDArray[np.bool_]
Ids = NDArray[np.int64]


def exact_for(count: int) -> type[np.floating[Any]]:
    """The smaller of float32 and float64 in which each whole number up to `count` is exact."""
    return np.float32 if count <= 1 << 24 else np.float64


@dataclass(frozen=True)
class Numbers:
    """Numbers. `values` (N,) float32 or float64, NaN where there is none."""

    values: NDArray[Any]

    @property
    def known(self) -> Mask:
        """(N,) where there is a value."""
        found: Mask = ~np.isnan(self.values)
        return found

    def keys(self) -> NDArray[Any]:
        """(N,) to sort by, NaN where there is none."""
        return self.values

    def at(self, ids: Ids) -> list[Any]:
        """The values of n samples; None where there is none."""
        found = self.values[ids].astype(np.float64)
        return [None if value != value else value for value in found.tolist()]


@dataclass(frozen=True)
class Words:
    """Texts of which there are few different ones. `codes` (N,) integers: place in `names`, -1 where there is none."""

    codes: NDArray[Any]
    names: tuple[str, ...]

    @property
    def known(self) -> Mask:
        """(N,) where there is a value."""
        return self.codes >= 0

    def keys(self) -> NDArray[Any]:
        """(N,) to sort by, alphabetically, NaN where there is none."""
        place = np.empty(len(self.names) + 1, np.float32)
        place[-1] = np.nan
        place[sorted(range(len(self.names)), key=lambda i: self.names[i])] = np.arange(len(self.names))
        found: NDArray[Any] = place[self.codes]
        return found

    def at(self, ids: Ids) -> list[Any]:
        """The values of n samples; None where there is none."""
        return [self.names[code] if code >= 0 else None for code in self.codes[ids].tolist()]


@dataclass(frozen=True)
class Flags:
    """Yes or no. `values`, `known` (N,) bool."""

    values: Mask
    known: Mask

    def keys(self) -> NDArray[Any]:
        """(N,) to sort by, NaN where there is none."""
        return np.where(self.known, self.values, np.nan).astype(np.float32)

    def at(self, ids: Ids) -> list[Any]:
        """The values of n samples; None where there is none."""
        pairs = zip(self.values[ids].tolist(), self.known[ids].tolist(), strict=True)
        return [value if is_known else None for value, is_known in pairs]


@dataclass(frozen=True)
class Texts:
    """Texts that are nearly all different, or values that are only shown. `values`: an Arrow column of N rows."""

    values: pa.ChunkedArray

    @property
    def known(self) -> Mask:
        """(N,) where there is a value."""
        return np.asarray(pc.is_valid(self.values).to_numpy(zero_copy_only=False), bool)

    def keys(self) -> NDArray[Any]:
        """(N,) to sort by, the same for equal texts, NaN where there is none."""
        return self._ranks

    @cached_property
    def _ranks(self) -> NDArray[Any]:
        """Ranking a million texts takes half a second, so that is done once."""
        with large_read():
            ranks = pc.rank(self.values, tiebreaker="min")
            found: NDArray[Any] = ranks.to_numpy().astype(exact_for(len(self.values)))
            found[~self.known] = np.nan
        return found

    def at(self, ids: Ids) -> list[Any]:
        """The values of n samples; None where there is none."""
        if len(ids) <= MOST_ONE_BY_ONE:  # `take` copies the whole column into one piece before
            return [self.values[i].as_py() for i in ids.tolist()]
        found: list[Any] = self.values.take(pa.array(ids)).to_pylist()
        return found


@dataclass(frozen=True)
class Tags:
    """Any number of names each. `ids`: name -> (n,) ascending sample_ids; `count`: N."""

    ids: Mapping[str, Ids]
    count: int

    def mask(self, name: str) -> Mask:
        """(N,) which have that tag."""
        found = np.zeros(self.count, bool)
        found[self.ids.get(name, np.empty(0, np.int64))] = True
        return found

    @property
    def known(self) -> Mask:
        """(N,) which have any."""
        found = np.zeros(self.count, bool)
        for ids in self.ids.values():
            found[ids] = True
        return found

    def keys(self) -> NDArray[Any]:
        """(N,) to sort by: the number of tags, NaN where there is none."""
        found = np.zeros(self.count, np.float32)
        for ids in self.ids.values():
            found[ids] += 1
        found[found == 0] = np.nan
        return found

    def at(self, ids: Ids) -> list[Any]:
        """The tags of n samples, in alphabetical order."""
        found: list[list[str]] = [[] for _ in ids]
        for name in sorted(self.ids):
            tagged = self.ids[name]
            for i in np.flatnonzero(np.isin(ids, tagged)):
                found[i].append(name)
        return found


@dataclass(frozen=True)
class Sets:
    """Any number of classes each, of a sample whose set is known. Kept as codes: four bytes for each class in a set.

    Attributes:
        codes: (K,) int32 positions in `names`, those of one sample after another.
        starts: (N,) int64, where those of a sample begin.
        sizes: (N,) int32, how many it has; -1 where its set is not known.
        names: of the classes.
    """

    codes: NDArray[np.int32]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int32]
    names: tuple[str, ...]

    @property
    def known(self) -> Mask:
        """(N,) where there is a set, be it empty."""
        found: Mask = self.sizes >= 0
        return found

    def mask(self, classes: Sequence[int]) -> Mask:
        """(N,) which have one of some classes, by their positions in `names`, in their set."""
        counts = np.concatenate([[0], np.cumsum(np.isin(self.codes, list(classes)), dtype=np.int32)])
        found: Mask = counts[self.starts + np.maximum(self.sizes, 0)] > counts[self.starts]
        return found

    def keys(self) -> NDArray[Any]:
        """(N,) to sort by: the number of classes, NaN where there is no set."""
        return np.where(self.known, self.sizes, np.nan).astype(np.float32)

    def at(self, ids: Ids) -> list[Any]:
        """The sets of n samples, in words; None where there is none."""
        pairs = zip(self.starts[ids].tolist(), self.sizes[ids].tolist(), strict=True)
        found = [None if size < 0 else self.codes[start : start + size].tolist() for start, size in pairs]
        return [None if one is None else ", ".join(self.names[code] for code in one) or "-" for one in found]


Values = Numbers | Words | Flags | Texts | Tags | Sets

Kind = Literal["number", "integer", "flag", "class", "text", "tags"]
Group = Literal["score", "signal", "label", "sample", "decision", "custom", "source"]


@dataclass(frozen=True)
class Column:
    """What a column is.

    Attributes:
        name: as filters and sorts name it.
        title: for people.
        kind: of its values.
        meaning: a sentence.
        unit: empty where there is none.
        group: where it comes from.
        is_high_bad: whether high values deserve a look first; None: neither end does.
        is_sortable: whether an order by it means something.
        values: the different values, where they are few.
    """

    name: str
    title: str
    kind: Kind
    meaning: str
    unit: str
    group: Group
    is_high_bad: bool | None = None
    is_sortable: bool = True
    values: list[str] | None = field(default=None)


def few(values: Values) -> list[str] | None:
    """The names that a column of words has."""
    return list(values.names) if isinstance(values, Words) else None


def encoded(column: pa.ChunkedArray) -> Words:
    """A column of texts as words."""
    found = column.combine_chunks().dictionary_encode()
    names = tuple(map(str, found.dictionary.to_pylist()))
    smallest = next(kind for kind in (np.int8, np.int16, np.int32) if len(names) <= np.iinfo(kind).max)
    return Words(found.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(smallest), names)
