"""How sure a network was of a run's samples when somebody measured it, `uncertainties.parquet`. No torch.

`litscope evaluate --record` writes it. Its numbers stand beside the scores of each sample: they are no sums over
visits, but what one checkpoint said, read as was learned (`litscope calibrate`).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.errors import RunError
from litscope.rundir import RunDir, whole_file
from litscope.seals import DamagedError, check, sealed_parquet

UNCERTAINTIES = {
    "predictive_entropy": "Entropy of the probabilities, 0 to log C nats.",
    "expected_entropy": "Mean entropy of what each member or pass of dropout says by itself, in nats.",
    "mutual_information": "How far members or passes disagree, 0 to log C nats.",
    "set_size": "Classes in the conformal set.",
}
"""Columns beside the scores of a run that was recorded so -> what they mean."""

SCHEMA = pa.schema(
    [pa.field("sample_id", pa.int64(), nullable=False), *(pa.field(name, pa.float32()) for name in UNCERTAINTIES)]
)
"""One row per sample that was measured, by id; null for what was not asked for then."""


def write_uncertainties(run: RunDir, ids: NDArray[np.int64], columns: dict[str, NDArray[np.float64]]) -> None:
    """Keep what was measured, in place of what was known of the same samples.

    Args:
        ids: (n,) distinct.
        columns: (n,) each, some of `UNCERTAINTIES`.

    Raises:
        RunError: if the file is there and damaged.
    """
    none = pa.nulls(len(ids), pa.float32())
    given = {name: pa.array(columns[name], pa.float32()) if name in columns else none for name in UNCERTAINTIES}
    table = pa.table({"sample_id": pa.array(ids, pa.int64()), **given}, schema=SCHEMA)
    known = read_uncertainties(run)
    if known is not None:
        is_other = ~np.isin(known["sample_id"].to_numpy(), ids)
        table = pa.concat_tables([known.filter(pa.array(is_other)), table])
    content = pa.BufferOutputStream()
    pq.write_table(table.sort_by("sample_id"), content, compression="zstd")
    with whole_file(run.uncertainties) as file:
        file.writelines(sealed_parquet(content.getvalue()))


def read_uncertainties(run: RunDir) -> pa.Table | None:
    """What was recorded, `SCHEMA`; None where nobody has.

    Raises:
        RunError: if the file is damaged.
    """
    if not run.uncertainties.exists():
        return None
    try:
        check(run.uncertainties, may_remember=True)
        table = pq.read_table(run.uncertainties, partitioning=None)
        if not table.schema.equals(SCHEMA):
            raise ValueError("it has other columns")
    except (DamagedError, OSError, pa.ArrowException, ValueError) as error:
        raise RunError(
            f"{run.uncertainties} is damaged: {error}. Remove it; `litscope evaluate --record` writes it anew."
        ) from error
    return table


def with_uncertainties(run: RunDir, scores: pa.Table) -> pa.Table:
    """Scores with the columns of `UNCERTAINTIES`, where a run has them; null for samples that were not measured."""
    found = read_uncertainties(run)
    if found is None:
        return scores
    ids, asked = found["sample_id"].to_numpy(), scores["sample_id"].to_numpy()
    at = np.searchsorted(ids, asked).clip(max=max(len(ids) - 1, 0))
    rows = pa.array(at, mask=~(ids[at] == asked)) if len(ids) else pa.nulls(len(asked), pa.int64())
    for name in UNCERTAINTIES:
        scores = scores.append_column(name, found[name].take(rows))
    return scores
