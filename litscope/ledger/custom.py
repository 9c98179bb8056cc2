"""A person's own signals: named numbers per sample and visit, in parts of their own. No torch.

Each signal that the ledger itself computes has a column (`schema`). A watched loop may record anything else under any
name; those values are in a run's `custom/` folder, one row per value, in parts that are written, named and superseded
like those of `signals/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from litscope.console import shell_word
from litscope.rundir import RunDir

_WORD, _NAME = (pa.dictionary(index, pa.string()) for index in (pa.int8(), pa.int16()))

CUSTOM_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False),
        pa.field("split", _WORD, nullable=False),
        pa.field("phase", _WORD, nullable=False),
        pa.field("name", _NAME, nullable=False),
        pa.field("value", pa.float32(), nullable=False),
    ]
)
"""One row of a part; the columns mean what they mean in `schema.PART_SCHEMA`."""


NO_LOGITS = "The run recorded signals of its own and no logits, so there are no scores, suspects, worst or confusions."


def how_to_ask(run: RunDir) -> str:
    """How signals of a person's own are asked for, as a sentence."""
    query = "select key, name, avg(value) from custom join manifest using (sample_id) group by all"
    return f'Ask for them: litscope sql {shell_word(run.path)} "{query}"'


def has_only_custom(run: RunDir) -> bool:
    """Whether a run recorded signals of its own, and nothing that comes from logits."""
    return any(run.custom.glob("*.parquet")) and not any(run.signals.glob("*.parquet"))


class CustomSegment(NamedTuple):
    """A stretch of values of one name and one batch, as they lie in `CustomRows`."""

    num_rows: int
    step: int
    epoch: int
    split: str
    phase: str
    name: str


@dataclass(frozen=True)
class CustomRows:
    """Values on the host, on their way to a part.

    Attributes:
        sample_id: (N,) int64.
        value: (N,) float32.
        segments: what these rows are, in order; their `num_rows` add up to N.
    """

    sample_id: np.ndarray
    value: np.ndarray
    segments: tuple[CustomSegment, ...]

    def to_table(self) -> pa.Table:
        """The rows as `CUSTOM_SCHEMA`, in their order, without padding (ids below 0)."""
        counts = np.array([segment.num_rows for segment in self.segments], np.int64)
        assert counts.sum() == len(self.sample_id), "segments do not cover the rows"

        def words(values: list[str], kind: pa.DictionaryType = _WORD) -> pa.DictionaryArray:
            known = {word: i for i, word in enumerate(dict.fromkeys(values))}
            codes = np.repeat(np.array([known[value] for value in values], np.int16), counts)
            return pa.DictionaryArray.from_arrays(pa.array(codes, kind.index_type), pa.array(known, pa.string()))

        columns = [
            pa.array(self.sample_id, pa.int64()),
            pa.array(np.repeat(np.array([s.step for s in self.segments], np.int32), counts)),
            pa.array(np.repeat(np.array([s.epoch for s in self.segments], np.int32), counts)),
            words([s.split for s in self.segments]),
            words([s.phase for s in self.segments]),
            words([s.name for s in self.segments], _NAME),
            pa.array(self.value, pa.float32()),
        ]
        table = pa.table(columns, schema=CUSTOM_SCHEMA)
        real = self.sample_id >= 0
        return table if real.all() else table.filter(pa.array(real))
