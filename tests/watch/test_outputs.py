"""read_outputs: what a step returned, and the sentence where that is not enough."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset, default_collate

from litscope.watch import with_ids
from litscope.watch.outputs import read_outputs, refusal

LOGITS = torch.zeros(2, 3)
DATA = with_ids(TensorDataset(torch.zeros(2, 4), torch.tensor([0.0, 1.0])))
BATCH = default_collate([DATA[0], DATA[1]])


def test_label_and_ids_come_from_the_batch_if_the_step_does_not_return_them() -> None:
    found = read_outputs({"loss": torch.tensor(1.0), "logits": LOGITS}, BATCH, DATA)
    assert found.is_row
    assert (found.sample_id.tolist(), found.label.tolist()) == ([0, 1], [0.0, 1.0]), "labels of any type"
    text = {"input_ids": LOGITS, "labels": torch.tensor([1, 0]), "sample_id": torch.tensor([4, 5])}
    assert read_outputs({"logits": LOGITS}, text, None).is_row
    named = with_ids([{"input_ids": torch.zeros(3), "label": 1}], label="label")
    assert read_outputs({"logits": LOGITS}, text, named).label.tolist() == [1, 0], "a collate_fn renamed it"


def test_numbers_of_each_sample_without_logits_are_enough() -> None:
    found = read_outputs({"loss": torch.tensor(1.0), "sample_loss": torch.zeros(2)}, BATCH, DATA)
    assert not found.is_row
    assert found.is_signals
    assert not read_outputs({"logits": LOGITS, "sample_loss": torch.zeros(2)}, [LOGITS], None).is_signals


@pytest.mark.parametrize(
    ("outputs", "step", "words"),
    [
        ({"loss": torch.tensor(1.0)}, "training_step", "training_step returned its loss alone (a Tensor): Scope finds"),
        (torch.tensor(1.0), "validation_step", "validation_step returned a Tensor: Scope finds no logits. Return"),
        (None, "validation_step", "validation_step returned None: Scope finds no logits"),
        ({}, "training_step", "training_step returned None: "),
        ({"loss": 1, "preds": 2}, "training_step", "training_step returned {loss, preds}: "),
    ],
)
def test_the_refusal_says_what_was_returned(outputs: Any, step: str, words: str) -> None:
    message = refusal(read_outputs(outputs, BATCH, DATA), outputs, step, DATA)
    assert message.startswith(words)
    assert message.endswith("record(sample_id=..., signals={...}) takes numbers of your own.")


def test_the_refusal_says_where_ids_come_from() -> None:
    def told(data: Any) -> str:
        return refusal(read_outputs({"loss": 1}, [LOGITS], data), {"loss": 1}, "training_step", data)

    assert "no logits and no label and no sample_id" in told(None)
    assert told(None).endswith("litscope.watch.with_ids(dataset) puts them into it.")
    assert told(DATA).endswith("are not in their place: return them as sample_id.")
