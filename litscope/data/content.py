"""Content: which sample of a run a row of a data set is, whatever it is called and wherever it lies. No torch.

A row is the sample of a run that has the same content (`reading.digests`), first under the same key, then under any
other. A row of another content is none of its samples, even under the key of one. Sizes and modification times, where
they are those of the run, save reading the files (`with_content`); else bytes decide.

    with_content   the manifest of a source, with its contents
    match          rows of one manifest -> samples of another
    align          a source in the order, with the keys and in the splits of a run

Runs that were written before manifests held contents are matched by key alone, and `Match` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.console import track
from litscope.data.manifest import UNLABELLED, Ids, Manifest
from litscope.data.reading.digests import DIGEST_TYPE, array_digests, file_digest
from litscope.data.reading.readers import FileReader
from litscope.data.sources.source import Source
from litscope.errors import DataError
from litscope.limits import num_cores

_NONE = -1
_CHUNK = 256  # files per task of the thread pool

UNCHECKED = (
    "nobody has kept the contents of its samples (an old litscope, or shards without checksums: litscope index "
    "--checksums): they are found by their keys, and whether their content is still the same cannot be checked"
)

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """Which sample of a run each of n rows is.

    Attributes:
        sample_id: (n,) int64; -1 where a row is no sample of the run.
        is_checked: whether the run knows contents; else keys alone decided.
        moved: rows that were found under another key.
        relabelled: rows whose label is another than the run's (or that has, or lacks, one now).
        changed: rows that have the key of a sample, and another content.
        changed_ids: the samples of the run whose keys these are.
        new: rows that are no samples of the run, without those that are changed.
        gone: samples of the run that are no row, without those that are changed.
        num_samples: of the run.
    """

    sample_id: Ids
    is_checked: bool
    moved: Ids
    relabelled: Ids
    changed: Ids
    changed_ids: Ids
    new: Ids
    gone: Ids
    num_samples: int

    @property
    def is_stranger(self) -> bool:
        """Whether not one row is a sample of the run."""
        return bool((self.sample_id == _NONE).all())

    @property
    def is_same(self) -> bool:
        """Whether row i is sample i, for all of both, with its label."""
        is_in_order = np.array_equal(self.sample_id, np.arange(self.num_samples))
        return is_in_order and not len(self.moved) and not len(self.relabelled)

    @property
    def rows(self) -> Ids:
        """(N,) the row of each sample of the run; -1 where there is none."""
        rows = np.full(self.num_samples, _NONE, np.int64)
        known = np.flatnonzero(self.sample_id != _NONE)
        rows[self.sample_id[known]] = known
        return rows

    def differences(self) -> str:
        """What is not as in the run, with numbers; an empty string where all is."""
        counts = (
            (len(self.changed), "{} with another content under the same key"),
            (len(self.gone), "{} gone"),
            (len(self.new), "{} new"),
            (len(self.relabelled), "{} with another label"),
            (len(self.moved), "{} in another place"),
        )
        found = [text.format(f"{count:,}") for count, text in counts if count]
        known = self.sample_id[self.sample_id != _NONE]
        if not found and (np.diff(known) < 0).any():
            found = ["all of them in another order"]
        return ", ".join(found)


def with_content(source: Source, known: Manifest | None = None, progress: bool = False) -> Manifest:
    """The manifest of a source, with the content of each sample; null where a file cannot be read.

    Args:
        source: an open source.
        known: the manifest of a run. A file that has the key, size and modification time of a sample there is not read.
        progress: draw a bar while files are read.
    """
    manifest = source.manifest
    if source.digests is not None:
        return manifest.with_content(source.digests)
    if not isinstance(source.reader, FileReader):
        if source.reader.array is None:  # shards that others wrote: nobody has read their bytes
            return manifest
        return manifest.with_content(array_digests(source.reader.array))
    sizes, times = source.reader.stats().T
    digests: list[bytes | None] = [None] * len(manifest)
    wanted = np.flatnonzero(sizes != _NONE)
    if known is not None and known.has_content:
        at = pc.index_in(manifest.table["key"], value_set=known.table["key"]).fill_null(_NONE)
        at = np.asarray(at.to_numpy(), np.int64)
        then_sizes, then_times = known.numbers("size_bytes"), known.numbers("mtime_ns")
        then = known.table["digest"].to_pylist()
        is_same = (at != _NONE) & (then_sizes[at] == sizes) & (then_times[at] == times)
        for row in np.flatnonzero(is_same).tolist():
            digests[row] = then[at[row]]
        wanted = np.flatnonzero((sizes != _NONE) & ~is_same)
    for row, digest in _read(source.reader, wanted, progress):
        digests[row] = digest
    return manifest.with_content(pa.array(digests, DIGEST_TYPE), sizes, times)


def match(now: Manifest, then: Manifest) -> Match:
    """Find the rows of a data set in a run.

    Of several with one content, those under the same key are the same; then those with the same label; the others in
    order. Each sample is at most one row.

    Args:
        now: the data set's, from `with_content`.
        then: the run's. Classes are compared by name.
    """
    is_checked = then.has_content and now.has_content
    if is_checked and _is_in_order(now, then):
        relabelled = np.flatnonzero(now.labels != then.labels)
        nothing = np.empty(0, np.int64)
        everything = np.arange(len(then))
        return Match(everything, True, nothing, relabelled, nothing, nothing, nothing, nothing, len(then))
    label = _codes(_names(now), _names(then))
    key = _pairs(*_codes(now.table["key"], then.table["key"]))  # a list may name a file twice
    content = _content_codes(now, then)
    found = np.full(len(now), _NONE, np.int64)
    is_free = np.ones(len(then), bool)
    by_key = _Lookup(key)
    if not is_checked:
        by_key.find(found, is_free)
    else:
        same = _Lookup(key, content), _Lookup(content, label)
        rounds = [_Lookup(key, content, label), *(same[::-1] if _is_numbered(then) else same), _Lookup(content)]
        for lookup in rounds:
            lookup.find(found, is_free, content[0] >= 0, content[1] >= 0)
        _unknown(by_key, content, found, is_free)
    return _told(now, then, found, is_free, by_key, label, is_checked)


def _is_in_order(now: Manifest, then: Manifest) -> bool:
    """Whether row i has the key and the content of sample i, for all of both: what there is to find is plain then.

    Row numbers for keys say less than labels do (`_is_numbered`), so of a table the labels have to be equal, too.
    """
    return (
        now.classes[: then.num_classes] == then.classes
        and now.table["digest"].null_count == 0
        and now.table["digest"].equals(then.table["digest"])
        and now.table["key"].equals(then.table["key"])
        and not (_is_numbered(then) and (now.labels != then.labels).any())
    )


def align(source: Source, known: Manifest, found: Match) -> tuple[Source, Ids]:
    """A source in the order of a run's samples, then the rows that are new, without those that are changed.

    A sample has the run's key and split; a row that is no sample is in no split.

    Returns:
        The source, and (n,) the sample of each of its rows, or -1.
    """
    is_known = found.sample_id != _NONE
    order = np.lexsort((np.where(is_known, found.sample_id, 0), ~is_known))
    order = order[~np.isin(order, found.changed)]
    manifest, ids = source.manifest, found.sample_id[order]
    num_known = int(is_known.sum())
    splits = np.full(len(ids), "", dtype=object)
    splits[:num_known] = known.splits[ids[:num_known]]
    keys = manifest.keys[order]
    keys[:num_known] = known.keys[ids[:num_known]]
    table = manifest.table.take(pa.array(order))
    for name, values in (("sample_id", np.arange(len(ids))), ("key", pa.array(keys, pa.string()))):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    is_whole = np.array_equal(order, np.arange(len(source.manifest)))
    reader = source.reader if is_whole else source.reader.take(order)
    aligned = Manifest(table, manifest.classes, manifest.encoding).with_splits(splits)
    digests = None if source.digests is None else source.digests.take(pa.array(order))
    return replace(source, manifest=aligned, reader=reader, digests=digests), ids


# ---- reading -----------------------------------------------------------------------------------


def _read(reader: FileReader, rows: Ids, progress: bool) -> Iterator[tuple[int, bytes | None]]:
    """(row, digest) of files; None for one that cannot be read."""

    def read(row: int) -> tuple[int, bytes | None]:
        try:
            return row, file_digest(reader.path(row))
        except (OSError, DataError):
            return row, None

    chunks = [rows[start : start + _CHUNK].tolist() for start in range(0, len(rows), _CHUNK)]
    with ThreadPoolExecutor(min(4, num_cores())) as pool:
        done = pool.map(lambda chunk: [read(row) for row in chunk], chunks)
        for pairs in track(done, "comparing contents with the run's", total=len(chunks), show=progress):
            yield from pairs


# ---- matching ----------------------------------------------------------------------------------


class _Lookup:
    """Finds rows among samples by one or several codes that both have; the n-th of some alike is the n-th there."""

    def __init__(self, *codes: tuple[Codes, Codes]) -> None:
        self._now, self._then = codes[0]
        for more in codes[1:]:
            self._now, self._then = _joined((self._now, self._then), more)

    def find(
        self,
        found: Ids,
        is_free: npt.NDArray[np.bool_],
        now: npt.NDArray[np.bool_] | None = None,
        then: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Fill in `found` (n,) and `is_free` (N,), of the rows `now` and the samples `then` that are open still."""
        rows = np.flatnonzero((found == _NONE) & (True if now is None else now))
        samples = np.flatnonzero(is_free & (True if then is None else then))
        one, two = _pairs(self._now[rows], self._then[samples])
        order = np.argsort(two, kind="stable")
        at = np.searchsorted(two[order], one)
        is_found = at < len(order)
        is_found[is_found] = two[order][at[is_found]] == one[is_found]
        hits = samples[order[at[is_found]]]
        found[rows[is_found]] = hits
        is_free[hits] = False

    def partners(self, rows: Ids, samples: Ids) -> tuple[Ids, Ids]:
        """Those of the rows that have a partner among the samples, and the partners."""
        found = np.full(len(self._now), _NONE, np.int64)
        is_free = np.zeros(len(self._then), bool)
        is_free[samples] = True
        is_asked = np.zeros(len(self._now), bool)
        is_asked[rows] = True
        self.find(found, is_free, is_asked)
        hit = np.flatnonzero(found != _NONE)
        return hit, found[hit]


def _unknown(by_key: _Lookup, content: tuple[Codes, Codes], found: Ids, is_free: npt.NDArray[np.bool_]) -> None:
    """Rows and samples one of which has no known content, for its file could not be read, are the same by key."""
    by_key.find(found, is_free, content[0] < 0)
    by_key.find(found, is_free, None, content[1] < 0)


def _told(
    now: Manifest,
    then: Manifest,
    found: Ids,
    is_free: npt.NDArray[np.bool_],
    by_key: _Lookup,
    label: tuple[Codes, Codes],
    is_checked: bool,
) -> Match:
    """A match, with what is to be said of it."""
    known = np.flatnonzero(found != _NONE)
    ids = found[known]
    is_moved = now.keys[known] != then.keys[ids]
    rest, free = np.flatnonzero(found == _NONE), np.flatnonzero(is_free)
    changed, changed_ids = by_key.partners(rest, free)
    return Match(
        sample_id=found,
        is_checked=is_checked,
        moved=known[is_moved.astype(bool)],
        relabelled=known[label[0][known] != label[1][ids]],
        changed=changed,
        changed_ids=changed_ids,
        new=np.setdiff1d(rest, changed, assume_unique=True),
        gone=np.setdiff1d(free, changed_ids, assume_unique=True),
        num_samples=len(then),
    )


def _is_numbered(manifest: Manifest) -> bool:
    """Whether a key is but a row's number, which says less of a sample than its label does."""
    return bool(manifest.encoding.get("kind") == "table")


def _names(manifest: Manifest) -> pa.Array:
    """(N,) the class names of the labels; null for none."""
    labels = pa.array(manifest.labels, mask=manifest.labels == UNLABELLED)
    return pa.array(manifest.classes, pa.string()).take(labels)


def _content_codes(now: Manifest, then: Manifest) -> tuple[Codes, Codes]:
    if not (now.has_content and then.has_content):
        return np.full(len(now), _NONE), np.full(len(then), _NONE)
    return _codes(now.table["digest"], then.table["digest"])


def _codes(one: pa.Array | pa.ChunkedArray, two: pa.Array | pa.ChunkedArray) -> tuple[Codes, Codes]:
    """Numbers for the values of two columns, equal where the values are; -1 for null."""
    chunks = [chunk for part in (one, two) for chunk in (part.chunks if isinstance(part, pa.ChunkedArray) else [part])]
    codes = pa.concat_arrays(chunks).dictionary_encode().indices.fill_null(_NONE)
    numbers = np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)
    return numbers[: len(one)], numbers[len(one) :]


def _joined(one: tuple[Codes, Codes], two: tuple[Codes, Codes]) -> tuple[Codes, Codes]:
    """Numbers for pairs of codes."""
    first, second = np.concatenate(one), np.concatenate(two)
    _, codes = np.unique(first * (int(second.max(initial=0)) + 2) + second + 1, return_inverse=True)
    return codes[: len(one[0])], codes[len(one[0]) :]


def _pairs(one: Codes, two: Codes) -> tuple[Codes, Codes]:
    """The codes, with a number of their own for the second, third ... of the same code in each."""
    return _joined((one, two), (_occurrence(one), _occurrence(two)))


def _occurrence(codes: Codes) -> Codes:
    """(n,) how many of the same code come before."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    is_first = np.ones(len(codes), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    starts = np.maximum.accumulate(np.where(is_first, np.arange(len(codes)), 0))
    found = np.empty(len(codes), np.int64)
    found[order] = np.arange(len(codes)) - starts
    return found
