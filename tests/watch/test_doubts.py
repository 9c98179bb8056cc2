"""Doubts: labels that are no classes end a run with a sentence, and probabilities in place of logits are told once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from litscope.attempts import begin_attempt
from litscope.errors import ConfigError
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import Rows
from litscope.rundir import RunDir
from litscope.watch.doubts import Doubts
from litscope.watch.forms import classified
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


def show(rows: WatchedRows, logits: Tensor, label: Tensor, first: int = 0) -> None:
    rows.next_batch()
    rows.add(torch.arange(first, first + len(label)), logits, label, {}, WHERE)


# ---- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "label", "words"),
    [
        (torch.zeros(2, 3), torch.tensor([2, 3]), r"label 3 of sample_id 1: the logits have 3 classes, 0 to 2"),
        (torch.zeros(2, 1), torch.tensor([1.0, 37.0]), r"label 37 of sample_id 1: the model has one logit.*regression"),
        (torch.zeros(2, 1), torch.tensor([1.0, 0.37]), r"such as 0\.37.*regression.*signals="),
        (torch.zeros(20_000, 2), torch.full((20_000,), 2), "label 2 of sample_id 0"),  # too many to be staged
    ],
)
def test_a_label_that_is_no_class_is_named_and_not_recorded(
    run: RunDir, rows: WatchedRows, logits: Tensor, label: Tensor, words: str
) -> None:
    show(rows, torch.zeros(1, logits.shape[1]), torch.zeros(1), first=50_000)
    rows.flush(wait=True)
    show(rows, logits, label)
    with pytest.raises(ConfigError, match=words):
        rows.flush(wait=True)
    with pytest.raises(ConfigError, match=words):
        show(rows, logits, label)
    recorded = LedgerReader(run).table(["sample_id", "label"])
    assert set(recorded["label"].to_pylist()) <= {0, 2} if logits.shape[1] == 3 else {0, 1}
    assert 50_000 in recorded["sample_id"].to_pylist()
    assert len(recorded) <= 2


def test_labels_below_zero_and_a_change_of_the_classes_are_fine(run: RunDir, rows: WatchedRows) -> None:
    show(rows, torch.zeros(2, 3), torch.tensor([-100, 2]))
    show(rows, torch.zeros(1, 5), torch.tensor([4]), first=2)
    show(rows, torch.zeros(1, 3), torch.tensor([0]), first=3)
    rows.flush(wait=True)
    assert sorted(LedgerReader(run).table(["label"])["label"].to_pylist()) == [-100, 0, 2, 4]


@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (4,)])
@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
def test_nothing_is_read_back_in_a_step(shape: tuple[int, ...], kind: torch.dtype) -> None:
    """Tensors of the meta device have no values: to look at one is an error."""
    doubts = Doubts(is_first_rank=True)
    batch = classified(torch.zeros(shape, device="meta"), torch.zeros(4, 1, dtype=kind, device="meta"))
    assert doubts.fits(batch)
    doubts.hold(batch)
    doubts.about(Rows(*(np.zeros(0, np.int64),) * 3, signals={}, segments=()))
    doubts.raise_refusal()


# ---- probabilities -------------------------------------------------------------------------------

LOGITS = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
LABEL = torch.arange(300) % 2


def told(rows: WatchedRows, logits: Tensor, capsys: pytest.CaptureFixture[str]) -> str:
    for part in (slice(10), slice(10, None), slice(None)):
        show(rows, logits[part], LABEL[part])
        rows.flush(wait=True)
    return capsys.readouterr().err


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_outputs_of_a_softmax_are_told_once(
    rows: WatchedRows, capsys: pytest.CaptureFixture[str], kind: torch.dtype
) -> None:
    error = told(rows, LOGITS.to(kind).softmax(1), capsys)
    assert error.count("the logits are probabilities") == 1
    assert "no p_label can be above 0.58" in error


def test_outputs_of_a_sigmoid_are_told_once(rows: WatchedRows, capsys: pytest.CaptureFixture[str]) -> None:
    error = told(rows, LOGITS[:, 0].sigmoid(), capsys)
    assert error.count("within [0, 1]: if they are outputs of a sigmoid") == 1


@pytest.mark.parametrize(
    "logits", [LOGITS, LOGITS.log_softmax(1), torch.zeros(300, 3), LOGITS[:, 0], torch.zeros(300), LOGITS.abs()]
)
def test_logits_are_not_taken_for_probabilities(
    rows: WatchedRows, capsys: pytest.CaptureFixture[str], logits: Tensor
) -> None:
    assert told(rows, logits, capsys) == ""
