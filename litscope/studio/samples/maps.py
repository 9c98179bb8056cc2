"""Maps: samples by two of their numbers. Density first: counts per bin of what is in view, single points where few are.

The page draws what it gets; how many samples there are does not matter to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litscope.studio.refusals import AskedWrong
from litscope.studio.samples.blocks import Block
from litscope.studio.samples.filters import Word
from litscope.studio.samples.grid import chosen
from litscope.studio.samples.masks import column
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Flags, Mask, Numbers, Tags, Words

MOST_BINS = 512
MOST_POINTS = 50_000
MOST_NEAR = 50
_FEW_NAMES = 32  # with more, a count for each bin and name would take much memory
_COLOURED = "right", "wrong"


@dataclass(frozen=True)
class Looked:
    """What a map shows.

    Attributes:
        x, y: columns of numbers.
        filter: only samples that meet it.
        x0, x1, y0, y1: the part in view; None: all of it.
        width, height: bins.
        color: a column, or tag:NAME; empty: none.
        max_points: of so many samples in view each is a point of its own.
    """

    x: str
    y: str
    filter: str = ""
    x0: float | None = None
    x1: float | None = None
    y0: float | None = None
    y1: float | None = None
    width: int = 128
    height: int = 128
    color: str = "is_right"
    max_points: int = 10_000


@dataclass(frozen=True)
class Near:
    """The samples nearest to a place: their ids and where they are."""

    sample_ids: list[int]
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class _Colour:
    kind: str
    names: list[str]
    values: NDArray[np.float32]


def map_block(samples: Samples, look: Looked) -> Block:
    """The map as a block of columns; its facts and columns as docs/studio.md has them.

    Raises:
        AskedWrong: for a column without numbers, or a view that is none.
    """
    x, y = _axis(samples, look.x, "x"), _axis(samples, look.y, "y")
    among = chosen(samples, look.filter)
    known = among & np.isfinite(x) & np.isfinite(y)
    x_domain, y_domain = _domain(x, known), _domain(y, known)
    x_range = _range(look.x0, look.x1, x_domain, "x0")
    y_range = _range(look.y0, look.y1, y_domain, "y0")
    inside = known & (x >= x_range[0]) & (x <= x_range[1]) & (y >= y_range[0]) & (y <= y_range[1])
    num_inside = int(np.count_nonzero(inside))
    colour = _colour(samples, look.color)
    is_points = num_inside <= min(look.max_points, MOST_POINTS)
    seen = colour.values[inside]
    low, high = (float(np.nanmin(seen)), float(np.nanmax(seen))) if np.isfinite(seen).any() else (None, None)
    facts = {
        "mode": "points" if is_points else "bins",
        "total": int(known.sum()),
        "num_missing": int(among.sum() - known.sum()),
        "num_in_view": num_inside,
        "x": _axis_facts(look.x, x_range, x_domain),
        "y": _axis_facts(look.y, y_range, y_domain),
        "color": {"kind": colour.kind, "names": colour.names, "low": low, "high": high},
        "width": look.width,
        "height": look.height,
    }
    if is_points:
        ids = np.flatnonzero(inside)
        columns: dict[str, NDArray[Any]] = {"sample_id": ids.astype(np.float64), "x": x[ids].astype(np.float32)}
        return Block(columns | {"y": y[ids].astype(np.float32), "color": seen}, facts)
    place = _place(x[inside], x_range, look.width, y[inside], y_range, look.height)
    return Block(_bins(place, seen, colour, look), facts)


def near(samples: Samples, look: Looked, at: tuple[float, float], radius: tuple[float, float], count: int) -> Near:
    """The samples nearest to a place of a map, the nearest first, within an ellipse.

    Args:
        look: x, y and filter of the map.
        at: the place.
        radius: along x and y, greater than 0.
        count: at most so many.
    """
    x, y = _axis(samples, look.x, "x"), _axis(samples, look.y, "y")
    if not (radius[0] > 0 and radius[1] > 0):
        raise AskedWrong("A radius is greater than 0.", "radius_x")
    close = (np.abs(x - at[0]) <= radius[0]) & (np.abs(y - at[1]) <= radius[1])
    ids = np.flatnonzero(close & chosen(samples, look.filter))
    distance = ((x[ids] - at[0]) / radius[0]) ** 2 + ((y[ids] - at[1]) / radius[1]) ** 2
    order = np.argsort(distance, kind="stable")[:count]
    found = ids[order[distance[order] <= 1]]
    points = list(zip(x[found].astype(float).tolist(), y[found].astype(float).tolist(), strict=True))
    return Near(found.tolist(), points)


def _axis(samples: Samples, name: str, field: str) -> NDArray[Any]:
    values = column(Word(name, 0), samples, field)
    if not isinstance(values, Numbers):
        raise AskedWrong(f"{name} holds no numbers, and is no axis.", field)
    return values.values


def _axis_facts(name: str, view: tuple[float, float], domain: tuple[float, float]) -> dict[str, Any]:
    return {"name": name, "low": view[0], "high": view[1], "domain_low": domain[0], "domain_high": domain[1]}


def _domain(values: NDArray[Any], known: Mask) -> tuple[float, float]:
    if not known.any():
        return 0.0, 1.0
    low, high = float(values[known].min()), float(values[known].max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _range(low: float | None, high: float | None, domain: tuple[float, float], field: str) -> tuple[float, float]:
    found = domain[0] if low is None else low, domain[1] if high is None else high
    if not (np.isfinite(found).all() and found[0] < found[1]):
        raise AskedWrong("A view begins before it ends.", field)
    return found


def _colour(samples: Samples, name: str) -> _Colour:
    nothing = np.full(samples.count, np.nan, np.float32)
    if not name or name == "none":
        return _Colour("none", [], nothing)
    if name.startswith("tag:"):
        tags = samples.values("tags")
        assert isinstance(tags, Tags)
        tag = name.removeprefix("tag:")
        return _Colour("category", [tag, f"not {tag}"], (~tags.mask(tag)).astype(np.float32))
    values = column(Word(name, 0), samples, "color")
    if isinstance(values, Words):
        return _Colour("category", list(values.names), _where(values.known, values.codes))
    if isinstance(values, Flags):
        names = list(_COLOURED) if name == "is_right" else [name, f"not {name}"]
        return _Colour("category", names, _where(values.known, ~values.values))
    if isinstance(values, Numbers):
        return _Colour("number", [], values.values.astype(np.float32))
    raise AskedWrong(f"{name} gives no colours.", "color")


def _where(known: Mask, codes: NDArray[Any]) -> NDArray[np.float32]:
    """(N,) float32: codes where they are known, else NaN."""
    found: NDArray[np.float32] = codes.astype(np.float32)
    found[~known] = np.nan
    return found


def _place(
    x: NDArray[Any],
    x_range: tuple[float, float],
    width: int,
    y: NDArray[Any],
    y_range: tuple[float, float],
    height: int,
) -> NDArray[np.int32]:
    """(n,) the bin of each of n samples in view, the lowest y first. Of a million samples each step here takes 5 MB."""
    found = _slice(y, y_range, height)
    found *= width
    found += _slice(x, x_range, width)
    return found


def _slice(values: NDArray[Any], limits: tuple[float, float], num: int) -> NDArray[np.int32]:
    found = values - limits[0]
    found /= limits[1] - limits[0]
    found *= num
    return np.minimum(found, num - 1, out=found).astype(np.int32)


def _bins(
    place: NDArray[np.int32], colour: NDArray[np.float32], what: _Colour, look: Looked
) -> dict[str, NDArray[Any]]:
    """Counts (height * width,), and what colour the bins have."""
    num_bins = look.width * look.height
    count = np.bincount(place, minlength=num_bins)
    shade, share = np.full(num_bins, np.nan, np.float32), np.full(num_bins, np.nan, np.float32)
    known = np.isfinite(colour)
    if what.kind == "number":
        sums = np.bincount(place[known], colour[known], num_bins)
        having = np.bincount(place[known], minlength=num_bins)
        shade = np.divide(sums, having, out=np.full(num_bins, np.nan), where=having > 0).astype(np.float32)
    elif what.kind == "category" and known.any():
        bins, names, counts = _pairs(place[known], colour[known].astype(np.int32), len(what.names), num_bins)
        order = np.argsort(counts, kind="stable")  # of each bin the most frequent is written last
        bins, names = bins[order], names[order]
        shade[bins], share[bins] = names, counts[order] / count[bins]
    return {"count": count.astype(np.uint32), "color": shade, "share": share}


def _pairs(
    place: NDArray[np.int32], name: NDArray[np.int32], num_names: int, num_bins: int
) -> tuple[NDArray[Any], ...]:
    """Bin, name and count of each pair of them that there is."""
    num_pairs = num_bins * num_names
    pairs: NDArray[Any] = place.astype(np.uint32 if num_pairs <= np.iinfo(np.uint32).max else np.uint64)
    pairs *= num_names
    pairs += name.astype(pairs.dtype)
    if num_names <= _FEW_NAMES:
        counts = np.bincount(pairs, minlength=num_pairs)
        pairs = np.flatnonzero(counts)
        counts = counts[pairs]
    else:
        pairs.sort()
        starts = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)])
        counts = np.diff(starts, append=len(pairs)).astype(np.int32)
        pairs = pairs[starts]
    return (pairs // num_names).astype(np.int32), (pairs % num_names).astype(np.int32), counts
