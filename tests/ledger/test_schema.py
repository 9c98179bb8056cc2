"""The ledger's vocabulary: complete definitions, and rows that become columns."""

import numpy as np
import pyarrow as pa
import pytest
from ledger_rows import make_rows

from litscope.errors import LedgerError
from litscope.ledger.schema import (
    FLOAT_SIGNALS,
    FORMAT_VERSION,
    PART_SCHEMA,
    SIGNALS,
    Rows,
    Segment,
    check_version,
    part_metadata,
)


def test_the_columns_of_format_1_never_change() -> None:
    """Another order, name or type is another format: raise FORMAT_VERSION and add a golden folder."""
    assert FORMAT_VERSION == 1
    assert [f"{field.name} {field.type}" for field in PART_SCHEMA] == [
        "sample_id int64",
        "step int32",
        "epoch int32",
        "split dictionary<values=string, indices=int8, ordered=0>",
        "phase dictionary<values=string, indices=int8, ordered=0>",
        "label int32",
        "loss float",
        "p_label float",
        "p_max float",
        "margin float",
        "el2n float",
        "entropy float",
        "pred int32",
    ]


def test_every_signal_is_defined() -> None:
    for name, signal in SIGNALS.items():
        assert signal.name == name
        assert signal.unit
        assert len(signal.meaning) > 20
        assert signal.source or name == "pred"
    assert FLOAT_SIGNALS == ("loss", "p_label", "p_max", "margin", "el2n", "entropy")
    assert [name for name, signal in SIGNALS.items() if signal.needs_label] == ["loss", "p_label", "margin", "el2n"]


def test_segments_become_columns_and_padding_goes() -> None:
    rows = make_rows(0, ids=[3, -1, 4, 5, -1])
    rows = Rows(
        rows.sample_id,
        rows.label,
        rows.pred,
        rows.signals,
        (Segment(2, 10, 1, "train", "train"), Segment(0, 11, 1, "train", "train"), Segment(3, 12, 1, "val", "eval")),
    )
    table = rows.to_table()
    assert table.schema.equals(PART_SCHEMA)
    assert table.select(["sample_id", "step", "epoch", "split", "phase"]).to_pylist() == [
        {"sample_id": 3, "step": 10, "epoch": 1, "split": "train", "phase": "train"},
        {"sample_id": 4, "step": 12, "epoch": 1, "split": "val", "phase": "eval"},
        {"sample_id": 5, "step": 12, "epoch": 1, "split": "val", "phase": "eval"},
    ]


def test_segments_that_do_not_cover_the_rows_are_a_bug() -> None:
    rows = make_rows(0)
    with pytest.raises(AssertionError, match="cover"):
        Rows(rows.sample_id, rows.label, rows.pred, rows.signals, (Segment(3, 0, 0, "train", "train"),)).to_table()


def test_columns_are_not_copied() -> None:
    rows = make_rows(0, ids=list(range(1000)))
    column = rows.to_table()["loss"].chunk(0)
    assert column.buffers()[1].address == rows.signals["loss"].ctypes.data
    assert isinstance(column, pa.FloatArray)
    assert np.shares_memory(column.to_numpy(), rows.signals["loss"])


@pytest.mark.parametrize(
    "metadata", [None, {}, {b"litscope.format_version": b"x"}, {b"litscope.format_version": b"-1"}]
)
def test_what_has_no_version_is_not_a_part(metadata: dict[bytes, bytes] | None) -> None:
    with pytest.raises(LedgerError, match=r"here\.parquet is not a part of a ledger"):
        check_version(metadata, "here.parquet")


def test_only_the_future_is_refused() -> None:
    check_version(part_metadata(1, 0), "here.parquet")
    with pytest.raises(LedgerError, match=r"ledger format 2; this litscope reads up to format 1.*pip install"):
        check_version({b"litscope.format_version": b"2"}, "here.parquet")
