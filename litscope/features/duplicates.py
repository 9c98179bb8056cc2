"""Near-duplicates: pairs of images that are one picture, encoded anew, resized, mirrored, a little cropped or lighter.

Features propose and pixels decide: two images are near-duplicates if their features are close, and their pixels, gray
and at 16 x 16, are alike as they are or mirrored. Either alone mistakes what only resembles: ships on a calm sea, or
ten shots of one hand in a row. Both limits were chosen on planted copies (docs/features.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from litscope.console import number_of
from litscope.data.manifest import UNLABELLED, Manifest
from litscope.errors import DataError
from litscope.features.neighbours import Neighbours

MOST_DISTANCE = 0.3
"""Between the features of near-duplicates."""

LEAST_LIKENESS = 0.95
"""Correlation of their gray pixels."""

_SIDE = 16
_NUM_SHOWN = 10

Read = Callable[[int], NDArray[Any]]
"""sample_id -> pixels (H, W, K). Raises DataError for an image that cannot be read."""


class Pair(NamedTuple):
    """Two images that are one picture; `first` has the smaller id."""

    first: int
    second: int
    distance: float
    likeness: float


@dataclass(frozen=True)
class NearDuplicates:
    """The pairs of a data set.

    Attributes:
        manifest: of its N samples.
        pairs: the nearest first.
        num_images: that were compared.
    """

    manifest: Manifest
    pairs: Sequence[Pair]
    num_images: int

    def leaked(self, split: str) -> NDArray[np.int64]:
        """Ascending ids of the samples of a split that have a near-duplicate among the training samples."""
        splits = self.manifest.splits
        both = [(pair.first, pair.second) for pair in self.pairs] + [(pair.second, pair.first) for pair in self.pairs]
        return np.unique([one for one, other in both if splits[one] == split and splits[other] == "train"]).astype(
            np.int64
        )

    @property
    def across_splits(self) -> list[Pair]:
        """The pairs whose samples are in two splits."""
        splits = self.manifest.splits
        return [pair for pair in self.pairs if splits[pair.first] != splits[pair.second]]

    @property
    def conflicts(self) -> list[Pair]:
        """The pairs whose samples have two labels."""
        labels = self.manifest.labels
        return [p for p in self.pairs if UNLABELLED not in (a := (labels[p.first], labels[p.second])) and a[0] != a[1]]

    def lines(self) -> list[str]:
        """What was found, for people: first the pairs that leak, then those with two labels."""
        lines = [f"near-duplicates: {number_of(len(self.pairs), 'pair')} among {self.num_images:,} images"]
        found = (("in more than one split", self.across_splits), ("with different labels", self.conflicts))
        for what, pairs in found:
            if pairs:
                lines += [f"near-duplicates {what}: {number_of(len(pairs), 'pair')}"]
                lines += [f"  {self._told(pair)}" for pair in pairs[:_NUM_SHOWN]]
                lines += [f"  and {len(pairs) - _NUM_SHOWN:,} more"] if len(pairs) > _NUM_SHOWN else []
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The same for programs, with the first pairs of each kind."""
        across, conflicts = self.across_splits, self.conflicts
        return {
            "num_images": self.num_images,
            "num_pairs": len(self.pairs),
            "num_across_splits": len(across),
            "num_conflicts": len(conflicts),
            "num_leaked": {split: len(self.leaked(split)) for split in ("val", "test")},
            "pairs": self._rows(self.pairs),
            "across_splits": self._rows(across),
            "conflicts": self._rows(conflicts),
        }

    def _rows(self, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        return [
            {
                "samples": [self._sample(pair.first), self._sample(pair.second)],
                "distance": round(pair.distance, 4),
                "likeness": round(pair.likeness, 4),
            }
            for pair in pairs[:_NUM_SHOWN]
        ]

    def _sample(self, sample_id: int) -> dict[str, Any]:
        label = int(self.manifest.labels[sample_id])
        return {
            "sample_id": sample_id,
            "key": self.manifest.key(sample_id),
            "split": self.manifest.split(sample_id) or None,
            "label_name": None if label == UNLABELLED else self.manifest.classes[label],
        }

    def _told(self, pair: Pair) -> str:
        each = [self._sample(sample_id) for sample_id in pair[:2]]
        told = [f"{one['key']} ({', '.join(filter(None, (one['split'], one['label_name'])))})" for one in each]
        return f"{' ~ '.join(told)}, distance {pair.distance:.2f}"


def near_duplicates(found: Neighbours, manifest: Manifest, read: Read) -> NearDuplicates:
    """Look at the pixels of those pairs whose features are close.

    Args:
        found: the neighbours. Of an image with more near-duplicates than it has neighbours, some may be missed.
        manifest: of the N samples.
        read: pixels of one of them; an image that cannot be read has no near-duplicate.
    """
    row, rank = np.nonzero(found.distances <= MOST_DISTANCE)
    pairs: dict[tuple[int, int], float] = {}
    for i, j, distance in zip(
        found.ids[row].tolist(), found.nearest[row, rank].tolist(), found.distances[row, rank].tolist(), strict=True
    ):
        pairs.setdefault((min(i, j), max(i, j)), distance)
    small = {sample_id: _small(read, sample_id) for sample_id in sorted({i for pair in pairs for i in pair})}
    alike: list[Pair] = []
    for (first, second), distance in pairs.items():
        one, two = small[first], small[second]
        if one is not None and two is not None and (likeness := _likeness(one, two)) >= LEAST_LIKENESS:
            alike.append(Pair(first, second, distance, likeness))
    return NearDuplicates(manifest, sorted(alike, key=lambda pair: pair[2::-1]), len(found.ids))


def _small(read: Read, sample_id: int) -> NDArray[np.float32] | None:
    """(16, 16) gray, of mean 0 and norm 1; zeros for an image of one colour, None for one that cannot be read."""
    from PIL import Image

    try:
        pixels = np.asarray(read(sample_id), np.float32)
    except DataError:
        return None
    gray = pixels.mean(2) if pixels.ndim == 3 else pixels
    small = np.asarray(Image.fromarray(gray).resize((_SIDE, _SIDE), Image.Resampling.BOX))
    small = small - small.mean()
    norm = float(np.linalg.norm(small))
    return np.asarray(small / norm if norm > 1e-6 * _SIDE else np.zeros_like(small), np.float32)


def _likeness(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """Correlation of two images, as they are or mirrored; 1 for two of one colour each."""
    if not one.any() and not two.any():
        return 1.0
    return float(max((one * two).sum(), (one * two[:, ::-1]).sum()))
