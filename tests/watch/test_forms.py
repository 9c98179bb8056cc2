"""classified: every form of logits and labels is either the ledger's, or told what to record instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from litscope.errors import ConfigError
from litscope.watch.forms import classified

Z = torch.tensor([2.0, -1.0, 0.5])
Y = torch.tensor([1, 0, 1])


@pytest.mark.parametrize("logits", [Z, Z[:, None]])
@pytest.mark.parametrize("label", [Y, Y.float(), Y.float()[:, None], Y.bool(), Y.double(), [1, 0, 1], Y.numpy()])
def test_a_binary_model_has_two_classes_whatever_its_labels_are(logits: Tensor, label: Any) -> None:
    found = classified(logits, label)
    assert found.logits.softmax(1)[:, 1].tolist() == pytest.approx(Z.sigmoid().tolist())
    assert (found.label.tolist(), found.label.dtype, found.is_one_logit) == ([1, 0, 1], torch.int64, True)
    assert (found.floats is not None) == torch.as_tensor(label).is_floating_point()


def test_several_classes_with_labels_as_a_column_or_as_floats() -> None:
    logits = torch.zeros(3, 4, requires_grad=True)
    found = classified(logits, torch.tensor([[3.0], [0.0], [float("nan")]]))
    assert found.label.tolist() == [3, 0, -1], "NaN: the sample has no label"
    assert not found.logits.requires_grad
    assert classified(np.zeros((3, 4), np.float32), Y).logits.shape == (3, 4)


@pytest.mark.parametrize(
    ("logits", "label", "words"),
    [
        (torch.zeros(3, 4), torch.zeros(3, 4), r"multi-label.*loss_per_label\.mean\(1\)"),
        (torch.zeros(3, 4), torch.zeros(3, 4), r"one-hot, give label\.argmax\(1\)"),
        (torch.zeros(3, 4), torch.zeros(3, 4), r"blended.*docs/ledger\.md#mixup"),
        (torch.zeros(3, 7, 50), torch.zeros(3, 7), r"each token.*no one label.*loss_per_token\.mean\(1\)"),
        (torch.zeros(3, 7, 50), torch.zeros(3), r"each token.*the logits that belong to it, \(B, C\)"),
        (torch.zeros(3, 4, 8, 8), torch.zeros(3, 8, 8), r"each pixel.*loss_per_pixel\.flatten\(1\)\.mean\(1\)"),
        (torch.zeros(3, 4), torch.zeros(2), r"label \(2,\) does not fit logits \(3, 4\)"),
        (torch.tensor(1.0), Y, "a single number"),
        ([{"boxes": Z}], Y, "detection.*signals="),
        ((Z, Z), Y, "got a tuple.*the one with the scores"),
        (Z, None, "needs the labels too"),
        (Z, ["cat", "dog", "cat"], "must be class indices"),
    ],
)
def test_other_forms_are_told_what_to_record_instead(logits: Any, label: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        classified(logits, label)
