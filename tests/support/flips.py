"""Flipped bits: in a file that is there, one at a time, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Literal

Outcome = Literal["found", "harmless", "wrong"]
"""The reader said so; it read the same as before; it read something else and said nothing."""


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file. It is another file afterwards, so no reader may take it for the one that it knows."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    put(path, bytes(content))


def put(path: Path, content: bytes) -> None:
    """Give a file this content, as another file of the same name."""
    aside = path.with_name(f"{path.name}.aside")
    aside.write_bytes(content)
    aside.replace(path)


def trial(paths: Sequence[Path], num: int, read: Callable[[], Outcome], seed: int = 0) -> Counter[Outcome]:
    """Flip `num` bits at random places of random files, each in files that are whole otherwise.

    Args:
        paths: a larger file is hit more often.
        read: reads as a user would, and tells.
    """
    random, sizes = Random(seed), [path.stat().st_size for path in paths]
    found: Counter[Outcome] = Counter()
    for path in random.choices(paths, sizes, k=num):
        before = path.read_bytes()
        flip(path, random.randrange(8 * len(before)))
        found[read()] += 1
        put(path, before)
    return found


def every_bit(path: Path, places: Iterable[int], read: Callable[[], Outcome]) -> dict[int, Outcome]:
    """What becomes of each of these bits."""
    before, found = path.read_bytes(), {}
    for bit in places:
        flip(path, bit)
        found[bit] = read()
        put(path, before)
    return found
