"""WatchedRows: a visit is recorded once, whoever shows it and how; and what cannot be a row is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from litscope.attempts import begin_attempt
from litscope.errors import ConfigError
from litscope.ledger.reader import LedgerReader
from litscope.rundir import RunDir
from litscope.watch.rows import WatchedRows
from litscope.watch.samples.roster import Roster

WHERE: dict[str, Any] = {"step": 0, "epoch": 0, "split": "train", "phase": "train"}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path / "run")
    begin_attempt(run, 0, None)
    return run


@pytest.fixture
def rows(run: RunDir) -> Iterator[WatchedRows]:
    found = WatchedRows(Roster(None))
    found.open(run, 1, 0)
    yield found
    found.close()


def show(rows: WatchedRows, sample_id: Any, logits: Any = None, label: Any = 0, **signals: Any) -> int:
    """By default: rows of two classes that are all 0."""
    count = torch.as_tensor(sample_id).numel()
    logits = torch.zeros(count, 2) if logits is None else logits
    label = torch.full((count,), label) if isinstance(label, int) else label
    return rows.add(sample_id, logits, label, signals, WHERE)


def recorded(run: RunDir, rows: WatchedRows) -> list[int]:
    rows.flush(wait=True)
    return sorted(LedgerReader(run).table(["sample_id"])["sample_id"].to_pylist())


# ---- once ----------------------------------------------------------------------------------------


def test_the_same_batch_is_recorded_once_until_the_next_begins(run: RunDir, rows: WatchedRows) -> None:
    ids = torch.tensor([3, 4])
    assert not rows.has_row
    assert [show(rows, ids), show(rows, ids), show(rows, ids.clone()), show(rows, [3, 4])] == [2, 0, 0, 0]
    assert rows.has_row
    assert show(rows, torch.tensor([4, 3])) == 2
    rows.next_batch()
    assert not rows.has_row
    assert show(rows, [4, 3]) == 2
    assert recorded(run, rows) == [3, 3, 3, 4, 4, 4]


def test_after_a_step_equal_ids_are_another_visit_but_the_same_tensor_is_not(run: RunDir, rows: WatchedRows) -> None:
    ids = torch.tensor([3, 4])
    assert show(rows, ids) == 2
    rows.has_moved_on = True
    assert [show(rows, ids), show(rows, ids.view(2))] == [0, 0]
    assert show(rows, ids[:1]) == 1, "as long a tensor, too"
    rows.has_moved_on = True
    assert show(rows, torch.tensor([3])) == 1
    assert not rows.has_moved_on
    assert show(rows, torch.tensor([3])) == 0
    assert recorded(run, rows) == [3, 3, 3, 4]


def test_signals_alone_make_no_row_and_come_as_often_as_they_are_said(run: RunDir, rows: WatchedRows) -> None:
    assert rows.add([1, 2], None, None, {"a": [0.5, 1.5]}, WHERE) == 0
    assert not rows.has_row
    assert show(rows, [1, 2], a=torch.tensor([[2.0], [3.0]])) == 2
    assert show(rows, [1, 2], a=torch.tensor([4, 5])) == 0
    assert recorded(run, rows) == [1, 2]
    values = pa.concat_tables([pq.read_table(part) for part in sorted(run.custom.iterdir())])
    assert values["sample_id"].to_pylist() == [1, 2] * 3
    assert values["value"].to_pylist() == [0.5, 1.5, 2.0, 3.0, 4.0, 5.0]


def test_rows_go_on_after_a_close(run: RunDir, rows: WatchedRows) -> None:
    show(rows, [1])
    rows.close()
    rows.next_batch()
    show(rows, [2])
    assert recorded(run, rows) == [1, 2]


# ---- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [torch.tensor([2.0, -1.0]), torch.tensor([[2.0], [-1.0]])])
def test_one_logit_is_a_pair_of_classes(run: RunDir, rows: WatchedRows, logits: Tensor) -> None:
    show(rows, [0, 1], logits, torch.tensor([1, 1]))
    rows.flush(wait=True)
    found = LedgerReader(run).table(["pred", "p_label"])
    assert found["pred"].to_pylist() == [1, 0]
    assert found["p_label"].to_pylist() == pytest.approx([0.8808, 0.2689], abs=1e-4)


def test_labels_and_ids_may_be_lists_and_ids_of_any_whole_type(run: RunDir, rows: WatchedRows) -> None:
    show(rows, torch.tensor([[7], [8]], dtype=torch.int32), label=[1, 0])
    rows.flush(wait=True)
    found = LedgerReader(run).table(["sample_id", "label"])
    assert (found["sample_id"].to_pylist(), found["label"].to_pylist()) == ([7, 8], [1, 0])


def test_the_first_logits_tell_how_many_classes_there_are(run: RunDir) -> None:
    roster = Roster(None)
    rows = WatchedRows(roster)
    rows.open(run, 1, 0)
    show(rows, [0], torch.zeros(1, 4))
    rows.close()
    assert roster.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("sample_id", "logits", "label", "words"),
    [
        ([1.0], None, 0, "must be whole numbers, got float32"),
        ([True], None, 0, "must be whole numbers, got bool"),
        ([1, 2], torch.zeros(3, 2), 0, r"2 values of sample_id for logits \(3, 2\)"),
        ([1], torch.zeros(1, 2, 2), 0, r"logits are \(1, 2, 2\) .*the logits that belong to it, \(B, C\)"),
        ([1], None, None, "needs the labels too"),
    ],
)
def test_what_is_no_row_is_refused(
    run: RunDir, rows: WatchedRows, sample_id: Any, logits: Any, label: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        show(rows, sample_id, logits, label)
    assert recorded(run, rows) == []
