"""index.parquet: the samples of a set of shards, in the order in which they lie there, and where.

    key, label, split, group, ...       as in a manifest; `group` and further columns where there are any
    shard            int32              number of the shard, in the order of its names
    offset, size     int64              of the sample's bytes in it
    suffix           string             of the member: .jpg, .png, .npy, ...
    digest           16 bytes           of these bytes (`reading.digests`): their identity, and their checksum; null in
                                        shards of others, whose bytes nobody has read yet

A row's number is its sample_id. The names of classes and shards, and what is needed to read the images alike, are in
the file's metadata. The file is sealed (`litscope.seals`), and is there only when all shards are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from litscope.data.manifest import shared_strings
from litscope.defaults import SHARD_INDEX
from litscope.errors import DataError
from litscope.rundir import whole_file
from litscope.seals import DamagedError, check, sealed_parquet

FILE = SHARD_INDEX
FORMAT_VERSION = 1
_METADATA_KEY = b"litscope-shards"

PLACES = ("shard", "offset", "size", "suffix", "digest")
"""Columns that say where a sample lies."""

_OWN = ("key", "label", "split", "group", *PLACES)


class Places(NamedTuple):
    """Where N samples lie: (N,) int32 and int64 each."""

    shard: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]

    def of(self, sample_id: int) -> tuple[int, int, int]:
        """Shard, offset and size of one."""
        return int(self.shard[sample_id]), int(self.offset[sample_id]), int(self.size[sample_id])

    def take(self, order: npt.NDArray[np.int64]) -> Places:
        """The same in another order."""
        return Places(self.shard[order], self.offset[order], self.size[order])


@dataclass(frozen=True)
class Shard:
    """A tar file.

    Attributes:
        name: of the file, in the folder of the index; or else its whole path or address.
        num_bytes: of the whole file.
        digest: of the whole file, 32 hexadecimal digits; "" where nobody has read it.
    """

    name: str
    num_bytes: int
    digest: str


@dataclass(frozen=True)
class Index:
    """N samples in shards.

    Attributes:
        table: (N rows) see the module.
        classes: name of class 0, 1, ...
        shards: in the order of their numbers.
        encoding: kind, channels and dtype of the images, as in a manifest.
        made_from: a fingerprint of the source and of how it was stored; "" of shards that others wrote.
    """

    table: pa.Table
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    encoding: dict[str, Any] = field(default_factory=dict)
    made_from: str = ""

    def __repr__(self) -> str:
        return f"Index({len(self):,} samples, {len(self.shards):,} shards, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def extra(self) -> dict[str, pa.ChunkedArray]:
        """Columns that the source had besides."""
        return {name: self.table[name] for name in self.table.column_names if name not in _OWN}

    @property
    def groups(self) -> npt.NDArray[np.object_] | None:
        """(N,) names, None for a row of its own; None where no groups are known."""
        return shared_strings(self.table["group"]) if "group" in self.table.column_names else None

    @property
    def has_digests(self) -> bool:
        """Whether all samples have one."""
        return int(self.table["digest"].null_count) == 0

    @cached_property
    def places(self) -> Places:
        """Where each sample lies."""
        return Places(*(self.table[name].to_numpy() for name in PLACES[:3]))

    def write(self, folder: Path) -> None:
        """Write `index.parquet`, whole or not at all."""
        facts = {
            "format_version": FORMAT_VERSION,
            "classes": list(self.classes),
            "shards": [asdict(shard) for shard in self.shards],
            "encoding": self.encoding,
            "made_from": self.made_from,
        }
        metadata = {_METADATA_KEY: json.dumps(facts, ensure_ascii=False, allow_nan=False).encode()}
        content = pa.BufferOutputStream()
        pq.write_table(self.table.replace_schema_metadata(metadata), content, compression="zstd")
        with whole_file(folder / FILE) as file:
            file.writelines(sealed_parquet(content.getvalue()))

    @classmethod
    def read(cls, file: Path) -> Index:
        """Read what `write` wrote.

        Raises:
            DataError: if it is missing, damaged, no index of shards, or of a newer format.
        """
        try:
            check(file, may_remember=True)
            table = _in_one_piece(file)
        except (OSError, DamagedError, pa.ArrowInvalid) as error:
            raise DataError(f"The index {file} cannot be read: {str(error).rstrip('.')}.") from error
        raw = (table.schema.metadata or {}).get(_METADATA_KEY)
        if raw is None:
            raise DataError(f"{file} is a Parquet file, but not an index of shards that litscope wrote.")
        facts = json.loads(raw)
        if facts["format_version"] > FORMAT_VERSION:
            raise DataError(
                f"{file} has index format {facts['format_version']}, this litscope reads up to {FORMAT_VERSION}. "
                "Install a newer litscope to open it."
            )
        shards = tuple(Shard(**shard) for shard in facts["shards"])
        return cls(
            table.replace_schema_metadata(None), tuple(facts["classes"]), shards, facts["encoding"], facts["made_from"]
        )


def _in_one_piece(file: Path) -> pa.Table:
    """A Parquet file, each column one block of memory: whoever needs it so, needs no copy of it.

    Of the columns one at a time is there twice.
    """
    with pq.ParquetFile(file, pre_buffer=False) as opened:
        schema = opened.schema_arrow
        columns = [opened.read(columns=[name]).column(0).combine_chunks() for name in schema.names]
    return pa.table(columns, schema=schema)


def index_of(path: Path) -> Path | None:
    """The index that a folder holds, or that a file is; None where there is none."""
    file = path / FILE if path.is_dir() else path
    if file.suffix != ".parquet" or not file.is_file():
        return None
    try:
        metadata = pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return file if path.is_dir() else None  # said by who reads it
    return file if _METADATA_KEY in metadata else None
