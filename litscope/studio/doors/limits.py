"""How much may be asked at once: checked here for the doors that have no description of their own to check it by.

HTTP has the same limits in its routes' parameters; a test compares both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from litscope.jsonlines import is_unicode
from litscope.studio.refusals import AskedWrong
from litscope.studio.samples.filters import MOST_CHARACTERS
from litscope.studio.samples.grid import MOST_ROWS
from litscope.studio.samples.maps import MOST_BINS, MOST_NEAR, MOST_POINTS
from litscope.studio.samples.review import MOST_AT_ONCE, MOST_SKIPPED

RANGES: dict[tuple[str, str], tuple[int, int]] = {
    ("curves", "max_points"): (2, 100_000),
    ("journal", "limit"): (1, 1000),
    ("samples", "start"): (0, 2**31),
    ("samples", "count"): (0, MOST_ROWS),
    ("sample_ids", "start"): (0, 2**31),
    ("sample_ids", "count"): (0, 10_000_000),
    ("sample", "sample_id"): (0, 2**53),
    ("image", "sample_id"): (0, 2**53),
    ("image", "side"): (1, 100_000),
    ("position", "sample_id"): (0, 2**53),
    ("histogram", "bins"): (1, 1000),
    ("review", "count"): (1, MOST_AT_ONCE),
    ("typical", "count"): (1, 100),
    ("map", "width"): (1, MOST_BINS),
    ("map", "height"): (1, MOST_BINS),
    ("map", "max_points"): (0, MOST_POINTS),
    ("near", "count"): (1, MOST_NEAR),
    ("calibration", "bins"): (1, 200),
}
"""(method of the service, whole number) -> the lowest and the highest value."""

MOST_LISTED = {
    ("curves", "names"): 1000,
    ("samples", "columns"): 1000,
    ("sparklines", "sample_ids"): MOST_ROWS,
    ("review", "skip"): MOST_SKIPPED,
}
"""(method, list) -> most values."""

LONGEST = {"filter": MOST_CHARACTERS, "query": MOST_CHARACTERS}
LONGEST_NAME = 300
"""Characters of texts: of those named, and of all others."""

WORDS: dict[str, Sequence[str]] = {"split": ("train", "val", "test")}
X_OF_CURVES = ("step", "epoch", "time")


def check(method: str, arguments: Mapping[str, Any]) -> None:
    """Refuse what asks for more than one answer may hold.

    Args:
        method: of the service.
        arguments: by name; None stands for one that is not given.

    Raises:
        AskedWrong: naming the argument, its value and the limits.
    """
    for name, value in arguments.items():
        if (method, name) in RANGES and value is not None:
            low, high = RANGES[method, name]
            if not low <= value <= high:
                raise AskedWrong(f"{name} {value}: it is {low} to {high:,}.", name)
        elif isinstance(value, str):
            _check_text(method, name, value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise AskedWrong(f"{name} {value}: it is a finite number.", name)
        elif isinstance(value, list | tuple):
            most = MOST_LISTED.get((method, name), MOST_ROWS)
            if len(value) > most:
                raise AskedWrong(f"{name}: it may have {most:,} values, not {len(value):,}.", name)
            for one in value:
                if isinstance(one, str):
                    _check_text(method, name, one)


def _check_text(method: str, name: str, value: str) -> None:
    longest = LONGEST.get(name, LONGEST_NAME)
    if len(value) > longest:
        raise AskedWrong(f"{name}: it may have {longest:,} characters, not {len(value):,}.", name)
    if not is_unicode(value):
        raise AskedWrong(f"{name} holds half of a surrogate pair, which is no Unicode.", name)
    words = X_OF_CURVES if (method, name) == ("curves", "x") else WORDS.get(name, ())
    if words and value not in words:
        raise AskedWrong(f"{name} {value!r}: it is {', '.join(words[:-1])} or {words[-1]}.", name)
