"""Runs of several processes beside the same run of one: their data, and the numbers that must be equal."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest


def points(splits: Sequence[str]) -> str:
    """A CSV of two classes of points, a third of them of the second."""
    draw, lines = random.Random(0), ["a,b,label,split"]
    for i, split in enumerate(splits):
        k = i % 3 == 0
        lines.append(f"{draw.gauss(k, 1)},{draw.gauss(-k, 1)},{'yx'[k]},{split}")
    return "\n".join(lines) + "\n"


def numbers(line: dict[str, Any]) -> dict[str, Any]:
    """What of a line is neither a time nor a name."""
    return {name: value for name, value in line.items() if "/" in name or name in ("step", "epoch", "num_samples")}


def assert_same(lines: Sequence[dict[str, Any]], of_one: Sequence[dict[str, Any]]) -> None:
    """The lines of two files of metrics hold the same numbers, to 1e-5."""
    assert len(lines) == len(of_one) > 0
    for two, one in zip(lines, of_one, strict=True):
        assert numbers(two) == pytest.approx(numbers(one), abs=1e-5)
