"""Windows of samples: rows of a view by position, counts, facets, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from litscope.errors import did_you_mean
from litscope.studio.refusals import AskedWrong
from litscope.studio.samples.filters import Word, parse
from litscope.studio.samples.masks import column, mask
from litscope.studio.samples.orders import View, sort_columns
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Flags, Ids, Mask, Numbers, Tags, Values, Words

MOST_ROWS = 1000
MOST_FACETS = 200
USUAL_VALUES = ("suspicion", "mean_loss")
_LABELS = ("label_name", "current_name", "pred_name", "believed_name", "is_right")
_OF_ROW = ("key", "split", *_LABELS, "is_discarded", "weight", "tags")


@dataclass(frozen=True)
class Row:
    """One sample.

    Attributes:
        position: in its view, from 0; -1 outside of one.
        sample_id, key, split: which it is.
        label_name, current_name: the label of the data set, and as people decided.
        pred_name, believed_name: what the network says.
        is_right: whether the last prediction is the present label; None: not known.
        is_discarded, weight, tags: what was decided.
        pending: verbs that no trainer has answered.
        has_image: whether it may have a picture.
        values: what else was asked for.
        sparkline: p_label by epoch, where it was asked for.
    """

    position: int
    sample_id: int
    key: str
    split: str | None
    label_name: str | None
    current_name: str | None
    pred_name: str | None
    believed_name: str | None
    is_right: bool | None
    is_discarded: bool
    weight: float
    tags: list[str]
    pending: list[str]
    has_image: bool
    values: dict[str, Any]
    sparkline: list[float | None] | None = None


@dataclass(frozen=True)
class Window:
    """Rows of a view.

    Attributes:
        view: its id.
        revision: of the samples now.
        is_current: whether the view shows them as they are now.
        total: rows of the view.
        total_all: samples of the run.
        start: position of the first row.
        filter, sort: of the view.
        uses: columns that the filter names.
        rows: they.
    """

    view: str
    revision: int
    is_current: bool
    total: int
    total_all: int
    start: int
    filter: str
    sort: str
    uses: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Facet:
    """How many samples have a value."""

    value: str
    num_samples: int


@dataclass(frozen=True)
class Facets:
    """How many samples have which value.

    Attributes:
        by: the column.
        values: the most frequent first.
        num_others: samples with values that are not listed, or none.
    """

    by: str
    values: list[Facet]
    num_others: int


@dataclass(frozen=True)
class Histogram:
    """How the numbers of a column are spread. `edges` (bins + 1,), `counts` (bins,)."""

    column: str
    edges: list[float]
    counts: list[int]
    num_missing: int


def named(samples: Samples, names: Sequence[str], field_name: str = "columns") -> list[str]:
    """Columns that a person named.

    Raises:
        AskedWrong: if one is not there.
    """
    for name in names:
        if name not in samples.names:
            hint = did_you_mean(name, samples.names) or f" There are {', '.join(samples.names)}."
            raise AskedWrong(f"{name!r} is no column of this run's samples.{hint}", field_name)
    return list(names)


def value_columns(samples: Samples, view: View, asked: Sequence[str]) -> list[str]:
    """The columns beside those that every row has: those that were asked for, else what it is sorted by and a few."""
    if asked:
        return named(samples, [name for name in asked if name not in view.added]) + [
            name for name in asked if name in view.added
        ]
    usual = [name for name in USUAL_VALUES if name in samples.names]
    return [name for name in dict.fromkeys([*sort_columns(view.sort), *usual]) if name not in (*_OF_ROW, "sample_id")]


def rows(
    samples: Samples,
    ids: Ids,
    names: Sequence[str],
    has_image: bool,
    start: int = -1,
    added: dict[str, Values] | None = None,
) -> list[Row]:
    """The rows of samples (n,).

    Args:
        names: columns for their `values`.
        has_image: whether the run's samples are images.
        start: position of the first in a view.
        added: columns that a filter made.
    """
    fixed = {name: samples.values(name).at(ids) for name in _OF_ROW}
    more = {name: (added or {}).get(name) or samples.values(name) for name in names}
    values = {name: column.at(ids) for name, column in more.items()}
    pending = samples.decided.pending
    return [
        Row(
            position=start + i if start >= 0 else -1,
            sample_id=sample_id,
            pending=pending.get(sample_id, []),
            has_image=has_image,
            values={name: _plain(column[i]) for name, column in values.items()},
            **{name: column[i] for name, column in fixed.items()},
        )
        for i, sample_id in enumerate(ids.tolist())
    ]


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool | list | None) else str(value)


def chosen(samples: Samples, filter_text: str) -> Mask:
    """(N,) the samples that meet a filter, without canaries."""
    return mask(parse(filter_text), samples, {}) & samples.shown


def facets(samples: Samples, filter_text: str, by: str) -> Facets:
    """How many samples that meet a filter have which value of a column.

    Raises:
        AskedWrong: for a column of numbers or of different texts, or a filter that is not valid.
    """
    values, among = column(Word(by, 0), samples, "by"), chosen(samples, filter_text)
    total = int(among.sum())
    counts: list[tuple[str, int]]
    if isinstance(values, Words):
        found = np.bincount(values.codes[among & values.known], minlength=len(values.names)).tolist()
        counts = list(zip(values.names, found, strict=True))
    elif isinstance(values, Flags):
        counts = [
            (word, int((among & values.known & (values.values == flag)).sum()))
            for word, flag in (("true", True), ("false", False))
        ]
    elif isinstance(values, Tags):
        counts = [(name, int((values.mask(name) & among).sum())) for name in sorted(values.ids)]
    else:
        raise AskedWrong(f"{by} has no few values to count.", "by")
    ranked = sorted((pair for pair in counts if pair[1]), key=lambda pair: (-pair[1], pair[0]))[:MOST_FACETS]
    listed = sum(count for _, count in ranked)
    return Facets(by, [Facet(name, count) for name, count in ranked], max(0, total - listed))


def histogram(samples: Samples, filter_text: str, name: str, bins: int) -> Histogram:
    """How the numbers of a column are spread among the samples that meet a filter.

    Raises:
        AskedWrong: for a column without numbers, or a filter that is not valid.
    """
    values = column(Word(name, 0), samples, "column")
    if not isinstance(values, Numbers):
        raise AskedWrong(f"{name} holds no numbers.", "column")
    among = values.values[chosen(samples, filter_text)]
    known = among[np.isfinite(among)].astype(np.float64)
    counts, edges = np.histogram(known, bins)
    return Histogram(name, edges.tolist(), counts.tolist(), int(len(among) - len(known)))
