"""Preflight: what is wrong with a data set, before the first step. No torch.

`inspect` counts, reads every file's header, checks that the file's end is there (a file without an
end marker is decoded to make sure), and takes the digest of every file and of every row in memory: what has the
same is the same, and the run's manifest keeps them (`content`). It does not decode every JPEG, PNG and WebP: damage
that only decoding shows (flipped bits inside a file) is found when the cache is built, and can be handed in as
`broken`. Files of other kinds, which have no end marker, and may hold numbers that have no scale, are decoded.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.console import track
from litscope.data.groups import Groups, groups_of
from litscope.data.manifest import SPLITS, UNLABELLED, Manifest
from litscope.data.reading import bands, images
from litscope.data.reading.digests import DIGEST_TYPE, array_digests, bytes_digest, file_digest
from litscope.data.reading.findings import FILE, Findings, kept
from litscope.data.reading.readers import FileReader
from litscope.data.reading.regular import check_regular
from litscope.data.sources.source import Source
from litscope.data.sources.tables import infinite_line
from litscope.errors import DataError
from litscope.limits import num_cores

_SHOWN = 5  # examples of each finding that are printed
_PIECE = 65_536  # bytes read at each end of a large file
_CHUNK = 256  # files per task of the thread pool
_IMBALANCE = 20  # largest class over smallest, from which on it is worth a line
_LOOKED_AT = 16  # files of 16 bits whose values are looked at
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
        kept_in: the folder of the files' pixel cache, where the findings are kept for the next time.
    """
    manifest = source.manifest
    reasons = dict(broken or {})
    digests: dict[int, bytes] = {}
    traits: dict[str, int] = {}
    is_known = source.digests is not None or source.reader.array is not None  # not of shards that others wrote
    is_compared = check_files and (is_known or isinstance(source.reader, FileReader))
    if check_files:
        if isinstance(source.reader, FileReader):
            reader, threads = source.reader, num_threads or min(4, num_cores())
            found = kept(
                None if kept_in is None else kept_in / FILE,
                lambda: _look_at_files(reader, set(reasons), threads, progress),
            )
            reasons, digests, traits = {**found.reasons, **reasons}, found.digests, found.traits
        elif is_compared:
            rows = source.digests if source.digests is not None else _digests_in_memory(source)
            digests = dict(enumerate(rows.to_pylist()))
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
            *((str(manifest.keys[i]), _short(reasons[i], source.reader, i)) for i in bad.tolist()),
        ],
        unreadable_ids=bad,
        groups=groups_of(manifest, source.group_column, source.wanted),
        notes=[*source.notes, *(f"{traits[name]:,} {rule}" for name, rule in images.TRAITS.items() if name in traits)],
        infinite=dict(source.infinite),
    )
    report.empty_classes = [name for name, n in zip(report.classes, report.counts["train"], strict=True) if n == 0]
    _compare(report, manifest, digests)
    if "deep" in traits and isinstance(source.reader, FileReader):
        report.brightest = _brightest(source.reader, reasons)
    if is_compared:
        report.digests = pa.array([digests.get(i) for i in range(len(manifest))], DIGEST_TYPE)
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


def _compare(report: Report, manifest: Manifest, digests: dict[int, bytes]) -> None:
    """Fill in the findings about equal contents."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for sample_id, digest in sorted(digests.items()):
        same[digest].append(sample_id)
    for ids in same.values():
        if len(ids) < 2:
            continue
        splits = [str(manifest.splits[i]) for i in ids]
        labels = [int(manifest.labels[i]) for i in ids]
        group = Duplicates(
            tuple(str(manifest.keys[i]) for i in ids),
            tuple(splits),
            tuple("" if label == UNLABELLED else manifest.classes[label] for label in labels),
        )
        if len(set(splits) - {""}) > 1:
            report.across_splits.append(group)
        if len(set(labels) - {UNLABELLED}) > 1:
            report.conflicts.append(group)
        if "train" in splits:
            report.num_test_seen_in_training += splits.count("test")


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


def _brightest(reader: FileReader, broken: Mapping[int, str]) -> int | None:
    """The largest value of a few files spread evenly over all, of those that are gray images of 16 bits."""
    ids = np.unique(np.linspace(0, len(reader) - 1, _LOOKED_AT).astype(np.int64)).tolist()
    found = (images.brightest(reader.path(i)) for i in ids if i not in broken)
    return max((value for value in found if value is not None), default=None)


def _look_at_files(reader: FileReader, known: set[int], num_threads: int, progress: bool) -> Findings:
    """Look at all files but the `known` ones."""
    chunks = [range(start, min(start + _CHUNK, len(reader))) for start in range(0, len(reader), _CHUNK)]
    found = Findings({}, {})
    traits: Counter[str] = Counter()
    with ThreadPoolExecutor(num_threads) as pool:
        done = pool.map(lambda ids: [(i, _look(reader, i)) for i in ids if i not in known], chunks)
        for looks in track(done, "looking at the files", total=len(chunks), show=progress):
            for sample_id, look in looks:
                if isinstance(look, str):
                    found.reasons[sample_id] = look
                else:
                    found.digests[sample_id], of_file = look
                    traits.update(of_file)
    found.traits.update(traits)
    return found


def _look(reader: FileReader, sample_id: int) -> str | tuple[bytes, tuple[str, ...]]:
    """Why a file cannot be read; or else its digest and its traits."""
    path = reader.path(sample_id)
    try:
        if path.suffix.lower() == bands.SUFFIX:
            reader.read(sample_id)
            return file_digest(path), ()
        check_regular(path)
        with path.open("rb", buffering=0) as file:
            head = file.read(_PIECE)
            size = os.fstat(file.fileno()).st_size
            tail = head if size <= len(head) else os.pread(file.fileno(), _PIECE, size - _PIECE)
        header = images.read_header(head if size == len(head) else path)
        if not _has_end(head, tail, size):
            reader.read(sample_id)
        return bytes_digest(head) if size == len(head) else file_digest(path), header.traits
    except DataError as error:
        return str(error)
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _has_end(head: bytes, tail: bytes, size: int) -> bool:
    """Whether the file's end is where its format says; False for formats without an end marker."""
    if head[:2] == b"\xff\xd8":
        return b"\xff\xd9" in tail
    if head[:4] == b"\x89PNG":
        return b"IEND" in tail
    if head[:4] == b"RIFF":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return False


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
