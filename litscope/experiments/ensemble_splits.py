"""Which samples an ensemble of runs may be judged on: those that no member has seen.

A sample is the same in two runs if its content is (`data.content`), whatever it is called and whatever split it is in;
where a run does not know contents, its key counts. Samples of one group belong together: if a member was trained on one
of them, it has seen the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from litscope.data.manifest import SPLITS, UNLABELLED, Manifest

Splits = npt.NDArray[np.object_]


@dataclass(frozen=True)
class JointSplits:
    """The samples of one run, for an ensemble of several.

    Attributes:
        splits: (N,) train: a member was trained on the sample, or on one of its group; val: it validated all members
            that know it; test: it is in the test split of all of these; "": neither, as it validated some and is for
            testing others, or is in no split of any.
        spoilt: of each member, how many samples that are val or test in the run it was trained on.
        num_mixed: samples that are val of some and test of others.
        is_checked: whether contents were compared, and not keys alone.
    """

    splits: Splits
    spoilt: Sequence[int] = field(default=())
    num_mixed: int = 0
    is_checked: bool = True

    def counts(self, manifest: Manifest) -> dict[str, int]:
        """How many labelled samples each split has; `none`: how many are in no split."""
        is_labelled = manifest.labels != UNLABELLED
        found = {split: int(((self.splits == split) & is_labelled).sum()) for split in (*SPLITS, "")}
        return {split or "none": count for split, count in found.items()}


def joint_splits(base: Manifest, members: Sequence[Manifest]) -> JointSplits:
    """The splits of an ensemble.

    Args:
        base: the samples.
        members: of all of its runs, the base's own among them.
    """
    is_checked = all(manifest.has_content for manifest in (base, *members))
    names = _names(base, is_checked)
    is_in: dict[str, npt.NDArray[np.bool_]] = {split: np.zeros(len(base), bool) for split in SPLITS}
    kept_aside, spoilt = np.isin(base.splits, SPLITS[1:]), []
    for manifest in members:
        theirs = _names(manifest, is_checked)
        found = {split: _among(names, theirs[manifest.splits == split]) for split in SPLITS}
        found["train"] |= _of_groups(base, manifest, found["train"])
        spoilt.append(int((found["train"] & kept_aside).sum()))
        for split in SPLITS:
            is_in[split] |= found[split]
    splits = np.full(len(base), "", dtype=object)
    is_mixed = is_in["val"] & is_in["test"] & ~is_in["train"]
    for split in ("test", "val", "train"):
        splits[is_in[split]] = split
    splits[is_mixed] = ""
    return JointSplits(splits, spoilt, int(is_mixed.sum()), is_checked)


def unknown_splits(base: Manifest) -> JointSplits:
    """Those where nobody knows what a member was trained on: it may have been any sample."""
    return JointSplits(np.full(len(base), SPLITS[0], dtype=object))


def _names(manifest: Manifest, is_checked: bool) -> npt.NDArray[np.object_]:
    """(N,) what a sample is known by: its content, or where a file could not be read, its key."""
    keys = manifest.keys
    if not is_checked:
        return keys
    digests = manifest.table["digest"].to_pylist()
    return np.array(
        [key if digest is None else digest for key, digest in zip(keys, digests, strict=True)], dtype=object
    )


def _among(names: npt.NDArray[np.object_], some: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    known = set(some.tolist())
    return np.fromiter((name in known for name in names), bool, len(names))


def _of_groups(base: Manifest, member: Manifest, is_trained: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(N,) whether a sample is of a group that a member was trained on.

    Args:
        is_trained: (N,) samples that it was trained on themselves.
    """
    if base.groups is None:
        return np.zeros(len(base), bool)
    seen = {group for group in base.groups[is_trained].tolist() if group is not None}
    if member.groups is not None:
        seen |= {group for group in member.groups[member.splits == "train"].tolist() if group is not None}
    return np.fromiter((group in seen for group in base.groups), bool, len(base))
