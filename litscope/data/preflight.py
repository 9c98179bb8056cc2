"""Preflight: what is wrong with a data set, before the first step. No torch.

`inspect` counts, reads every file's header, checks that the file's end is there (a file without an
end marker is decoded to make sure), and takes the digest of every file and of every row in memory: what has the
same is the same, and the run's manifest keeps them (`content`). It does not decode every JPEG, PNG and WebP: damage
that only decoding shows (flipped bits inside a file) is found when the cache is built, and can be handed in as
`broken`. Files of other kinds, which have no end marker, and may hold numbers that have no scale, are decoded.
Of shards the index knows the digests; some samples, spread over all, are read to see whether they are what it says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.groups import Groups, groups_of
from litscope.data.looks import brightest, look_at_files, look_at_shards
from litscope.data.manifest import SPLITS, UNLABELLED, Manifest
from litscope.data.reading import images
from litscope.data.reading.digests import DIGEST_TYPE, array_digests
from litscope.data.reading.findings import FILE, kept
from litscope.data.reading.readers import FileReader
from litscope.data.shards.reader import ShardReader
from litscope.data.sources.source import Source
from litscope.data.sources.tables import infinite_line
from litscope.limits import num_cores

_SHOWN = 5  # examples of each finding that are printed
_IMBALANCE = 20  # largest class over smallest, from which on it is worth a line
_LEVELS = 64  # levels of gray, below which it is worth a line that images of 16 bits lose the others
_FEW = 5  # training samples of a class, below which it is worth a line

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Duplicates:
    """Samples with the same content.

    Attributes:
        keys: the samples' keys, in order of their ids.
        splits: the split of each sample.
        labels: the class name of each sample, "" for none.
    """

    keys: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass
class Report:
    """What was found.

    Attributes:
        name, kind, num_samples, classes: those of the source.
        counts: split -> number of labelled samples of each class.
        num_unlabelled: rows without a label; they are never trained on.
        unreadable: (key, reason) of files that cannot be read, and of folders.
        unreadable_ids: (n,) int64, their sample_ids, ascending: set aside, never trained on.
        empty_classes: classes without a readable training sample.
        num_test_seen_in_training: test samples whose content is also in the training data.
        across_splits: groups of equal content in more than one split.
        conflicts: groups of equal content with different labels.
        groups: the groups that stay in one split, where there are any.
        infinite: columns of a table with infinite cells -> how many they are.
        brightest: the largest value of some gray images of 16 bits, where there are such.
        warnings: sentences, each with what to do.
        notes: what the source said when it was opened.
        digests: (N,) of the samples' contents, 16 bytes; null: unreadable. None where contents were not looked at.
    """

    name: str
    kind: str
    num_samples: int
    classes: tuple[str, ...]
    counts: dict[str, list[int]]
    num_unlabelled: int
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    unreadable_ids: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    empty_classes: list[str] = field(default_factory=list)
    num_test_seen_in_training: int = 0
    across_splits: list[Duplicates] = field(default_factory=list)
    conflicts: list[Duplicates] = field(default_factory=list)
    groups: Groups | None = None
    infinite: dict[str, int] = field(default_factory=dict)
    brightest: int | None = None
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    digests: pa.Array | None = None

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to warn about."""
        return not self.warnings and not self.unreadable

    @property
    def straddling_groups(self) -> list[str]:
        """Names of groups that are in more than one split."""
        return self.groups.straddling if self.groups else []

    def lines(self) -> list[str]:
        """The report for people: counts, then findings, each with at most five examples."""
        lines = [f"{self.name}: {self.num_samples:,} samples, {len(self.classes)} classes", *self._count_lines()]
        lines += self.groups.lines() if self.groups else []
        lines += self.notes
        if self.unreadable:
            shown = [f"  {key}: {reason}" for key, reason in self.unreadable]
            lines += [f"{len(self.unreadable):,} unreadable files are set aside:", *_some(shown)]
        for what, found in (
            ("the same content in more than one split", self.across_splits),
            ("the same content with different labels", self.conflicts),
        ):
            if found:
                lines += [f"{what}, {len(found):,} times:", *_some([_describe(group) for group in found])]
        if straddling := self.straddling_groups:
            groups = _some([f"  {name}" for name in straddling])
            lines += [f"{len(straddling):,} groups are in more than one split:", *groups]
        return lines + [f"warning: {warning}" for warning in self.warnings]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, everything in full."""
        return {
            "name": self.name,
            "kind": self.kind,
            "num_samples": self.num_samples,
            "num_unlabelled": self.num_unlabelled,
            "classes": list(self.classes),
            "counts": {split: dict(zip(self.classes, counts, strict=True)) for split, counts in self.counts.items()},
            "unreadable": [{"key": key, "reason": reason} for key, reason in self.unreadable],
            "empty_classes": self.empty_classes,
            "num_test_seen_in_training": self.num_test_seen_in_training,
            "across_splits": [vars(group) for group in self.across_splits],
            "conflicts": [vars(group) for group in self.conflicts],
            "straddling_groups": self.straddling_groups,
            "groups": self.groups.to_dict() if self.groups else None,
            "infinite": self.infinite,
            "warnings": self.warnings,
            "notes": self.notes,
        }

    def _count_lines(self) -> list[str]:
        totals = [f"{split} {sum(counts):,}" for split, counts in self.counts.items()]
        if self.num_unlabelled:
            totals.append(f"without label {self.num_unlabelled:,} (never trained on)")
        lines = ["  " + ", ".join(totals)]
        width = max(map(len, self.classes))
        if len(self.classes) <= 30:
            for k, name in enumerate(self.classes):
                each = "  ".join(f"{split} {counts[k]:>6,}" for split, counts in self.counts.items())
                lines.append(f"  {name:<{width}}  {each}")
            return lines
        for split, counts in self.counts.items():
            if sum(counts):
                low, high = int(np.argmin(counts)), int(np.argmax(counts))
                least, most = f"{counts[low]:,} ({self.classes[low]})", f"{counts[high]:,} ({self.classes[high]})"
                lines.append(f"  {split}: {least} to {most} per class")
        return lines


def inspect(
    source: Source,
    check_files: bool = True,
    *,
    broken: Mapping[int, str] | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    kept_in: Path | None = None,
) -> Report:
    """Inspect a source.

    Args:
        source: opened by `open_source`.
        check_files: look at every file (about 25 microseconds for a small one), and compare contents.
        broken: sample_id -> reason, for files that decoding has already found broken; added to the report.
        num_threads: threads that read files; default one per core, at most 4 (small files are bound by the GIL).
        progress: draw a bar.
        kept_in: the folder of the pixel cache, where there is one: all images have been decoded then, and the findings
            about files are kept there for the next time.
    """
    manifest = source.manifest
    reader, reasons, notes = source.reader, dict(broken or {}), list(source.notes)
    digests: pa.Array | None = None
    traits: dict[str, int] = {}
    if check_files and isinstance(reader, FileReader):
        threads = num_threads or min(4, num_cores())
        found = kept(
            None if kept_in is None else kept_in / FILE, lambda: look_at_files(reader, set(reasons), threads, progress)
        )
        reasons, traits = {**found.reasons, **reasons}, found.traits
        digests = pa.array([found.digests.get(i) for i in range(len(manifest))], DIGEST_TYPE)
    elif check_files:
        digests = source.digests
        if digests is None and reader.array is not None:
            digests = _digests_in_memory(source)
        if isinstance(reader, ShardReader) and kept_in is None:
            more, said = look_at_shards(reader)
            reasons, notes = {**more, **reasons}, [*notes, *said]
        if digests is not None:  # not of shards that others wrote
            digests = _without(digests, reasons)
    bad = np.array(sorted(reasons), dtype=np.int64)
    report = Report(
        name=source.name,
        kind=source.kind,
        num_samples=len(manifest),
        classes=manifest.classes,
        counts=_counts(manifest, bad),
        num_unlabelled=int((manifest.labels == UNLABELLED).sum()),
        unreadable=[
            *source.unreadable.items(),
            *((manifest.key(i), _short(reasons[i], source.reader, i)) for i in bad.tolist()),
        ],
        unreadable_ids=bad,
        groups=groups_of(manifest, source.group_column, source.wanted),
        notes=[*notes, *(f"{traits[name]:,} {rule}" for name, rule in images.TRAITS.items() if name in traits)],
        infinite=dict(source.infinite),
    )
    report.empty_classes = [name for name, n in zip(report.classes, report.counts["train"], strict=True) if n == 0]
    if digests is not None:
        _compare(report, manifest, digests)
    if "deep" in traits and isinstance(reader, FileReader):
        report.brightest = brightest(reader, reasons)
    report.digests = digests
    report.warnings = _warnings(report)
    return report


def _digests_in_memory(source: Source) -> pa.Array:
    assert source.reader.array is not None
    return array_digests(source.reader.array)


def _counts(manifest: Manifest, bad: Ids) -> dict[str, list[int]]:
    """Readable, labelled samples per class of each split."""
    counts = {}
    for split in SPLITS:
        ids = np.setdiff1d(manifest.ids(split), bad, assume_unique=True)
        counts[split] = np.bincount(manifest.labels[ids], minlength=manifest.num_classes).tolist()
    return counts


def _short(reason: str, reader: Any, sample_id: int) -> str:
    """A reason without the path in front of it: it is printed beside the key."""
    prefix = f"{reader.path(sample_id)}: " if isinstance(reader, FileReader) else ""
    return reason.removeprefix(prefix).rstrip(".")


def _without(digests: pa.Array, broken: Mapping[int, str]) -> pa.Array:
    """The digests, but of what cannot be read."""
    if not broken:
        return digests
    is_broken = np.zeros(len(digests), bool)
    is_broken[list(broken)] = True
    return pc.if_else(pa.array(is_broken), pa.scalar(None, DIGEST_TYPE), digests)


def _compare(report: Report, manifest: Manifest, digests: pa.Array) -> None:
    """Fill in the findings about equal contents."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for sample_id, digest in _perhaps_equal(digests):
        same[digest].append(sample_id)
    for ids in same.values():
        if len(ids) < 2:
            continue
        splits = [manifest.split(i) for i in ids]
        labels = [int(manifest.labels[i]) for i in ids]
        group = Duplicates(
            tuple(manifest.key(i) for i in ids),
            tuple(splits),
            tuple("" if label == UNLABELLED else manifest.classes[label] for label in labels),
        )
        if len(set(splits) - {""}) > 1:
            report.across_splits.append(group)
        if len(set(labels) - {UNLABELLED}) > 1:
            report.conflicts.append(group)
        if "train" in splits:
            report.num_test_seen_in_training += splits.count("test")


def _perhaps_equal(digests: pa.Array) -> Iterator[tuple[int, bytes]]:
    """sample_id and digest of those of which another begins alike: of millions, those that are worth a look."""
    ids = np.flatnonzero(digests.is_valid().to_numpy(zero_copy_only=False))
    known = digests if len(ids) == len(digests) else digests.take(pa.array(ids))
    if not len(known):
        return
    _, data = known.buffers()
    begin = np.frombuffer(data, "<u8").reshape(-1, 2)[known.offset :, 0][: len(known)]
    in_order = np.sort(begin)
    several = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(several):
        return
    found = several[np.searchsorted(several, begin).clip(max=len(several) - 1)] == begin
    yield from zip(ids[found].tolist(), known.filter(pa.array(found)).to_pylist(), strict=True)


def _warnings(report: Report) -> list[str]:
    counts = report.counts
    train = np.array(counts["train"])
    warnings = []
    if report.num_test_seen_in_training:
        warnings.append(
            f"{report.num_test_seen_in_training:,} test samples are also in the training data (same bytes), so the "
            "test result is too good; remove them from one of the two"
        )
    if report.conflicts and report.kind == "image":
        warnings.append(f"{len(report.conflicts):,} times the same image has different labels; correct the labels")
    elif report.conflicts:
        warnings.append(
            f"{len(report.conflicts):,} times the same features have different labels; no model can get both right"
        )
    warnings += report.groups.warnings() if report.groups else []
    if report.infinite:
        warnings.append(f"{infinite_line(report.infinite)}; correct them, or leave the cells empty")
    if report.brightest is not None and (levels := images.num_levels(report.brightest)) < _LEVELS:
        warnings.append(
            f"gray images of 16 bits: the largest value is {report.brightest:,} of 65,535 (of those looked at), so at "
            f"most {levels} of 256 levels are left; scale them to the whole range, or save them as .npy"
        )
    if report.empty_classes:
        held = [name for name, *n in zip(report.classes, *counts.values(), strict=True) if not n[0] and sum(n)]
        only = f" ({_names(held)} only outside of it)" if held else ""
        warnings.append(f"no training sample of {_names(report.empty_classes)}{only}; add some, or remove the class")
    few = [name for name, n in zip(report.classes, counts["train"], strict=True) if 0 < n < _FEW]
    if few:
        warnings.append(f"fewer than {_FEW} training samples of {_names(few)}; the model can hardly learn them")
    if sum(counts["val"]):
        without = [c for c, t, v in zip(report.classes, counts["train"], counts["val"], strict=True) if t and not v]
        if without:
            warnings.append(f"no validation sample of {_names(without)}; validation says nothing about them")
    present = train[train > 0]
    if len(present) > 1 and present.max() >= _IMBALANCE * present.min():
        warnings.append(
            f"classes have {present.min():,} to {present.max():,} training samples; consider --class-weights balanced, "
            "and watch val/f1 or val/ap rather than accuracy"
        )
    return warnings


def _describe(group: Duplicates) -> str:
    """key (split, label) = key (split, label) = ..."""
    each = []
    for key, *facts in zip(group.keys, group.splits, group.labels, strict=True):
        each.append(f"{key} ({', '.join(fact for fact in facts if fact) or 'no label'})")
    return "  " + " = ".join(each[:4]) + (f" = {len(each) - 4} more" if len(each) > 4 else "")


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def _some(lines: list[str]) -> list[str]:
    """At most five of the lines, and how many more there are."""
    more = [f"  and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return lines[:_SHOWN] + more
