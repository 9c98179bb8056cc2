"""KeyGiver: every sample of a watched run gets a key of its own, the same from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from litscope.data.manifest import SPLITS
from litscope.watch.samples.ids import numbered
from litscope.watch.samples.parts import Part


class KeyGiver:
    """Gives keys to the parts that have none yet: the names of the data set, else its split and a number.

    Parts of training come first, then those of validation, whichever was met first. A name that another sample has
    already gets its split put before it.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def give(self) -> str:
        """Give all keys that are missing.

        Returns:
            What is to be said of names that several samples had; empty if there were none.
        """
        missing = [part for part in self._parts if len(part.keys) < part.num_samples]
        if not missing:
            return ""
        used = {key for part in self._parts for key in part.keys}
        said = ""
        for part in sorted(missing, key=lambda part: (_rank(part.split), part.first_id)):
            if part.names is None:
                part.prefix = self._prefix(part)
                numbers = range(part.num_samples) if part.numbers is None else part.numbers
                names = [numbered(part.prefix, number) for number in numbers]
            else:
                names = part.names
            part.keys = _unique(names, part.split, used)
            others = [i for i, (key, name) in enumerate(zip(part.keys, names, strict=True)) if key != name]
            if others and not said:
                first = others[0]
                said = (
                    f"{len(others):,} samples of {part.split} have names that other samples have already, such as "
                    f"{names[first]!r}: they count as samples of their own, with keys such as {part.keys[first]!r}. "
                    "Where they are the same samples, wrap the data set once and take subsets of it: "
                    "Subset(with_ids(dataset), indices). A split that setup() makes needs a seed: it runs again."
                )
        return said

    def _prefix(self, part: Part) -> str:
        """That of a split, with a number where it stands for other samples. All numbers of a person's own share one."""
        own = (other.prefix for other in self._parts if other.is_own and other.space == part.space)
        if part.numbers is not None and (shared := next(filter(None, own), None)) is not None:
            return shared
        used = {other.prefix for other in self._parts}
        base = part.space or (part.split if part.split in SPLITS else "data")
        number = 1
        while (prefix := base if number == 1 else f"{base}-{number}") in used:
            number += 1
        return prefix

    def describe(self) -> list[dict[str, Any]]:
        """The parts as `read` takes them, plain JSON."""
        return [
            {
                "split": part.split,
                "first_id": part.first_id,
                "num_samples": part.num_samples,
                "space": part.space,
                "prefix": part.prefix,
                "names": {
                    str(i): name
                    for i, (name, key) in enumerate(zip(part.names or (), part.keys, strict=False))
                    if name != key
                },
            }
            for part in self._parts
        ]

    @staticmethod
    def read(described: Mapping[str, Any], keys: Sequence[str]) -> Part:
        """A part of an earlier attempt.

        Args:
            described: by `describe`.
            keys: of all samples of the run.
        """
        first_id, num_samples, prefix = described["first_id"], described["num_samples"], described["prefix"]
        mine = list(keys[first_id : first_id + num_samples])
        names = None
        if prefix is None:
            names = [described["names"].get(str(i), key) for i, key in enumerate(mine)]
        part = Part(described["split"], first_id, num_samples, names, described["space"], prefix)
        part.keys = mine
        return part


def _rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _unique(names: Sequence[str], split: str, used: set[str]) -> list[str]:
    """The names, changed where they are used already; all are used after it."""
    if used.isdisjoint(names) and len(set(names)) == len(names):
        used.update(names)
        return list(names)
    keys = []
    for name in names:
        key, number = name, 1
        while key in used:
            number += 1
            key = f"{split}/{name}" if number == 2 else f"{split}-{number - 1}/{name}"
        used.add(key)
        keys.append(key)
    return keys
