"""Which samples train, validate and test, where the data do not say so themselves. No torch.

`assign` is a pure function of (labels, given splits, groups, seed): stratified by class, seeded,
and rows of one group stay together. What the data say is kept: a given test set is never used for
validation, and a given validation set is never added to.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litscope.data.manifest import UNLABELLED
from litscope.errors import ConfigError, DataError

Labels = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Folds:
    """Cross-validation: every labelled sample that is not for testing lies in one of several folds.

    Attributes:
        count: number of folds.
        number: the fold that validates, from 0; None: none does, and the trainer leaves each one out in turn.
        is_apart: it tests instead, and validation data are drawn from the others.
    """

    count: int
    number: int | None = None
    is_apart: bool = False


_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "": "",
}


def canonical_split(name: str) -> str | None:
    """train, val, test or "" for the usual spellings, in any case; None for any other word."""
    return _ALIASES.get(name.strip().casefold())


def canonical_names(path: Path, names: Names, count: int) -> Names:
    """The split of each row, in our spelling.

    Args:
        path: of the file, for messages.
        names: as they stand in its column `split`.
        count: of its rows.

    Raises:
        DataError: for another number of them, or another word.
    """
    if len(names) != count:
        raise DataError(f"{path}: {count:,} rows and {len(names):,} splits.")
    known: Mapping[str, str | None] = {name: canonical_split(name) for name in set(names)}
    unknown = sorted(name for name, split in known.items() if split is None)
    if unknown:
        raise DataError(
            f"{path}: the column 'split' holds {', '.join(map(repr, unknown[:5]))}; allowed are train, val, test "
            "and empty."
        )
    return np.array([known[name] for name in names], dtype=object)


def assign(
    labels: Labels,
    given: Names,
    groups: Names | None,
    *,
    val_split: float,
    test_split: float,
    seed: int,
    folds: Folds | None = None,
) -> tuple[Names, list[str]]:
    """Complete the splits: afterwards each labelled row is in train, val or test.

    Labelled rows without a split join the training data. Where the data bring no test set, and
    then no validation set, that share of the training data is set aside, class by class. Rows
    without a label keep what they were given.

    Args:
        labels: (N,) int64, -1 for none.
        given: (N,) train, val, test or "".
        groups: (N,) names, or None; a None inside is a group of one row.
        val_split, test_split: shares in [0, 1); together below 1.
        seed: the draw is a pure function of it.
        folds: instead of `val_split`, or with it where a fold is kept apart; a validation set that the data bring joins
            the folds.

    Returns:
        (N,) names, and lines that say what was done.

    Raises:
        ConfigError: if a share is out of range.
        DataError: if no labelled row is left for training.
    """
    _check_shares(val_split, test_split)
    splits = given.copy()
    labelled = labels != UNLABELLED
    splits[labelled & (given == "")] = "train"
    shares = drawn(labels, given, val_split=val_split, test_split=test_split, folds=folds)
    notes: list[str] = []
    pool_size = int((labelled & (splits == "train")).sum())
    if "test" in shares:
        taken = _take(splits, labelled, labels, groups, test_split, [seed, 1])
        splits[taken] = "test"
        notes.append(
            f"test: {taken.sum():,} samples set aside from the training data ({test_split:g} of it, seed {seed})"
        )
    if folds is not None:
        splits[labelled & (splits == "val")] = "train"
        notes.append(_use_fold(splits, labels, groups, folds, seed))
        pool_size = int((labelled & (splits == "train")).sum())
    if "val" in shares:
        # Both shares are of the same whole, so that 0.2 and 0.1 leave 0.7.
        rest = int((labelled & (splits == "train")).sum())
        share = min(val_split * pool_size / rest, 1.0) if rest else val_split
        taken = _take(splits, labelled, labels, groups, share, [seed, 2])
        splits[taken] = "val"
        notes.append(
            f"validation: {taken.sum():,} samples taken from the training data ({val_split:g} of it, seed {seed})"
        )
    if not (labelled & (splits == "train")).any():
        raise DataError(
            f"No labelled training sample: {labelled.sum():,} of {len(labels):,} rows have a label, and none of "
            "them is in the split 'train'. Put labelled rows into train/ (or split = train)."
        )
    return splits, notes


def drawn(
    labels: Labels, given: Names, *, val_split: float, test_split: float, folds: Folds | None = None
) -> dict[str, float]:
    """The splits for which samples are drawn from the training data -> the share that is asked for.

    A split that the data bring is left as it is. Arguments as `assign`.
    """
    labelled = labels != UNLABELLED
    is_apart = folds is not None and folds.is_apart
    asked = {"test": test_split, "val": val_split if folds is None or is_apart else 0.0}
    brought = {split for split in asked if (labelled & (given == split)).any()} - ({"val"} if is_apart else set())
    return {split: share for split, share in asked.items() if share > 0 and split not in brought}


def fold_of(labels: Labels, splits: Names, groups: Names | None, count: int, seed: int) -> Labels:
    """The fold of each sample that trains or validates: stratified by class, rows of one group together.

    Args:
        labels, splits, groups: as `assign` returns and takes them.
        count: of folds, at least 2.
        seed: the draw is a pure function of it.

    Returns:
        (N,) int64 from 0; -1 for rows that are in none.

    Raises:
        DataError: if there are fewer samples, or groups, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    pool = np.flatnonzero((labels != UNLABELLED) & ((splits == "train") | (splits == "val")))
    codes = None if groups is None else _group_codes(groups[pool])[0]
    available, of = (len(pool), "samples") if codes is None else (len(np.unique(codes)), "groups")
    if available < count:
        raise DataError(f"{count} folds: there are only {available} {of} to put into them. Give {available} or fewer.")
    kind = StratifiedKFold if codes is None else StratifiedGroupKFold
    folds = np.full(len(labels), -1, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer samples than folds
        try:
            parts = list(kind(count, shuffle=True, random_state=seed).split(pool, labels[pool], codes))
        except ValueError as error:
            raise DataError(f"{count} folds: no class has that many {of}. Give fewer folds.") from error
    for number, (_, members) in enumerate(parts):
        folds[pool[members]] = number
    sizes = np.bincount(folds[pool], minlength=count)
    if not sizes.all():
        empty = int((sizes == 0).sum())
        raise DataError(f"{count} folds: the groups are too uneven, {empty} folds would be empty. Give fewer.")
    return folds


def _use_fold(splits: Names, labels: Labels, groups: Names | None, folds: Folds, seed: int) -> str:
    """Put the fold that validates into val; the line that says so."""
    numbers = fold_of(labels, splits, groups, folds.count, seed)
    if folds.number is None:
        return f"{folds.count} folds of {(numbers >= 0).sum():,} samples (seed {seed})"
    chosen, role = numbers == folds.number, "test" if folds.is_apart else "val"
    splits[chosen] = role
    name = "test" if folds.is_apart else "validation"
    return f"{name}: fold {folds.number} of {folds.count}, {chosen.sum():,} samples (seed {seed})"


def hold_out(labels: Labels, groups: Names | None, share: float, seed: Any) -> Bools:
    """Choose about `share` of the rows, stratified by class, without taking a class's last sample.

    With groups, whole groups are taken: the largest first (ties in seeded order), each one if that
    brings the classes that it holds nearer to their share. At least one row is taken where that is
    possible.

    Args:
        labels: (M,) int64, all >= 0.
        groups: (M,) names or None.
        share: in (0, 1).
        seed: anything that numpy's default_rng takes.

    Returns:
        (M,) bool.
    """
    rng = np.random.default_rng(seed)
    if groups is None or len(_group_codes(groups)[1]) == len(groups):
        return _hold_out_rows(labels, share, rng)
    return _hold_out_groups(labels, _group_codes(groups)[0], share, rng)


def _take(splits: Names, labelled: Bools, labels: Labels, groups: Names | None, share: float, seed: Any) -> Bools:
    """(N,) bool: which rows of the present training data to set aside."""
    pool = np.flatnonzero(labelled & (splits == "train"))
    taken = np.zeros(len(splits), dtype=bool)
    if len(pool):
        taken[pool] = hold_out(labels[pool], None if groups is None else groups[pool], share, seed)
    return taken


def _hold_out_rows(labels: Labels, share: float, rng: np.random.Generator) -> Bools:
    """Each class gives floor(share * n); the rest of the total goes to the largest remainders."""
    counts = np.bincount(labels)
    wanted = share * counts
    limit = np.maximum(counts - 1, 0)
    quota = np.minimum(np.floor(wanted).astype(np.int64), limit)
    missing = max(1, round(share * len(labels))) - int(quota.sum())
    open_classes = np.flatnonzero(quota < limit)
    remainder = (wanted - quota)[open_classes]
    order = open_classes[np.lexsort((rng.permutation(len(open_classes)), -remainder))]
    quota[order[: max(missing, 0)]] += 1
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    first = np.concatenate(([0], np.cumsum(counts)[:-1]))
    rank = np.arange(len(labels)) - first[labels[by_class]]
    taken = np.zeros(len(labels), dtype=bool)
    taken[by_class] = rank < quota[labels[by_class]]
    return taken


def _hold_out_groups(labels: Labels, codes: Labels, share: float, rng: np.random.Generator) -> Bools:
    """Whole groups, greedily; plain Python over (group, class) pairs, about a microsecond each."""
    contents: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    pairs, sizes = np.unique(np.stack([codes, labels]), axis=1, return_counts=True)
    for code, label, size in zip(*pairs.tolist(), sizes.tolist(), strict=True):
        contents[code][label] = size
    counts = np.bincount(labels).tolist()
    held = [0] * len(counts)
    names = np.asarray(sorted(contents))
    group_sizes = np.bincount(codes)[names]
    order = names[np.lexsort((rng.permutation(len(names)), -group_sizes))].tolist()
    chosen: list[int] = []
    for code in order:
        if _improves(contents[code], held, counts, share):
            chosen.append(code)
            for label, size in contents[code].items():
                held[label] += size
    if not chosen:
        smallest = (c for c in reversed(order) if all(s < counts[k] for k, s in contents[c].items()))
        chosen = [c for c in [next(smallest, None)] if c is not None]
    return np.isin(codes, chosen)


def _improves(group: dict[int, int], held: list[int], counts: list[int], share: float) -> bool:
    """Whether taking the group lowers sum over classes of ((held - share * n) / n)^2, and empties no class."""
    change = 0.0
    for label, size in group.items():
        if held[label] + size >= counts[label]:
            return False
        gap = held[label] - share * counts[label]
        change += ((gap + size) ** 2 - gap**2) / counts[label] ** 2
    return change < 0


def _group_codes(groups: Names) -> tuple[Labels, Names]:
    """(N,) int64 code of each row's group, and the group of each code; None is a group of one row."""
    names = np.array([f"\0{i}" if g is None else g for i, g in enumerate(groups)], dtype=object)
    unique, codes = np.unique(names, return_inverse=True)
    return codes.astype(np.int64), unique


def _check_shares(val_split: float, test_split: float) -> None:
    for flag, value in (("--val-split", val_split), ("--test-split", test_split)):
        if not (math.isfinite(value) and 0 <= value < 1):
            raise ConfigError(f"{flag} is {value:g}; it is a share of the training data, at least 0 and below 1.")
    if val_split + test_split >= 1:
        raise ConfigError(
            f"--val-split {val_split:g} and --test-split {test_split:g} leave nothing to train on; "
            "together they must stay below 1."
        )
