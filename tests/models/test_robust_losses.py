"""Losses for rare classes and untrusted labels, recomputed with NumPy from the formulas of their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from litscope.errors import ConfigError
from litscope.models.learning.early_learning import EarlyLearning
from litscope.models.learning.losses import ClassificationLoss


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 3, generator=generator, dtype=torch.float64) * 2
    return logits, torch.tensor([0, 1, 2, 0, 1, 2, 0, -1])


def probabilities(logits: torch.Tensor) -> np.ndarray:
    z = np.exp(logits.numpy() - logits.numpy().max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


@pytest.mark.flag("robust", "gce_q")
@pytest.mark.parametrize("q", [0.2, 0.7, 1.0])
def test_generalised_cross_entropy_by_hand(batch, q) -> None:
    logits, label = batch
    p = probabilities(logits)[np.arange(7), label[:7]]
    loss = ClassificationLoss(robust="gce", gce_q=q)(logits.log_softmax(1), label)
    assert loss.mean.item() == pytest.approx(np.mean((1 - p**q) / q))
    np.testing.assert_allclose(loss.rows[:7], (1 - p**q) / q)
    np.testing.assert_allclose(loss.sample_loss[:7], -np.log(p), err_msg="the ledger's loss stays the cross-entropy")
    assert loss.rows[7] == 0


def test_generalised_cross_entropy_ends_at_both_known_losses(batch) -> None:
    """Near q = 0 it is cross-entropy, also in its gradient; at 1 the mean absolute error over two."""
    logits, label = batch
    leaf = logits.clone().requires_grad_()
    ClassificationLoss(robust="gce", gce_q=1e-6)(leaf.log_softmax(1), label).mean.backward()
    other = logits.clone().requires_grad_()
    F.cross_entropy(other, label, ignore_index=-1).backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-4, atol=1e-6)
    p, target = probabilities(logits)[:7], np.eye(3)[label[:7]]
    loss = ClassificationLoss(robust="gce", gce_q=1.0)(logits.log_softmax(1), label)
    assert loss.mean.item() == pytest.approx(np.abs(p - target).sum(1).mean() / 2)


@pytest.mark.flag("logit_adjustment")
def test_logit_adjustment_is_for_training_alone(batch) -> None:
    logits, label = batch
    loss = ClassificationLoss(logit_adjustment=1.5)
    loss.start(100, 3)
    loss.set_shares([700, 200, 0])
    prior = torch.tensor([700, 200, 1], dtype=torch.float64) / 901  # a class without a sample counts as one
    found = loss(logits.log_softmax(1), label)
    expected = F.cross_entropy(logits + 1.5 * prior.log(), label, ignore_index=-1)
    torch.testing.assert_close(found.mean, expected, rtol=1e-6, atol=1e-6)  # priors are float32
    plain = F.cross_entropy(logits, label, ignore_index=-1, reduction="none")
    torch.testing.assert_close(found.sample_loss, plain)
    torch.testing.assert_close(loss.eval()(logits.log_softmax(1), label).mean, plain.sum() / 7)


def test_logit_adjustment_finds_the_balanced_rule() -> None:
    """One feature without information, 90 % of class 0: the trained logits say that both classes are as likely, while
    plain training says 90 to 10. (Menon et al. 2021: the minimiser is that of the balanced error.)"""
    label = torch.tensor([0] * 90 + [1] * 10)
    for tau, expected in ((0.0, np.log(9)), (1.0, 0.0), (2.0, -np.log(9))):
        bias = torch.zeros(2, requires_grad=True)
        loss = ClassificationLoss(logit_adjustment=tau)
        loss.start(100, 2)
        loss.set_shares([90, 10])
        optimizer = torch.optim.LBFGS([bias], max_iter=100, tolerance_grad=1e-9)

        def step(loss=loss, bias=bias, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            mean = loss(bias.expand(100, 2).log_softmax(1), label).mean
            mean.backward()
            return mean

        optimizer.step(step)
        assert (bias[0] - bias[1]).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.flag("elr_lambda", "elr_beta")
def test_early_learning_by_hand(batch) -> None:
    """Three visits, one sample twice in a batch, one relabelled, one row of padding."""
    loss = ClassificationLoss(robust="elr", elr_lambda=2.0, elr_beta=0.6)
    loss.start(5, 3)
    targets, labels = np.zeros((5, 3)), [None] * 5
    random = np.random.default_rng(0)
    for ids, of_batch in (([0, 1, 2], [0, 1, 2]), ([3, 1, 1, -1], [0, 1, 1, -1]), ([2, 0, 4], [0, 0, 1])):
        logits = torch.from_numpy(random.normal(size=(len(ids), 3)) * 3)
        p = probabilities(logits).clip(1e-4, 1 - 1e-4)
        moved: dict[int, list[np.ndarray]] = {}
        for row, (i, label) in enumerate(zip(ids, of_batch, strict=True)):
            if i >= 0:
                kept = targets[i] if labels[i] == label else np.zeros(3)
                moved.setdefault(i, []).append(0.6 * kept + 0.4 * p[row] / p[row].sum())
                labels[i] = label
        for i, values in moved.items():
            targets[i] = np.mean(values, 0)
        rows = [
            -np.log(p[row, label]) + 2.0 * np.log(1 - targets[i] @ p[row]) if i >= 0 else 0.0
            for row, (i, label) in enumerate(zip(ids, of_batch, strict=True))
        ]
        log_p = logits.log_softmax(1).requires_grad_()
        found = loss(log_p, torch.tensor(of_batch), sample_id=torch.tensor(ids))
        np.testing.assert_allclose(found.rows.numpy(), rows, rtol=2e-5, atol=1e-6)
        assert found.mean.item() == pytest.approx(np.sum(rows) / len(moved) if len(ids) == 3 else np.sum(rows) / 3)
    np.testing.assert_allclose(loss.state()["elr_targets"], targets, rtol=1e-5, atol=1e-6)


def test_early_learning_passes_no_gradient_through_its_targets() -> None:
    """The gradient is that of the authors' formula with the target held: dL/dp = -lambda t / (1 - <p, t>)."""
    early = EarlyLearning(3.0, 0.7)
    early.start(2, 2)
    log_p = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).log().requires_grad_()
    early.penalty(log_p, torch.tensor([0, 1]), torch.tensor([0, 1])).sum().backward()
    p = log_p.detach().exp()
    t = 0.3 * p
    expected = -3.0 * t / (1 - (p * t).sum(1, keepdim=True)) * p  # d/d log p
    torch.testing.assert_close(log_p.grad, expected)


def test_early_learning_counts_nothing_in_evaluation_or_without_ids(batch) -> None:
    logits, label = batch
    loss = ClassificationLoss(robust="elr")
    loss.start(8, 3)
    plain = F.cross_entropy(logits, label, ignore_index=-1)
    torch.testing.assert_close(loss(logits.log_softmax(1), label).mean, plain)
    torch.testing.assert_close(loss.eval()(logits.log_softmax(1), label, sample_id=torch.arange(8)).mean, plain)
    assert not loss.state()["elr_targets"].any()


def test_targets_of_other_data_are_refused() -> None:
    one, other = ClassificationLoss(robust="elr"), ClassificationLoss(robust="elr")
    one.start(8, 3)
    other.start(9, 3)
    with pytest.raises(ConfigError, match="targets of 8 samples of 3 classes, and the data have 9 samples"):
        other.load_state(one.state())
    with pytest.raises(ConfigError, match=r"elr keeps a number .* 8 GB .*--robust gce"):
        other.start(2_000_000, 1000)


@pytest.mark.parametrize("settings", [{"robust": "gce"}, {"kind": "focal", "focal_gamma": 0.5}, {"robust": "elr"}])
def test_every_loss_lives_with_batches_of_one_class(settings) -> None:
    """All positive, perfectly sure, perfectly wrong: finite losses and gradients."""
    loss = ClassificationLoss(**settings, class_weights=[0.1, 1.9])
    loss.start(6, 2)
    for scale in (0.0, 5.0, 200.0):
        logits = torch.tensor([[-scale, scale], [scale, -scale]]).repeat(3, 1).requires_grad_()
        mean = loss(logits.log_softmax(1), torch.ones(6, dtype=torch.int64), sample_id=torch.arange(6)).mean
        mean.backward()
        assert torch.isfinite(mean)
        assert torch.isfinite(logits.grad).all()


@pytest.mark.flag("focal_gamma")
def test_focal_gamma() -> None:
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    loss = ClassificationLoss("focal", focal_gamma=0.5)(p.log(), torch.tensor([0, 0]))
    expected = [-(0.1**0.5) * np.log(0.9), -(0.8**0.5) * np.log(0.2)]
    torch.testing.assert_close(loss.rows, torch.tensor(expected, dtype=torch.float32))
    zero = ClassificationLoss("focal", focal_gamma=0.0)(p.log(), torch.tensor([0, 0]))
    torch.testing.assert_close(zero.mean, F.nll_loss(p.log(), torch.tensor([0, 0])))
