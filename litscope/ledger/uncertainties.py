"""How sure a network was of a run's samples when somebody measured it, `uncertainties.parquet`. No torch.

`litscope evaluate --record` writes it. Its numbers stand beside the scores of each sample: they are no sums over
visits, but what one checkpoint said, read as was learned (`litscope calibrate`). So they are of the label that the
sample had then, and of the weights and the readout of then; each row knows the recording that it came from, which
names the checkpoint, and can tell whether that file holds something else now.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.console import shell_word
from litscope.errors import RunError
from litscope.rundir import BEST, RunDir, whole_file
from litscope.seals import DamagedError, check, seal_of, sealed_parquet

UNCERTAINTIES = {
    "predictive_entropy": "Entropy of the probabilities as they were read, 0 to log C nats.",
    "expected_entropy": "Mean entropy of what each member or pass of dropout says, each read as all are, in nats.",
    "mutual_information": "How far members or passes disagree, 0 to log C nats.",
    "set_size": "Classes in the conformal set.",
    "measured_p_pred": "Probability of the class that was predicted (measured_pred_name), as it was read.",
    "measured_p_label": "Probability of the label that counted then (measured_label_name), as it was read.",
}
"""Columns of numbers beside the scores of a run that was recorded so -> what they mean."""

MEASURED = {
    "measured_label_name": "The label that counted when the sample was measured; `relabel` may have changed it since.",
    "measured_pred_name": "The class that was predicted then, by the threshold where one was kept.",
    "conformal_set": "The classes that it may be, by `litscope calibrate --coverage`.",
    "measured_by": "The checkpoint that was asked, and how its logits were read.",
    "is_measure_outdated": "Whether that checkpoint has other weights by now, or is read otherwise; null: unknown.",
}
"""Further columns there, which are no numbers -> what they mean."""

FORMAT_VERSION = 2

_KEY = b"litscope.uncertainties"

_FIRST = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        *(pa.field(name, pa.float32()) for name in list(UNCERTAINTIES)[:4]),
    ]
)
"""Of version 1, which had no metadata."""

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        *(pa.field(name, pa.float32()) for name in UNCERTAINTIES),
        pa.field("label", pa.int32()),
        pa.field("pred", pa.int32()),
        pa.field("conformal_set", pa.list_(pa.int32())),
        pa.field("recording", pa.int32()),
    ]
)
"""One row per sample that was measured, by id; null for what was not asked for then. Classes are indices; `recording`
is a position in `Uncertainties.recordings`, null for rows of version 1."""


@dataclass(frozen=True)
class Recording:
    """One time that somebody measured samples.

    Attributes:
        checkpoint: the file that was asked; below the run's folder where it lies there.
        seal: of its contents, weights and readout, see `seals.seal_of`; None where it had none, or was not kept.
        how: the way in which its logits were read, in words.
        recorded_at: seconds since 1970.
    """

    checkpoint: str
    seal: str | None
    how: str
    recorded_at: float

    @classmethod
    def of(cls, run: RunDir, checkpoint: str | os.PathLike[str], how: str) -> Recording:
        """A recording that is made now. The best checkpoint has two names; its lasting one counts."""
        path = Path(checkpoint)
        best = path.with_name(BEST)
        if path.exists() and best.exists() and path.samefile(best):
            path = best
        inside, folder = path.absolute(), run.path.absolute()
        name = inside.relative_to(folder) if inside.is_relative_to(folder) else inside
        return cls(name.as_posix(), seal_of(path) if path.is_file() else None, how, time.time())

    @property
    def words(self) -> str:
        """What was asked, and how, in a line."""
        return f"{Path(self.checkpoint).name}, {self.how}"

    def is_outdated(self, run: RunDir) -> bool | None:
        """Whether its checkpoint holds something else now; None where it is away, or one of the two has no seal."""
        try:
            now = seal_of(run.path / self.checkpoint)
        except OSError:
            return None
        return None if now is None or self.seal is None else now != self.seal


@dataclass(frozen=True)
class Uncertainties:
    """What `uncertainties.parquet` holds.

    Attributes:
        table: `SCHEMA`.
        recordings: the oldest first.
    """

    table: pa.Table
    recordings: tuple[Recording, ...]


def write_uncertainties(
    run: RunDir,
    ids: NDArray[np.int64],
    columns: Mapping[str, NDArray[Any]],
    *,
    label: NDArray[np.int64] | None = None,
    pred: NDArray[np.int64] | None = None,
    sets: NDArray[np.bool_] | None = None,
    recording: Recording | None = None,
) -> None:
    """Keep what was measured, in place of what was known of the same samples.

    Args:
        ids: (n,) distinct.
        columns: (n,) each, some of `UNCERTAINTIES`; NaN where there is none.
        label, pred: (n,) class indices; negative where there is none.
        sets: (n, C) whether each class may be the sample's.
        recording: who said it.

    Raises:
        RunError: if the file is there and damaged.
    """
    known = read_uncertainties(run)
    others = SCHEMA.empty_table()
    recordings: list[Recording] = []
    if known is not None:
        others = known.table.filter(pa.array(~np.isin(known.table["sample_id"].to_numpy(), ids)))
        others, recordings = _renumbered(others, known.recordings)
    number = None if recording is None else len(recordings)
    recordings += [] if recording is None else [recording]
    none = {field.name: pa.nulls(len(ids), field.type) for field in SCHEMA}
    given = {name: pa.array(values, pa.float32(), from_pandas=True) for name, values in columns.items()}
    given["sample_id"] = pa.array(ids, pa.int64())
    for name, codes in (("label", label), ("pred", pred)):
        if codes is not None:
            given[name] = pa.array(codes.astype(np.int32), mask=codes < 0)
    if sets is not None:
        ends = np.concatenate([[0], np.cumsum(sets.sum(1))]).astype(np.int32)
        given["conformal_set"] = pa.ListArray.from_arrays(
            pa.array(ends), pa.array(np.nonzero(sets)[1].astype(np.int32))
        )
    given["recording"] = pa.array([number] * len(ids), pa.int32())
    table = pa.concat_tables([others, pa.table({**none, **given}, schema=SCHEMA)]).sort_by("sample_id")
    facts = {"version": FORMAT_VERSION, "recordings": [asdict(one) for one in recordings]}
    content = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(facts)}), content, compression="zstd")
    with whole_file(run.uncertainties) as file:
        file.writelines(sealed_parquet(content.getvalue()))


def _renumbered(table: pa.Table, recordings: Sequence[Recording]) -> tuple[pa.Table, list[Recording]]:
    """Rows with those recordings alone that one of them came from."""
    used = sorted(set(table["recording"].drop_null().to_pylist()))
    place = pa.array([used.index(i) if i in used else None for i in range(len(recordings))], pa.int32())
    column = place.take(table["recording"].combine_chunks())
    at = table.column_names.index("recording")
    return table.set_column(at, SCHEMA.field("recording"), column), [recordings[i] for i in used]


def read_uncertainties(run: RunDir, *, has_sets: bool = True) -> Uncertainties | None:
    """What was recorded; None where nobody has.

    Args:
        has_sets: read the sets, too, which may be most of the file.

    Raises:
        RunError: if the file is damaged, or of a later version.
    """
    if not run.uncertainties.exists():
        return None
    names = [name for name in SCHEMA.names if has_sets or name != "conformal_set"]
    try:
        check(run.uncertainties, may_remember=True)
        schema = pq.read_schema(run.uncertainties)
        metadata, schema = schema.metadata or {}, schema.remove_metadata()
        if _KEY not in metadata and schema.equals(_FIRST):
            table = pq.read_table(run.uncertainties, partitioning=None)
            for field in SCHEMA:
                if field.name not in table.column_names:
                    table = table.append_column(field, pa.nulls(len(table), field.type))
            return Uncertainties(table.select(names), ())
        facts = json.loads(metadata.get(_KEY, b"{}"))
        if facts.get("version", 0) > FORMAT_VERSION:
            raise RunError(
                f"{run.uncertainties} was written by a later version of litscope. Use that one, or remove the file: "
                "`litscope evaluate --record` writes it anew."
            )
        if not schema.equals(SCHEMA):
            raise ValueError("it has other columns")
        table = pq.read_table(run.uncertainties, columns=names, partitioning=None).replace_schema_metadata()
        recordings = tuple(Recording(**one) for one in facts["recordings"])
        if len(table) and (most := pc.max(table["recording"]).as_py()) is not None and most >= len(recordings):
            raise ValueError("it has rows of no recording")
        return Uncertainties(table, recordings)
    except (DamagedError, OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run.uncertainties} is damaged: {error}. Remove it; `litscope evaluate --record` writes it anew."
        ) from error


def measured_table(run: RunDir, classes: Sequence[str]) -> pa.Table:
    """The samples that were measured, by id, with the columns of `UNCERTAINTIES` and `MEASURED`; the sets are left to
    `SetsWhenAsked`.

    Raises:
        RunError: as `read_uncertainties`.
    """
    found = read_uncertainties(run, has_sets=False) or Uncertainties(SCHEMA.empty_table(), ())
    taken = {name: found.table[name].combine_chunks() for name in found.table.column_names}
    names, words = pa.array(list(classes), pa.string()), pa.array([one.words for one in found.recordings], pa.string())
    is_outdated = pa.array([one.is_outdated(run) for one in found.recordings], pa.bool_())
    columns = {name: taken[name] for name in UNCERTAINTIES} | {
        "measured_label_name": pa.DictionaryArray.from_arrays(taken["label"], names),
        "measured_pred_name": pa.DictionaryArray.from_arrays(taken["pred"], names),
        "measured_by": pa.DictionaryArray.from_arrays(taken["recording"], words),
        "is_measure_outdated": is_outdated.take(taken["recording"]),
    }
    return pa.table({"sample_id": taken["sample_id"], **columns})


def _rows(table: pa.Table, asked: NDArray[np.int64]) -> pa.Array:
    """(n,) where samples are in a table of `SCHEMA`; null for those that are not."""
    ids = table["sample_id"].to_numpy()
    if not len(ids):
        return pa.nulls(len(asked), pa.int64())
    at = np.searchsorted(ids, asked).clip(max=len(ids) - 1)
    return pa.array(at, mask=ids[at] != asked)


class SetsWhenAsked:
    """The conformal sets of a run's samples, read when somebody asks for the first."""

    def __init__(self, run: RunDir, classes: Sequence[str]) -> None:
        self._run, self._names = run, pa.array(list(classes), pa.string())
        self._lock = threading.Lock()
        self._table: pa.Table | None = None

    def named(self, ids: pa.Array) -> pa.Array:
        """list<string> of samples (n,), the names of the classes in each set; null where there is none.

        Raises:
            RunError: as `read_uncertainties`.
        """
        with self._lock:
            if self._table is None:
                found = read_uncertainties(self._run)
                self._table = SCHEMA.empty_table() if found is None else found.table.combine_chunks()
        lists = self._table["conformal_set"].take(_rows(self._table, ids.to_numpy()))
        lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
        ends = np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int32)
        offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
        return pa.ListArray.from_arrays(offsets, self._names.take(lists.flatten()), mask=lists.is_null())


def how_to_record(run: RunDir) -> str:
    """The command that measures anew."""
    return f"litscope evaluate {shell_word(run.path)} --record (each --split that was recorded)"


def outdated_lines(run: RunDir, found: Uncertainties | None) -> list[str]:
    """A line where some of what was recorded is of other weights, or of another readout, than its checkpoint holds now.

    Args:
        found: what `read_uncertainties` gives.
    """
    if found is None:
        return []
    old = {i: one for i, one in enumerate(found.recordings) if one.is_outdated(run)}
    count = int(np.isin(found.table["recording"].fill_null(-1).to_numpy(), list(old)).sum())
    if not count:
        return []
    files = ", ".join(sorted({one.checkpoint for one in old.values()}))
    return [
        f"what --record has kept of {count:,} of {len(found.table):,} samples is outdated: {files} holds other weights "
        f"now, or is read otherwise (is_measure_outdated). To keep it anew: {how_to_record(run)}"
    ]
