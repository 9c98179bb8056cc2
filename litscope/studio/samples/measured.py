"""What `litscope evaluate --record` measured, as columns of the studio: numbers, classes, sets of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from litscope.data.manifest import memory_given_back
from litscope.errors import LitscopeError
from litscope.ledger.uncertainties import UNCERTAINTIES, Uncertainties, outdated_lines, read_uncertainties
from litscope.rundir import RunDir
from litscope.studio.samples.values import Flags, Numbers, Sets, Values, Words


def measured_columns(run: RunDir, count: int, classes: Sequence[str]) -> tuple[dict[str, Values], str | None]:
    """The columns of `UNCERTAINTIES` and `MEASURED` that hold anything; and what is wrong with the file, if it is.

    Args:
        count: N, the samples of the run.
        classes: their names.
    """
    with memory_given_back():
        try:
            found = read_uncertainties(run)
        except LitscopeError as error:
            return {}, str(error)
        if found is None:
            return {}, None
        made = _made(run, found, count, tuple(classes))
        del found  # before memory is given back
    return {name: values for name, values in made.items() if values.known.any()}, None


def measured_notes(run: RunDir) -> list[str]:
    """Lines about what was measured and is outdated; what is damaged is told by `measured_columns`."""
    try:
        return outdated_lines(run, read_uncertainties(run, has_sets=False))
    except LitscopeError:
        return []


def _made(run: RunDir, found: Uncertainties, count: int, classes: tuple[str, ...]) -> dict[str, Values]:
    table = found.table.filter(pc.less(found.table["sample_id"], count))
    ids = table["sample_id"].to_numpy()
    made: dict[str, Values] = {}
    for name in UNCERTAINTIES:
        values = np.full(count, np.nan, np.float32)
        values[ids] = table[name].to_numpy(zero_copy_only=False)
        made[name] = Numbers(values)
    for name, column in (("measured_label_name", "label"), ("measured_pred_name", "pred")):
        made[name] = Words(_codes(table[column], ids, count), classes)
    made["conformal_set"] = _sets(table["conformal_set"], ids, count, classes)
    which = _codes(table["recording"], ids, count)
    made["measured_by"] = Words(which, tuple(one.words for one in found.recordings))
    is_outdated = [one.is_outdated(run) for one in found.recordings]
    flags, known = ([*(test(one) for one in is_outdated), False] for test in (bool, lambda one: one is not None))
    made["is_measure_outdated"] = Flags(np.array(flags)[which], np.array(known)[which])
    return made


def _codes(column: pa.ChunkedArray, ids: NDArray[Any], count: int) -> NDArray[Any]:
    codes = np.full(count, -1, np.int32)
    codes[ids] = column.fill_null(-1).to_numpy()
    return codes


def _sets(column: pa.ChunkedArray, ids: NDArray[Any], count: int, classes: tuple[str, ...]) -> Sets:
    lists = column.combine_chunks()
    starts, sizes = np.zeros(count, np.int64), np.full(count, -1, np.int32)
    starts[ids] = lists.offsets.to_numpy()[:-1]
    sizes[ids] = pc.list_value_length(lists).fill_null(-1).to_numpy(zero_copy_only=False)
    return Sets(lists.values.to_numpy(), starts, sizes, classes)
