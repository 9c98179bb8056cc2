"""Groups of samples that stay in one split: what they are, and what splits of whole groups came out as. No torch.

Shares are of the labelled samples that were there to be divided: all but those of which the data say in which split
they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from litscope.console import number_of
from litscope.data.manifest import SPLITS, UNLABELLED, Manifest

FAR = 0.25
"""A split is far from what was asked for if it is off by more than this part of it."""


@dataclass(frozen=True)
class GroupedSplit:
    """What one split came out as.

    Attributes:
        split: train, val, test.
        num_groups: groups with a labelled sample in it; a sample without a group is one of its own.
        num_samples: labelled samples.
        wanted: the share of the samples that was asked for; None where the data say which samples are in it.
        share: of the samples that were divided; None where `wanted` is.
        class_name: the class whose share of the split differs most from its share of all samples.
        class_share, class_share_of_all: these.
    """

    split: str
    num_groups: int
    num_samples: int
    wanted: float | None
    share: float | None
    class_name: str
    class_share: float
    class_share_of_all: float

    @property
    def is_far(self) -> bool:
        """Whether it is much smaller or larger than was asked for."""
        if self.wanted is None or self.share is None:
            return False
        return abs(self.share - self.wanted) > FAR * self.wanted

    def line(self) -> str:
        """For people."""
        size = f"{number_of(self.num_samples, 'sample')} of {number_of(self.num_groups, 'group')}"
        if self.wanted is not None and self.share is not None:
            size += f", {self.share:.1%} ({self.wanted:.1%} wanted)"
        balance = f"{self.class_name} is {self.class_share:.1%} of it and {self.class_share_of_all:.1%} of all"
        return f"  {self.split}: {size}; class balance: off by at most {self._off:.1f} points ({balance})"

    @property
    def _off(self) -> float:
        return 100 * abs(self.class_share - self.class_share_of_all)


@dataclass(frozen=True)
class Groups:
    """The groups of a data set.

    Attributes:
        column: what names them.
        num_groups: of them; samples without one do not count.
        num_without: samples without a group.
        smallest, median, largest: samples of a group.
        largest_name: of the group that has the most.
        num_across_classes: groups with labelled samples of more than one class.
        straddling: names of groups that are in more than one split.
        splits: what the splits came out as; those without a sample are left out.
    """

    column: str
    num_groups: int
    num_without: int
    smallest: int
    median: float
    largest: int
    largest_name: str
    num_across_classes: int
    straddling: list[str]
    splits: list[GroupedSplit]

    def lines(self) -> list[str]:
        """For people: the groups, and each split."""
        sizes = f"{self.smallest:,} to {self.largest:,} samples"
        sizes = f"{self.smallest:,} to {self.largest:,} samples (median {self.median:g})"
        facts = [
            f"{number_of(self.num_groups, 'group')} by {self.column!r}, of {sizes}, the most in {self.largest_name!r}",
            f"{self.num_across_classes:,} with more than one class",
        ]
        if self.num_without:
            facts.append(f"{number_of(self.num_without, 'sample')} without a group, a group of its own each")
        return ["; ".join(facts), *(split.line() for split in self.splits)]

    def warnings(self) -> list[str]:
        """Sentences, each with what to do."""
        found = []
        if self.straddling:
            found.append("groups are in more than one split, so the result is too good; give each group one split")
        for split in self.splits:
            if split.is_far and split.split != "train":
                found.append(
                    f"whole groups make {split.split} {split.share:.1%} of the samples, where {split.wanted:.1%} were "
                    f"wanted (the largest group has {number_of(self.largest, 'sample')}); give another "
                    f"--{split.split}-split, or a column split of your own"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def groups_of(manifest: Manifest, column: str, wanted: Mapping[str, float]) -> Groups | None:
    """The groups of a data set; None: it has none.

    Args:
        manifest: with complete splits.
        column: what names the groups.
        wanted: split -> the share that was asked for, of those that were drawn.
    """
    if manifest.groups is None:
        return None
    encoded = manifest.table["group"].combine_chunks().dictionary_encode()
    names, code = encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    if not names:
        return None
    has_group = code >= 0
    sizes = np.bincount(code[has_group])
    code[~has_group] = len(names) + np.arange((~has_group).sum())  # a row without a group is one of its own
    labelled = manifest.labels != UNLABELLED
    pairs = np.unique(code[labelled] * manifest.num_classes + manifest.labels[labelled])
    num_classes = np.unique(pairs // manifest.num_classes, return_counts=True)[1]
    in_split = [np.unique(code[manifest.splits == split]) for split in SPLITS]
    inside, num_splits = np.unique(np.concatenate(in_split), return_counts=True)
    straddling = inside[num_splits > 1]
    return Groups(
        column=column,
        num_groups=len(names),
        num_without=int((~has_group).sum()),
        smallest=int(sizes.min()),
        median=float(np.median(sizes)),
        largest=int(sizes.max()),
        largest_name=names[int(sizes.argmax())],
        num_across_classes=int((num_classes > 1).sum()),
        straddling=sorted(names[at] for at in straddling.tolist()),
        splits=_splits(manifest, code, wanted),
    )


def _splits(manifest: Manifest, code: npt.NDArray[np.int64], wanted: Mapping[str, float]) -> list[GroupedSplit]:
    labelled = manifest.labels != UNLABELLED
    counts = {
        split: np.bincount(manifest.labels[labelled & (manifest.splits == split)], minlength=manifest.num_classes)
        for split in SPLITS
    }
    everyone = np.sum(list(counts.values()), axis=0)
    of_all = everyone / max(1, everyone.sum())
    divided = sum(int(counts[split].sum()) for split in ("train", *wanted))
    shares = {**wanted, "train": 1 - sum(wanted.values())} if wanted else {}
    found = []
    for split, own in counts.items():
        total = int(own.sum())
        if not total:
            continue
        at = int(np.abs(own / total - of_all).round(9).argmax())  # the first, of two that are alike
        is_drawn = split in shares
        found.append(
            GroupedSplit(
                split=split,
                num_groups=len(np.unique(code[labelled & (manifest.splits == split)])),
                num_samples=total,
                wanted=shares[split] if is_drawn else None,
                share=total / divided if is_drawn else None,
                class_name=manifest.classes[at],
                class_share=float(own[at] / total),
                class_share_of_all=float(of_all[at]),
            )
        )
    return found
