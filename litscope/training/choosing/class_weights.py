"""A file of class weights (`--class-weights FILE`), read and checked as it was written. No torch.

weights.json    {"cat": 1, "dog": 2.5}
weights.csv     cat,1                       a line for each class; a first line class,weight is a header
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litscope.errors import ConfigError, did_you_mean

Entries = list[tuple[str, Any, str]]
"""(class, weight as written, where it stands: "line 3"; "" in JSON)."""


def read_class_weights(path: Path, classes: Sequence[str]) -> dict[str, float]:
    """The weight of each class.

    Raises:
        ConfigError: for a file that cannot be read, a class that is unknown, missing or there twice, and a weight that
            is not a number above zero. It names file and class.
    """
    is_json = path.suffix.lower() == ".json"
    entries = _in_json(path) if is_json else _in_csv(path)
    weights: dict[str, float] = {}
    for name, written, where in entries:
        if name in weights:
            raise _refuse(path, f"class {name!r} has a second weight{where}. Keep one of them.")
        if name not in classes:
            known = f"The classes are {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}."
            raise _refuse(path, f"{name!r} is not a class of the data{where}.{did_you_mean(name, classes)} {known}")
        weights[name] = _weight(path, name, written, where)
    missing = [name for name in classes if name not in weights]
    if missing:
        needed = f"a key {json.dumps(missing[0])} with its weight" if is_json else f"a line {missing[0]},WEIGHT"
        others = f" and {len(missing) - 1} other classes" if len(missing) > 1 else ""
        raise _refuse(path, f"no weight for {missing[0]!r}{others}. Add {needed}; every class needs one.")
    return weights


def _weight(path: Path, name: str, written: Any, where: str) -> float:
    try:
        weight = math.nan if isinstance(written, bool) else float(written)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        advice = "" if weight != 0 else " To leave a class out of the loss, leave its samples out of the data."
        raise _refuse(path, f"class {name!r} has the weight {written}{where}. A weight is a number above 0.{advice}")
    return weight


def _in_json(path: Path) -> Entries:
    try:
        found = json.loads(_text(path), object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"this is not JSON: {error}.") from None
    if not isinstance(found, list) or not all(isinstance(pair, tuple) for pair in found):
        raise _refuse(path, 'its JSON is neither {"class": weight, ...} nor anything else that gives classes weights.')
    return [(name, weight, "") for name, weight in found]


def _in_csv(path: Path) -> Entries:
    reader = csv.reader(_text(path).splitlines(), skipinitialspace=True)
    entries: Entries = []
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells) or (not entries and [cell.lower() for cell in cells] == ["class", "weight"]):
            continue
        if len(cells) != 2:
            raise _refuse(
                path, f"line {reader.line_num} is not class,weight, so it is neither JSON by its name nor CSV."
            )
        entries.append((cells[0], cells[1], f" in line {reader.line_num}"))
    return entries


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _refuse(path, f"it cannot be read: {error}.") from None


def _refuse(path: Path, what: str) -> ConfigError:
    return ConfigError(f"--class-weights {path}: {what}")
