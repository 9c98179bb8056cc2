"""The losses against torch's own, by hand where torch has none, and with rows that must not count."""

import math

import pytest
import torch
import torch.nn.functional as F

from litscope.errors import ConfigError
from litscope.models.learning.losses import ClassificationLoss

WEIGHTS = [0.5, 2.0, 1.0, 0.25]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, generator=generator) * 3
    return logits, torch.randint(0, 4, (9,), generator=generator)


def both_gradients(logits: torch.Tensor, ours, theirs) -> None:
    gradients = []
    for loss in (ours, theirs):
        leaf = logits.clone().requires_grad_()
        loss(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.flag("label_smoothing", "class_weights")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_hard_labels_equal_torch(batch, smoothing, weights):
    logits, label = batch
    criterion = ClassificationLoss(label_smoothing=smoothing, class_weights=weights)
    tensor = None if weights is None else torch.tensor(weights)

    def theirs(x):
        return F.cross_entropy(x, label, weight=tensor, label_smoothing=smoothing)

    loss = criterion(logits.log_softmax(1), label)
    torch.testing.assert_close(loss.mean, theirs(logits))
    torch.testing.assert_close(loss.rows.mean(), loss.mean)
    torch.testing.assert_close(loss.sample_loss, F.cross_entropy(logits, label, reduction="none"))
    both_gradients(logits, lambda x: criterion(x.log_softmax(1), label).mean, theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_soft_labels_equal_torch(batch, smoothing, weights):
    logits, label = batch
    soft = torch.softmax(torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), 1)
    criterion = ClassificationLoss(label_smoothing=smoothing, class_weights=weights)
    tensor = None if weights is None else torch.tensor(weights)
    loss = criterion(logits.log_softmax(1), label, soft)
    torch.testing.assert_close(loss.mean, F.cross_entropy(logits, soft, weight=tensor, label_smoothing=smoothing))
    torch.testing.assert_close(loss.rows.mean(), loss.mean)
    # The ledger's loss is against the label of the manifest, not against the blend.
    torch.testing.assert_close(loss.sample_loss, F.cross_entropy(logits, label, reduction="none"))


@pytest.mark.parametrize("kind", ["cross_entropy", "focal"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("is_soft", [False, True])
def test_rows_without_a_label_count_nowhere(batch, kind, smoothing, weights, is_soft):
    logits, label = batch
    soft = torch.softmax(torch.randn(9, 4), 1) if is_soft else None
    criterion = ClassificationLoss(kind, smoothing, weights)
    log_p = logits.log_softmax(1)
    kept = torch.arange(9) % 3 != 1
    whole = criterion(log_p, torch.where(kept, label, -1), soft)
    alone = criterion(log_p[kept], label[kept], None if soft is None else soft[kept])
    torch.testing.assert_close(whole.mean, alone.mean)
    torch.testing.assert_close(whole.rows[kept], alone.rows)
    assert whole.rows[~kept].abs().max() == 0
    assert whole.sample_loss[~kept].abs().max() == 0


@pytest.mark.flag("loss")
def test_focal_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    loss = ClassificationLoss("focal")(p.log(), torch.tensor([0, 0]))
    expected = [-(0.1**2) * math.log(0.9), -(0.8**2) * math.log(0.2)]
    torch.testing.assert_close(loss.rows, torch.tensor(expected))
    torch.testing.assert_close(loss.mean, torch.tensor(sum(expected) / 2))
    torch.testing.assert_close(loss.sample_loss, -p[:, 0].log())


def test_only_the_mean_carries_a_graph(batch):
    logits, label = batch
    for criterion in (ClassificationLoss(), ClassificationLoss("focal", 0.1, WEIGHTS)):
        loss = criterion(logits.clone().requires_grad_().log_softmax(1), label)
        assert loss.mean.requires_grad
        assert not loss.rows.requires_grad
        assert not loss.sample_loss.requires_grad


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"kind": "hinge"}, "'cross_entropy' and 'focal'"),
        ({"label_smoothing": 1.0}, r"\[0, 1\)"),
        ({"class_weights": [1.0, -1.0]}, "at least 0"),
        ({"class_weights": [1.0, float("nan")]}, "finite"),
    ],
)
def test_wrong_settings_are_named(arguments, names):
    with pytest.raises(ConfigError, match=names):
        ClassificationLoss(**arguments)
