"""Columns of numbers as one block of bytes, for a page that reads them as typed arrays; or as an Arrow stream.

    LSC1 | uint32 length of the header | header, JSON | padding to 8 | column | padding to 8 | column ...

The header is {"columns": [{"name", "dtype", "length", "offset"}], "facts": {...}}; offsets count from the first column.
All is little-endian.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAGIC = b"LSC1"
MEDIA_TYPE = "application/vnd.litscope.columns"
ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True)
class Block:
    """Columns of numbers, of any lengths, and facts about them."""

    columns: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The block as it is sent."""
        described, pieces, offset = [], [], 0
        for name, values in self.columns.items():
            raw = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
            described.append({"name": name, "dtype": values.dtype.name, "length": len(values), "offset": offset})
            pieces.append(raw + bytes(-len(raw) % 8))
            offset += len(pieces[-1])
        header = json.dumps({"columns": described, "facts": self.facts}, allow_nan=False).encode()
        start = MAGIC + len(header).to_bytes(4, "little") + header
        return b"".join([start, bytes(-len(start) % 8), *pieces])

    def to_arrow(self) -> bytes:
        """The same as an Arrow IPC stream; shorter columns end in nulls, and the facts are in the schema."""
        longest = max((len(values) for values in self.columns.values()), default=0)
        arrays = []
        for values in self.columns.values():
            found = pa.array(values)
            arrays.append(pa.concat_arrays([found, pa.nulls(longest - len(found), found.type)]))
        table = pa.table(arrays, names=list(self.columns))
        table = table.replace_schema_metadata({"facts": json.dumps(self.facts, allow_nan=False)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())


def read_block(raw: bytes) -> Block:
    """A block as `Block.to_bytes` made it.

    Raises:
        ValueError: if it is none.
    """
    if raw[:4] != MAGIC:
        raise ValueError("no block of columns")
    length = int.from_bytes(raw[4:8], "little")
    header = json.loads(raw[8 : 8 + length])
    start = 8 + length + -(8 + length) % 8
    columns = {
        one["name"]: np.frombuffer(raw, one["dtype"], one["length"], start + one["offset"]) for one in header["columns"]
    }
    return Block(columns, header["facts"])
