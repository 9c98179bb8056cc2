"""Cells of a table -> numbers, without loss before they are centred. No torch.

    integers, decimals    as they are; integers beyond 2^53 lose nothing before `offset` is taken from them
    booleans              0 and 1
    dates, times          seconds (since 1970, or since midnight)
    text                  by marks: 1,234.5 or 1.234,5 or 1 234,5 or 1'234.5, as a whole column is written

A column's record says how (`fit_number`), so that new cells are read in the same way (`read_numbers`):
`offset` and `scale` are there only where float32 could not tell the values of a column apart, or hold them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.reading.gaps import NUMBER_GAPS

_MANY = 256  # so often its spread may a column lie away from 0 before float32 rounds what matters
_SMALL, _LARGE = (
    1e-4,
    1e30,
)  # spreads below and values above are scaled: float32, and what is measured of it, ends there
_EXACT = 1 << 24  # integers up to here are exact in float32
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 86_400

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Marks:
    """How numbers are written: the decimal mark, and the one between thousands, or ""."""

    decimal: str = "."
    thousands: str = ""

    @property
    def words(self) -> str:
        """How numbers are written, in words: `a comma before decimals and a point between thousands`."""
        names = {",": "a comma", ".": "a point", " ": "a space", "'": "an apostrophe"}
        thousands = f" and {names[self.thousands]} between thousands" if self.thousands else ""
        return f"{names[self.decimal]} before decimals{thousands}"

    @property
    def pattern(self) -> str:
        """A regular expression of the numbers that are written so."""
        decimal = f"[{self.decimal}]"
        whole = r"[0-9]+"
        if self.thousands:
            whole += f"|[0-9]{{1,3}}([{self.thousands}][0-9]{{2,3}})*[{self.thousands}][0-9]{{3}}"
        return rf"^[+-]?((({whole})({decimal}[0-9]*)?|{decimal}[0-9]+)([eE][+-]?[0-9]+)?|(?i:inf(inity)?))$"


_PLAIN = Marks()
_ENGLISH, _GERMAN = Marks(".", ","), Marks(",", ".")
_OTHERS = (Marks(".", " "), Marks(",", " "), Marks(".", "'"), Marks(",", "'"))


def all_marks(has_decimal_comma: bool) -> tuple[Marks, ...]:
    """The ways of writing numbers, in the order in which they are tried.

    Args:
        has_decimal_comma: whether 1,234 is rather 1.234 than 1234, as in files whose separator is the semicolon.
    """
    commas = (_GERMAN, _ENGLISH) if has_decimal_comma else (_ENGLISH, _GERMAN)
    return (_PLAIN, *commas, *_OTHERS)


def is_text(kind: pa.DataType) -> bool:
    """Whether cells of this type are text, also as categories."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def trimmed(values: pa.ChunkedArray) -> pa.Array:
    """(N,) strings without white space around them."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return pc.utf8_trim_whitespace(array.cast(pa.string()))


def known_texts(values: pa.ChunkedArray, gaps: tuple[str, ...]) -> pa.Array:
    """(N,) strings without white space around them; what stands for a gap is null."""
    texts = trimmed(values)
    return pc.if_else(pc.is_in(texts, value_set=pa.array(gaps)), pa.scalar(None, pa.string()), texts)


def parse(texts: pa.Array, marks: Marks) -> pa.Array:
    """(N,) float64; null where a text is no number that is written so."""
    tidy = pc.replace_substring_regex(texts, "[\u00a0\u202f\u2009]", " ")
    tidy = pc.replace_substring(tidy, "\N{MINUS SIGN}", "-")
    tidy = pc.replace_substring(tidy, "\N{RIGHT SINGLE QUOTATION MARK}", "'")
    tidy = pc.if_else(pc.match_substring_regex(tidy, marks.pattern), tidy, pa.scalar(None, pa.string()))
    if marks.thousands:
        tidy = pc.replace_substring(tidy, marks.thousands, "")
    tidy = pc.replace_substring(tidy, marks.decimal, ".")
    return pc.replace_substring_regex(tidy, r"^\+", "").cast(pa.float64())


def recognise(texts: pa.Array, has_decimal_comma: bool) -> tuple[Marks, pa.Array]:
    """The marks by which the most of some texts are numbers.

    Args:
        texts: (n,) strings, null for gaps.
        has_decimal_comma: see `all_marks`.

    Returns:
        The marks, and (m,) the texts that are none then, in their order.
    """
    texts = texts.drop_null()
    best, rest = _PLAIN, texts
    for marks in all_marks(has_decimal_comma):
        others = texts.filter(pc.is_null(parse(texts, marks)))
        if len(others) < len(rest):
            best, rest = marks, others
        if not len(rest):
            break
    return best, rest


def fit_number(name: str, values: pa.ChunkedArray, marks: Marks | None = None) -> dict[str, Any] | None:
    """The record of a number column, or None where it has no finite value.

    Args:
        values: (N,) cells of the training rows: numbers, booleans, dates, times, or text.
        marks: how numbers are written, where the cells are text.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError: for cells that are no numbers.
    """
    record: dict[str, Any] = {"name": name, "type": "number"}
    if pa.types.is_boolean(values.type):
        record["values"] = "boolean"
    elif pa.types.is_temporal(values.type):
        record["values"] = "time"
    if marks is not None and marks != _PLAIN:
        record |= {"decimal": marks.decimal, "thousands": marks.thousands}
    rough = read_numbers(values, record)
    finite = rough[np.isfinite(rough)]
    if not len(finite):
        return None
    is_whole = _is_whole(values.type)
    middle = _median(finite)
    origin: float = int(middle) if is_whole else middle
    away = read_numbers(values, {**record, "offset": origin})  # exact, so that their spread is that of the cells
    away = away[np.isfinite(away)]
    spread, deviation = _spread(away), _deviation(away)
    reach = float(np.abs(away).max(initial=0.0))
    has_offset = abs(middle) > (_MANY * spread if spread else _EXACT)
    if has_offset:
        shift = _median(away)
        middle = origin + (int(shift) if is_whole else shift)
        record["offset"] = origin
    else:
        reach = float(np.abs(finite).max())
    if deviation and not (deviation >= _SMALL and reach <= _LARGE):
        record["scale"] = math.ldexp(1.0, min(max(math.frexp(deviation)[1], -1021), 1023))
    return record | {"median": middle, "indicator": len(finite) < len(values)}


def read_numbers(values: pa.ChunkedArray, record: dict[str, Any]) -> Floats:
    """(N,) float64: each number less the record's offset, over its scale; NaN for gaps, infinity as it is.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError: for cells that are no numbers.
    """
    offset: int | float = record.get("offset", 0)
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if is_text(array.type):
        array = parse(known_texts(array, NUMBER_GAPS), Marks(record.get("decimal", "."), record.get("thousands", "")))
    units = 1
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    elif pa.types.is_temporal(array.type):
        array, units = _ticks(array)
    if pa.types.is_integer(array.type):
        numbers = _less(array, offset, units)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False) - float(offset)
    scale = record.get("scale", 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(numbers / scale if scale != 1.0 else numbers, dtype=np.float64)


def fill(record: dict[str, Any]) -> float:
    """What stands for a gap, as `read_numbers` gives numbers."""
    return float((record["median"] - record.get("offset", 0)) / record.get("scale", 1.0))


def num_infinite(values: pa.ChunkedArray, record: dict[str, Any]) -> int:
    """How many cells of a number column are infinite."""
    if not pa.types.is_floating(values.type) and not is_text(values.type):
        return 0
    plain = {key: value for key, value in record.items() if key not in ("offset", "scale")}
    return int(np.isinf(read_numbers(values, plain)).sum())


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_temporal(kind))


def _ticks(array: pa.Array) -> tuple[pa.Array, int]:
    """(N,) int64, and how many of them make a second; or days as seconds."""
    kind = array.type
    if pa.types.is_interval(kind):
        raise pa.ArrowNotImplementedError("intervals have no length in seconds")
    if pa.types.is_date32(kind):
        return pc.multiply(array.cast(pa.int32()).cast(pa.int64()), _DAY), 1
    if pa.types.is_date64(kind):
        return array.cast(pa.int64()), _UNITS["ms"]
    if pa.types.is_time32(kind):
        return array.cast(pa.int32()).cast(pa.int64()), _UNITS[kind.unit]
    return array.cast(pa.int64()), _UNITS[kind.unit]


def _less(array: pa.Array, offset: float, units: int) -> Floats:
    """(N,) float64 of (integers - offset * units) / units: taken apart as integers, rounded once."""
    is_gap = pc.is_null(array).to_numpy(zero_copy_only=False)
    array = array if array.type.bit_width == 64 else array.cast(pa.int64())
    ticks = array.fill_null(0).to_numpy(zero_copy_only=False)
    limits = np.iinfo(ticks.dtype)
    whole = min(max(int(offset) * units, limits.min), limits.max)
    # Modulo 2^64 the difference of the larger and the smaller is the true one, whatever their signs.
    left, right = ticks.astype(np.uint64), np.uint64(whole % (1 << 64))
    distance = np.where(ticks >= whole, left - right, right - left).astype(np.float64)
    numbers = (np.where(ticks >= whole, distance, -distance) + (whole - int(offset) * units)) / units
    numbers -= offset - int(offset)
    return np.where(is_gap, np.nan, numbers)


def _spread(values: Floats) -> float:
    """The middle half's width; where half of the values are equal, the deviation."""
    with np.errstate(over="ignore"):
        low, high = np.percentile(values, [25, 75])
        return float(high - low) or _deviation(values)


def _median(values: Floats) -> float:
    """Of values of any size: the sum of two of them may be none that float64 holds."""
    return float(np.median(values / 2)) * 2 if np.abs(values).max() > _LARGE else float(np.median(values))


def _deviation(values: Floats) -> float:
    """Standard deviation, of values of any size."""
    largest = float(np.abs(values).max(initial=0.0))
    return float(np.std(values / largest) * largest) if largest else 0.0
