"""The neighbours of a run's samples, `neighbours.parquet`: written once there are features, read without torch.

Its two numbers stand beside the scores of each sample. They are not sums over visits, so they are no scores of
`scores.parquet`: they follow from the features of one network, and from the labels of that moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.errors import RunError
from litscope.rundir import RunDir, whole_file
from litscope.seals import DamagedError, check, sealed_parquet

NEIGHBOUR_SCORES = {
    "neighbour_distance": "Cosine distance of the features to those of the nearest other sample, 0 to 1.",
    "neighbour_agreement": "Share of the ten nearest labelled samples that have the sample's label, 0 to 1.",
}
"""Columns beside the scores of a run with neighbours -> what they mean."""

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("nearest", pa.list_(pa.int64()), nullable=False),
        pa.field("distances", pa.list_(pa.float32()), nullable=False),
        *(pa.field(name, pa.float32()) for name in NEIGHBOUR_SCORES),
    ]
)
"""One row per sample that has features, by id; its nearest others, the nearest first."""

_KEY = b"litscope.neighbours"


@dataclass(frozen=True)
class NeighbourTable:
    """What `neighbours.parquet` holds.

    Attributes:
        table: `SCHEMA`.
        network: whose features they are, in words.
    """

    table: pa.Table
    network: str


def write_neighbours(
    run: RunDir,
    ids: NDArray[np.int64],
    nearest: NDArray[np.int64],
    distances: NDArray[np.float32],
    agreement: NDArray[np.float32],
    network: str,
) -> None:
    """Write the file, in place of an earlier one.

    Args:
        ids: (n,) ascending.
        nearest, distances: (n, k), k > 0.
        agreement: (n,), NaN where there is none.
        network: whose features they are.
    """
    lists = [
        pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), nearest.shape[1]) for part in (nearest, distances)
    ]
    columns = [
        pa.array(ids),
        *(part.cast(SCHEMA.field(name).type) for part, name in zip(lists, ("nearest", "distances"), strict=True)),
        pa.array(distances[:, 0]),
        pa.array(agreement, from_pandas=True),
    ]
    table = pa.table(columns, schema=SCHEMA.with_metadata({_KEY: json.dumps({"network": network}).encode()}))
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd")
    with whole_file(run.neighbours) as file:
        file.writelines(sealed_parquet(content.getvalue()))


def read_neighbours(run: RunDir) -> NeighbourTable | None:
    """The neighbours of a run; None where nobody has looked for them.

    Raises:
        RunError: if the file is damaged.
    """
    if not run.neighbours.exists():
        return None
    try:
        check(run.neighbours, may_remember=True)
        table = pq.read_table(run.neighbours, partitioning=None)
        network = str(json.loads((table.schema.metadata or {})[_KEY])["network"])
        if not table.schema.equals(SCHEMA):
            raise ValueError("it has other columns")
    except (DamagedError, OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise RunError(
            f"{run.neighbours} is damaged: {error}. Remove it; `litscope neighbours` writes it anew."
        ) from error
    return NeighbourTable(table, network)


def with_neighbours(run: RunDir, scores: pa.Table) -> pa.Table:
    """Scores with the columns of `NEIGHBOUR_SCORES`, where a run has neighbours; null for samples without features."""
    found = read_neighbours(run)
    if found is None:
        return scores
    ids = found.table["sample_id"].to_numpy()
    asked = scores["sample_id"].to_numpy()
    at = np.searchsorted(ids, asked).clip(max=max(len(ids) - 1, 0))
    is_there = ids[at] == asked if len(ids) else np.zeros(len(asked), bool)
    for name in NEIGHBOUR_SCORES:
        values = found.table[name].to_numpy().astype(np.float32)
        own: Any = np.where(is_there, values[at], np.nan) if len(ids) else np.full(len(asked), np.nan)
        scores = scores.append_column(name, pa.array(own.astype(np.float32), from_pandas=True))
    return scores
