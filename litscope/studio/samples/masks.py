"""Which samples meet a condition of `filters`. numpy and Arrow only.

A comparison with a value that is not there is false, and so is its contrary; `not` turns what is there around.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any as Anything
from typing import Protocol

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from litscope.errors import did_you_mean
from litscope.studio.refusals import AskedWrong
from litscope.studio.samples import filters
from litscope.studio.samples.filters import Compare, Condition, Inside, Number, Steps, Value, Within, Word
from litscope.studio.samples.values import Flags, Mask, Numbers, Sets, Tags, Texts, Values, Words

STEP_LOSS = "step_loss"
"""The column that `steps(...)` adds: the greatest loss of a sample in these steps."""

_ORDER: dict[str, Callable[[Anything, Anything], Anything]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Named(Protocol):
    """Where columns come from."""

    @property
    def count(self) -> int:
        """N, the number of samples."""

    @property
    def names(self) -> list[str]:
        """The names of all columns."""

    def values(self, name: str) -> Values:
        """A column."""

    def step_losses(self, first: int, last: int) -> NDArray[np.float32]:
        """(N,) the greatest loss in training steps first to last, NaN where a sample was not seen."""


def mask(condition: Condition | None, table: Named, added: dict[str, Values]) -> Mask:
    """(N,) the samples that meet a condition.

    Args:
        condition: None: all.
        table: the columns.
        added: gets columns that the condition itself makes (`STEP_LOSS`).

    Raises:
        AskedWrong: for a column that is not there, or a comparison that means nothing.
    """
    match condition:
        case None:
            return np.ones(table.count, bool)
        case filters.All(parts):
            return _joined(np.logical_and, [mask(part, table, added) for part in parts])
        case filters.Any(parts):
            return _joined(np.logical_or, [mask(part, table, added) for part in parts])
        case filters.Not(inner):
            return ~mask(inner, table, added)
        case filters.Missing(name):
            return ~column(name, table).known
        case filters.Contains(text):
            return _compare_texts(_texts("key", table), "~", text)
        case filters.Flag(name):
            return _flag(name, table)
        case filters.Between(name, low, high):
            numbers = _numbers(name, table).values
            return _joined(np.logical_and, [numbers >= low.value, numbers <= high.value])
        case Within():
            return _within(condition, table)
        case Compare():
            return _compare(condition, table)
        case Steps(first, last):
            losses = table.step_losses(first, last)
            added[STEP_LOSS] = Numbers(losses)
            return ~np.isnan(losses)
        case Inside():
            return _inside(condition, table)


def _joined(how: np.ufunc, masks: list[Mask]) -> Mask:
    found: Mask = how.reduce(masks)
    return found


def used(condition: Condition | None) -> Iterator[str]:
    """The columns that a condition names."""
    match condition:
        case filters.All(parts) | filters.Any(parts):
            for part in parts:
                yield from used(part)
        case filters.Not(inner):
            yield from used(inner)
        case Compare(name, _, _) | Within(name, _) | filters.Between(name, _, _):
            yield name.text
        case filters.Missing(name) | filters.Flag(name):
            yield name.text
        case filters.Contains():
            yield "key"
        case Inside(x, y, _):
            yield from (x.text, y.text)


def column(name: Word, table: Named, field: str = "filter") -> Values:
    """A column that a person named.

    Raises:
        AskedWrong: if there is none, with similar names.
    """
    if name.text not in table.names:
        hint = did_you_mean(name.text, table.names) or f" There are {', '.join(table.names)}."
        raise AskedWrong(f"{name.text!r} is no column of this run's samples.{hint}", field, name.at)
    return table.values(name.text)


def _flag(name: Word, table: Named) -> Mask:
    values = column(name, table)
    if not isinstance(values, Flags):
        raise AskedWrong(
            f"{name.text} alone is no condition: compare it with something, as in `{name.text} = ...`.",
            "filter",
            name.at,
        )
    return values.values & values.known


def _numbers(name: Word, table: Named) -> Numbers:
    values = column(name, table)
    if not isinstance(values, Numbers):
        raise AskedWrong(f"{name.text} holds no numbers, so there is no between.", "filter", name.at)
    return values


def _texts(name: str, table: Named) -> Texts:
    values = table.values(name)
    assert isinstance(values, Texts), name
    return values


def _within(condition: Within, table: Named) -> Mask:
    found = np.zeros(table.count, bool)
    values = column(condition.name, table)
    if isinstance(values, Numbers):
        given = [_as_number(value, condition.name) for value in condition.values]
        return np.isin(values.values, given)
    for value in condition.values:
        found |= _compare(Compare(condition.name, "=", value), table)
    return found


def _as_number(value: Value, name: Word) -> float:
    if not isinstance(value, Number):
        raise AskedWrong(f"{name.text} holds numbers; {value.text!r} is none.", "filter", value.at)
    return value.value


def _compare(condition: Compare, table: Named) -> Mask:
    name, op, value = condition.name, condition.op, condition.value
    left = column(name, table)
    if isinstance(value, Word) and value.text in table.names:
        return _compare_columns(name, left, op, table.values(value.text), value)
    if isinstance(left, Numbers):
        if op in ("~", "!~"):
            raise AskedWrong(f"{name.text} holds numbers, and ~ looks into texts.", "filter", name.at)
        found: Mask = _ORDER[op](left.values, _as_number(value, name))
        return found & left.known
    if isinstance(left, Flags):
        if op not in ("=", "!="):
            raise AskedWrong(f"{name.text} is true or false, and has no order.", "filter", name.at)
        is_so: Mask = ((left.values == _as_flag(value, name)) == (op == "=")) & left.known
        return is_so
    text = f"{value.value:g}" if isinstance(value, Number) else value.text
    if op not in ("=", "!=", "~", "!~"):
        raise AskedWrong(f"{name.text} holds texts, which have no order here: use = != ~ !~.", "filter", name.at)
    if isinstance(left, Tags):
        return _compare_tags(left, op, text)
    if isinstance(left, Sets):
        return _compare_sets(left, op, text)
    if isinstance(left, Words):
        return _compare_words(left, op, text)
    return _compare_texts(left, op, text)


def _as_flag(value: Value, name: Word) -> bool:
    words = {"true": True, "yes": True, "false": False, "no": False}
    text = {1.0: "true", 0.0: "false"}.get(value.value, "") if isinstance(value, Number) else value.text.lower()
    if text not in words:
        raise AskedWrong(f"{name.text} is true or false.", "filter", value.at)
    return words[text]


def _compare_columns(name: Word, left: Values, op: str, right: Values, other: Word) -> Mask:
    if isinstance(left, Numbers) and isinstance(right, Numbers) and op in _ORDER:
        found: Mask = _ORDER[op](left.values, right.values)
        return found & left.known & right.known
    if isinstance(left, Words) and isinstance(right, Words) and op in ("=", "!="):
        place = {text: i for i, text in enumerate(left.names)}
        translated = np.array([*(place.get(text, -2) for text in right.names), -1])[right.codes]
        return _joined(np.logical_and, [(left.codes == translated) == (op == "="), left.known, right.known])
    raise AskedWrong(
        f"{name.text} {op} {other.text} compares columns that have nothing in common. If {other.text} is meant as a "
        f"text, put it in quotes.",
        "filter",
        other.at,
    )


def _compare_tags(left: Tags, op: str, text: str) -> Mask:
    if op in ("=", "!="):
        found = left.mask(text)
        return found if op == "=" else ~found
    found = np.zeros(left.count, bool)
    for name in left.ids:
        if text.lower() in name.lower():
            found |= left.mask(name)
    return found if op == "~" else ~found


def _compare_sets(left: Sets, op: str, text: str) -> Mask:
    """As of tags: = asks whether the class is in the set, ~ whether one is whose name contains the text."""
    is_exact = op in ("=", "!=")
    meant = [i for i, name in enumerate(left.names) if (name == text if is_exact else text.lower() in name.lower())]
    found = left.mask(meant)
    return found if op in ("=", "~") else _joined(np.logical_and, [~found, left.known])


def _compare_words(left: Words, op: str, text: str) -> Mask:
    if op in ("=", "!="):
        meets = [(name == text) == (op == "=") for name in left.names]
    else:
        meets = [(text.lower() in name.lower()) == (op == "~") for name in left.names]
    found: Mask = np.array([*meets, False])[left.codes]
    return found


def _compare_texts(left: Texts, op: str, text: str) -> Mask:
    values = left.values
    if op in ("=", "!="):
        is_so = pc.equal(values, text)
    else:
        is_so = pc.match_substring(values, text, ignore_case=True)
    is_met = np.asarray(is_so.fill_null(False).to_numpy(zero_copy_only=False), bool)
    return is_met if op in ("=", "~") else _joined(np.logical_and, [~is_met, left.known])


def _inside(condition: Inside, table: Named) -> Mask:
    from matplotlib.path import Path  # of matplotlib, this imports little more than numpy

    x, y = (_numbers(name, table).values for name in (condition.x, condition.y))
    corners = np.array(condition.corners)
    low, high = corners.min(0), corners.max(0)
    found: Mask = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])
    at = np.flatnonzero(found)
    found[at] = Path(corners).contains_points(np.stack([x[at], y[at]], 1))
    return found
