"""The ledger's vocabulary: what is recorded for a sample at one visit, and how it is stored in Parquet.

A *row* is one sample seen once, in a training step (phase `train`) or in an evaluation pass
(phase `eval`). `capture` computes the signals, `store` writes `Rows` as Parquet parts with
`PART_SCHEMA`, `queries` reads them. No torch here: a run opens on a machine without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from litscope.errors import LedgerError

FORMAT_VERSION = 1
"""Version of the parts on disk. Raised when an older litscope could misread a newer part."""

VERSION_KEY = b"litscope.format_version"
ATTEMPT_KEY = b"litscope.attempt"
RANK_KEY = b"litscope.rank"

PADDING = -1
"""The `sample_id` of a row that only fills up a batch. It is never written."""

UNLABELLED = -1
"""The `label` of a sample without one (any negative label): signals that need it are NaN."""

Phase = Literal["train", "eval"]


@dataclass(frozen=True)
class Signal:
    """One number recorded per sample and visit.

    Attributes:
        name: the column's name.
        dtype: its Arrow type.
        unit: nats, probability, logit units, class index or none.
        needs_label: whether it is NaN for a sample without a label.
        meaning: the exact definition; z are the logits, p = softmax(z), y the label.
        source: where the definition comes from.
    """

    name: str
    dtype: pa.DataType
    unit: str
    needs_label: bool
    meaning: str
    source: str


_FLOAT = pa.float32()

SIGNALS: dict[str, Signal] = {
    signal.name: signal
    for signal in (
        Signal(
            "loss",
            _FLOAT,
            "nats",
            True,
            "Cross-entropy -log p[y], without smoothing, class weights or focal term, whatever the run minimises.",
            "Good (1952); torch.nn.functional.cross_entropy",
        ),
        Signal(
            "p_label",
            _FLOAT,
            "probability",
            True,
            "p[y]. Its mean over epochs is the data map's confidence.",
            "Swayamdipta et al. (2020), arXiv:2009.10795",
        ),
        Signal(
            "p_max",
            _FLOAT,
            "probability",
            False,
            "max_j p[j], the probability of the predicted class.",
            "Hendrycks and Gimpel (2017), arXiv:1610.02136",
        ),
        Signal(
            "margin",
            _FLOAT,
            "logit",
            True,
            "z[y] - max_{j != y} z[j], negative when another class is preferred. Its mean over epochs is AUM.",
            "Pleiss et al. (2020), arXiv:2001.10528",
        ),
        Signal(
            "el2n",
            _FLOAT,
            "none, 0 to sqrt(2)",
            True,
            "Euclidean norm of p - onehot(y).",
            "Paul et al. (2021), arXiv:2107.07075",
        ),
        Signal(
            "entropy",
            _FLOAT,
            "nats",
            False,
            "-sum_j p[j] log p[j], from 0 (certain) to log C (knows nothing).",
            "Shannon (1948)",
        ),
        Signal(
            "pred",
            pa.int32(),
            "class index",
            False,
            "argmax_j z[j]; the lowest index on a tie.",
            "",
        ),
    )
}
"""Every signal by its name, in the order of the columns."""

FLOAT_SIGNALS: tuple[str, ...] = tuple(name for name, signal in SIGNALS.items() if signal.dtype == _FLOAT)

_WORD = pa.dictionary(pa.int8(), pa.string())

PART_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False),
        pa.field("split", _WORD, nullable=False),
        pa.field("phase", _WORD, nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        *(pa.field(signal.name, signal.dtype, nullable=False) for signal in SIGNALS.values()),
    ]
)
"""One row of a part. `step` counts the optimizer steps completed before the batch, `epoch` counts
from 0, `split` is the manifest's (train, val, test, ...), `label` is the one that was used."""


class Segment(NamedTuple):
    """A stretch of rows in `Rows` that share one step."""

    num_rows: int
    step: int
    epoch: int
    split: str
    phase: str


@dataclass(frozen=True)
class Rows:
    """Captured rows on the host, on their way to a part.

    Attributes:
        sample_id: (N,) int64; -1 marks padding.
        label: (N,) int32; negative marks a sample without a label.
        pred: (N,) int32.
        signals: name -> (N,) float32, for each of `FLOAT_SIGNALS`.
        segments: the steps of these rows, in order; their `num_rows` add up to N.
    """

    sample_id: np.ndarray
    label: np.ndarray
    pred: np.ndarray
    signals: Mapping[str, np.ndarray]
    segments: tuple[Segment, ...]

    def __len__(self) -> int:
        return len(self.sample_id)

    def rows(self) -> Rows:
        """These rows themselves. A block on a device, which can be queued for writing too, has the same method."""
        return self

    def to_table(self) -> pa.Table:
        """The rows as `PART_SCHEMA`, in their order, without padding."""
        counts = np.array([segment.num_rows for segment in self.segments], dtype=np.int64)
        assert counts.sum() == len(self), "segments do not cover the rows"
        columns = {
            "sample_id": pa.array(self.sample_id, pa.int64()),
            "step": pa.array(np.repeat(np.array([s.step for s in self.segments], np.int32), counts)),
            "epoch": pa.array(np.repeat(np.array([s.epoch for s in self.segments], np.int32), counts)),
            "split": _words([s.split for s in self.segments], counts),
            "phase": _words([s.phase for s in self.segments], counts),
            "label": pa.array(self.label, pa.int32()),
            "pred": pa.array(self.pred, pa.int32()),
            **{name: pa.array(self.signals[name], _FLOAT) for name in FLOAT_SIGNALS},
        }
        table = pa.table([columns[name] for name in PART_SCHEMA.names], schema=PART_SCHEMA)
        real = self.sample_id >= 0
        return table if real.all() else table.filter(pa.array(real))


def part_metadata(attempt: int, rank: int) -> dict[bytes, bytes]:
    """The key-value metadata of a part."""
    return {
        VERSION_KEY: str(FORMAT_VERSION).encode(),
        ATTEMPT_KEY: str(attempt).encode(),
        RANK_KEY: str(rank).encode(),
    }


def check_version(metadata: Mapping[bytes, bytes] | None, path: object) -> None:
    """Refuse a part that this version cannot read.

    Raises:
        LedgerError: if `metadata` has no format version, or one from the future.
    """
    value = (metadata or {}).get(VERSION_KEY, b"").decode(errors="replace")
    if not value.isdigit():
        raise LedgerError(
            f"{path} is not a part of a ledger: it carries no {VERSION_KEY.decode()}. "
            "Move it out of the run's signals folder to read the rest."
        )
    if int(value) > FORMAT_VERSION:
        raise LedgerError(
            f"{path} has ledger format {value}; this litscope reads up to format {FORMAT_VERSION}. "
            "A newer litscope wrote it: pip install --upgrade litscope."
        )


def _words(values: list[str], counts: np.ndarray) -> pa.DictionaryArray:
    """Each of `values` repeated `counts` times, as a dictionary column."""
    known = list(dict.fromkeys(values))
    codes = np.array([known.index(value) for value in values], np.int8)
    return pa.DictionaryArray.from_arrays(pa.array(np.repeat(codes, counts)), pa.array(known, pa.string()))
