"""Manifest: which samples there are, and what is known about each. No torch.

`sample_id` is the row number and never changes: it travels in the batch to the ledger and the
page, while the `key` (a path, or a name such as `train/00042`) stays here. Labels come from here
and from nowhere else. A manifest is one Parquet file in the run's folder, with the class names and
the `encoding` (what is needed to read never-seen data in the same way) in the schema's metadata.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from litscope.data.reading.digests import DIGEST_TYPE
from litscope.defaults import CONTENT_COLUMNS
from litscope.errors import DataError
from litscope.limits import give_back_freed
from litscope.rundir import whole_file
from litscope.seals import DamagedError, check, sealed_parquet

UNLABELLED = -1
FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")
_RESERVED = ("sample_id", "key", "label", "split", "group", *CONTENT_COLUMNS)
_METADATA_KEY = b"litscope"

SOFT_LABEL = "soft_label"
"""Column with the share of the second of two classes; of several classes `soft_label_<class>`."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Manifest:
    """One row per sample, in the order of `sample_id` (0 .. N-1).

    Attributes:
        table: sample_id int64, key string, label int64 (-1: no label), split string (train, val,
            test or "" for none), group string (only where groups are known), then further columns
            of the source. Of a run also the content: digest, 16 bytes (null: unreadable), and for files size_bytes
            and mtime_ns, int64.
        classes: name of class 0, 1, ...
        encoding: plain JSON values, see `sources.new`: kind, channels, and for tables how
            columns become features.
    """

    table: pa.Table
    classes: tuple[str, ...]
    encoding: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Manifest({len(self):,} samples, {self.num_classes} classes)"

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def num_classes(self) -> int:
        """Number of classes, including those without a sample."""
        return len(self.classes)

    @cached_property
    def sample_ids(self) -> Ids:
        """(N,) int64, equal to arange(N)."""
        return self._numbers("sample_id")

    @cached_property
    def labels(self) -> Ids:
        """(N,) int64 class indices; -1 where a sample has no label."""
        return self._numbers("label")

    @cached_property
    def keys(self) -> npt.NDArray[np.object_]:
        """(N,) str objects: of ten million samples, a gigabyte."""
        return np.asarray(self.table["key"].to_numpy(zero_copy_only=False), dtype=object)

    @cached_property
    def splits(self) -> npt.NDArray[np.object_]:
        """(N,) str objects: train, val, test or ""."""
        return shared_strings(self.table["split"])

    @cached_property
    def groups(self) -> npt.NDArray[np.object_] | None:
        """(N,) str objects (None: the row is a group of its own), or None where no groups are known."""
        return shared_strings(self.table["group"]) if "group" in self.table.column_names else None

    def ids_of(self, keys: Sequence[str]) -> list[int | None]:
        """The samples of these keys; None for a key that names none, or several.

        One that is not there as it is written may be there in another Unicode form: macOS writes the accents of names
        apart from their letters, and what people type has them in one.
        """
        column = self.table["key"]
        exact: list[int | None] = pc.index_in(pa.array(keys, pa.string()), value_set=column).to_pylist()
        missing = [key for key, row in zip(keys, exact, strict=True) if row is None and not key.isascii()]
        if not missing:
            return exact
        wanted = pa.array({unicodedata.normalize("NFC", key) for key in missing}, pa.string())
        one_form = pc.utf8_normalize(column, form="NFC")
        found = pc.indices_nonzero(pc.is_in(one_form, value_set=wanted))
        names = one_form.take(found).to_pylist()
        counts = Counter(names)
        rows = {name: int(row) for name, row in zip(names, found.to_pylist(), strict=True) if counts[name] == 1}
        return [
            rows.get(unicodedata.normalize("NFC", key)) if row is None else row
            for key, row in zip(keys, exact, strict=True)
        ]

    def key(self, sample_id: int) -> str:
        """Of one sample; `keys` makes an object of each."""
        return str(self.table["key"][sample_id])

    def split(self, sample_id: int) -> str:
        """Of one sample."""
        return str(self.table["split"][sample_id])

    @property
    def extra_columns(self) -> list[str]:
        """Names of the columns that the source had besides those that litscope understands."""
        own = _RESERVED if self.has_content else [name for name in _RESERVED if name not in CONTENT_COLUMNS]
        return [name for name in self.table.column_names if name not in own]

    @property
    def has_content(self) -> bool:
        """Whether the contents of samples are known; see `content`. A column of a source may be called alike."""
        names = self.table.column_names
        return "digest" in names and self.table.schema.field("digest").type == DIGEST_TYPE

    def ids(self, split: str, labelled: bool = True) -> Ids:
        """Ascending sample_ids of one split, int64.

        Args:
            split: train, val, test, or "" for the rows that are in none.
            labelled: leave out rows without a label.
        """
        if split not in (*SPLITS, ""):
            raise ValueError(f"split is {split!r}; allowed are 'train', 'val', 'test' and ''")
        chosen = np.asarray(pc.equal(self.table["split"], split).to_numpy(zero_copy_only=False), dtype=bool)
        if labelled:
            chosen = chosen & (self.labels != UNLABELLED)
        return np.flatnonzero(chosen).astype(np.int64)

    def counts(self, split: str) -> Ids:
        """(C,) number of labelled samples of each class in one split."""
        return np.bincount(self.labels[self.ids(split)], minlength=self.num_classes).astype(np.int64)

    def fingerprint(self) -> str:
        """The same for the same samples in the same order: classes, labels, splits, and contents (else keys).

        When and where files were written does not count.
        """
        found = hashlib.sha256(json.dumps([self.classes, len(self), self.has_content]).encode())
        found.update(self.labels.tobytes())
        found.update("\0".join(map(str, self.splits)).encode())
        if self.grades.num_columns:
            found.update(json.dumps(self.grades.to_pydict()).encode())
        column = self.table["digest" if self.has_content else "key"]
        parts = (part if isinstance(part, bytes) else str(part).encode() for part in column.to_pylist())
        found.update(b"\0".join(parts))
        return found.hexdigest()

    @property
    def grades(self) -> pa.Table:
        """The columns of soft labels, named as `SOFT_LABEL` is; none where there are none."""
        return self.table.select([name for name in self.table.column_names if name.startswith(SOFT_LABEL)])

    def with_splits(self, splits: Sequence[str] | npt.NDArray[np.object_]) -> Manifest:
        """The same samples, with other splits (N names)."""
        position = self.table.column_names.index("split")
        table = self.table.set_column(position, "split", pa.array(splits, pa.string()))
        return Manifest(table, self.classes, self.encoding)

    def with_labels(self, labels: npt.NDArray[np.int64]) -> Manifest:
        """The same samples, with other labels (N,)."""
        table = self.table.set_column(self.table.column_names.index("label"), "label", pa.array(labels))
        return Manifest(table, self.classes, self.encoding)

    def with_content(self, digests: pa.Array, sizes: Ids | None = None, times: Ids | None = None) -> Manifest:
        """The same samples, with their contents.

        Args:
            digests: (N,) 16 bytes each; null where a file cannot be read.
            sizes, times: (N,) of files, bytes and nanoseconds; -1 where there is none.
        """
        table = self.table.drop_columns(
            [name for name in CONTENT_COLUMNS if self.has_content and name in self.table.column_names]
        )
        columns = zip(CONTENT_COLUMNS, (digests, sizes, times), strict=True)
        for name, values in columns:
            table = table if values is None else table.append_column(name, pa.array(values))
        return Manifest(table, self.classes, self.encoding)

    def with_encoding(self, encoding: Mapping[str, Any]) -> Manifest:
        """The same samples, with another encoding."""
        return Manifest(self.table, self.classes, dict(encoding))

    def write(self, path: Path) -> None:
        """Write everything to one Parquet file, whole or not at all."""
        facts = {"format_version": FORMAT_VERSION, "classes": list(self.classes), "encoding": self.encoding}
        metadata = {_METADATA_KEY: json.dumps(facts, ensure_ascii=False, allow_nan=False).encode()}
        with memory_given_back():
            content = pa.BufferOutputStream()
            pq.write_table(self.table.replace_schema_metadata(metadata), content, compression="zstd")
            with whole_file(Path(path)) as file:
                file.writelines(sealed_parquet(content.getvalue()))

    @classmethod
    def read(cls, path: Path, keys: pa.ChunkedArray | None = None) -> Manifest:
        """Read what `write` wrote.

        Args:
            path: the file.
            keys: (N,) its keys, for whoever has them in memory: they are not read again.

        Raises:
            DataError: if `path` is missing or damaged, is not a manifest, or is of a newer format.
        """
        try:
            check(path, may_remember=True)
            names = None if keys is None else [name for name in pq.read_schema(path).names if name != "key"]
            table = pq.read_table(path, columns=names, partitioning=None)
        except (OSError, DamagedError, pa.ArrowInvalid) as error:
            raise DataError(f"The manifest {path} cannot be read: {error}.") from error
        raw = (table.schema.metadata or {}).get(_METADATA_KEY)
        if raw is None:
            raise DataError(f"{path} is a Parquet file, but not a manifest that litscope wrote.")
        facts = json.loads(raw)
        if facts["format_version"] > FORMAT_VERSION:
            raise DataError(
                f"{path} has manifest format {facts['format_version']}, this litscope reads up to {FORMAT_VERSION}. "
                "Install a newer litscope to open it."
            )
        table = table.replace_schema_metadata(None)
        table = table if keys is None else table.add_column(1, "key", keys)
        return cls(table, tuple(facts["classes"]), facts["encoding"])

    def numbers(self, column: str) -> Ids:
        """(N,) int64 of a column of whole numbers; -1 in all rows where the manifest has no such column."""
        return self._numbers(column) if column in self.table.column_names else np.full(len(self), -1, np.int64)

    def _numbers(self, column: str) -> Ids:
        return np.ascontiguousarray(self.table[column].to_numpy(), dtype=np.int64)


def shared_strings(values: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """(N,) str objects, None for null: one object for each distinct value, however often it comes."""
    encoded = in_one_piece(values).dictionary_encode()
    names = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    found: npt.NDArray[np.object_] = names[encoded.indices.fill_null(len(names) - 1).to_numpy()]
    return found


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Inside, Arrow's memory is the system's, which gets back what is freed; Arrow's own pool would keep much of it."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
        give_back_freed()


def in_one_piece(values: pa.ChunkedArray) -> pa.Array:
    """(N,) a column as one block of memory; it is not copied if it is that already."""
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def key_array(keys: pa.Array | Sequence[str]) -> pa.Array:
    """(N,) keys in one block of memory. Raises DataError for a file name that is not UTF-8."""
    if isinstance(keys, pa.Array) and keys.type == pa.string():
        return keys
    try:
        return pa.array(keys, pa.string())
    except UnicodeEncodeError as error:
        raise DataError(f"The file name {error.object!r} is not valid UTF-8. Rename the file.") from error


def build_manifest(
    keys: pa.Array | Sequence[str],
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    *,
    splits: pa.Array | Sequence[str] | None = None,
    groups: pa.Array | Sequence[str | None] | None = None,
    extra: Mapping[str, Any] | None = None,
    encoding: Mapping[str, Any] | None = None,
) -> Manifest:
    """Put columns of N values together; row i gets sample_id i.

    Args:
        keys: (N,) names, UTF-8.
        labels: (N,) int64 class indices, -1 for none.
        classes: names of the classes.
        splits: (N,) train, val, test or ""; default "" for all.
        groups: (N,) names; None for a row of its own.
        extra: further columns of N values. A name that litscope uses itself gets the prefix `source_`.

    Raises:
        DataError: if a key is not UTF-8.
    """
    count = len(keys)
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    assert labels.shape == (count,), f"{count} keys and labels of shape {labels.shape}"
    assert count == 0 or (labels.min() >= UNLABELLED and labels.max() < len(classes)), "a label names no class"
    columns: dict[str, Any] = {
        "sample_id": pa.array(np.arange(count, dtype=np.int64)),
        "key": key_array(keys),
        "label": pa.array(labels),
        "split": pa.array([""] * count if splits is None else splits, pa.string()),
    }
    if groups is not None:
        columns["group"] = pa.array(groups, pa.string())
    for name, values in (extra or {}).items():
        columns[f"source_{name}" if name in _RESERVED else name] = values
    return Manifest(pa.table(columns), tuple(classes), dict(encoding or {}))
