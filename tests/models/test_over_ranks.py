"""The loss of a batch that two processes share out unevenly: each row counts as in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from forked import Forked, finished
from torch import Tensor

from litscope.models.learning.early_learning import EarlyLearning
from litscope.models.learning.losses import IGNORED, ClassificationLoss, Loss, Target
from litscope.models.networks.members import member_losses
from litscope.models.over_ranks import OverRanks, mean_over_ranks

SHARES = slice(0, 4), slice(4, 7)
"""The rows of each rank."""

LABEL = torch.tensor([0, 2, 1, IGNORED, 2, 2, 0])


def _mean(objective: ClassificationLoss, *, soft: bool = False, weighted: bool = False) -> Callable[..., Loss]:
    def loss(x: Tensor, w: Tensor, rows: slice, over_ranks: OverRanks | None) -> Loss:
        log_p = torch.log_softmax(x[rows] @ w[0], 1)
        given = torch.softmax(x[rows, :3], 1) if soft else None
        return objective(log_p, LABEL[rows], given, torch.arange(7.0)[rows] if weighted else None, over_ranks)

    return loss


def _of_folds(x: Tensor, w: Tensor, rows: slice, over_ranks: OverRanks | None) -> Loss:
    left_out = torch.tensor([0, 1, 1, 0, 1, 1, 1])
    return member_losses(WEIGHTED, x[rows] @ w, Target(LABEL[rows], left_out=left_out[rows]), over_ranks)


WEIGHTED = ClassificationLoss(class_weights=[0.2, 1.0, 3.0])
LOSSES: dict[str, Callable[..., Loss]] = {
    "plain": _mean(ClassificationLoss()),
    "class weights": _mean(WEIGHTED),
    "focal and smooth": _mean(ClassificationLoss("focal", 0.1, [0.2, 1.0, 3.0])),
    "mixed": _mean(WEIGHTED, soft=True),
    "weighted rows": _mean(ClassificationLoss(), weighted=True),
    "generalised": _mean(ClassificationLoss(robust="gce", class_weights=[0.2, 1.0, 3.0])),
    "folds at once": _of_folds,
}


def _measured(rows: slice, over_ranks: OverRanks | None) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """For each kind, the loss, its gradient, and the rows that the metric of training adds up."""
    generator = torch.Generator().manual_seed(3)
    x, start = torch.randn(7, 5, generator=generator), torch.randn(2, 5, 3, generator=generator)
    found = {}
    for name, of in LOSSES.items():
        w = start.clone().requires_grad_()
        loss = of(x, w, rows, over_ranks)
        loss.mean.backward()
        assert w.grad is not None
        found[name] = loss.mean.detach(), w.grad, loss.rows
    return found


def _one_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(_measured(SHARES[rank], mean_over_ranks), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_a_step_of_four_and_three_samples_is_the_mean_over_seven(tmp_path: Path) -> None:
    ranks = [Forked(_one_rank, rank, tmp_path) for rank in range(2)]
    for rank in ranks:
        done = finished(rank, 60)
        assert done.returncode == 0, done.stderr
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, (mean, gradient, rows) in _measured(slice(0, 7), None).items():
        means, gradients, of_ranks = zip(*(share[name] for share in shares), strict=True)
        assert sum(means) / 2 == pytest.approx(float(mean), abs=1e-6), name
        torch.testing.assert_close(sum(gradients) / 2, gradient, msg=name)
        torch.testing.assert_close(torch.cat(of_ranks), rows, msg=name)


def _visits(rank: int, folder: Path) -> None:
    """Two epochs of six samples, each of which the other rank visits in the second, with a checkpoint between."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    early = _visited(lambda epoch: [[0, 1, 2], [3, 4, 5]][(rank + epoch) % 2])
    torch.save(early, folder / f"early{rank}.pt")
    dist.destroy_process_group()


def _visited(share: Callable[[int], list[int]]) -> dict[str, Tensor]:
    early = EarlyLearning(3.0, 0.7)
    early.start(7, 3)
    for epoch in range(3):
        log_p = torch.randn(7, 3, generator=torch.Generator().manual_seed(epoch)).log_softmax(1)
        for i in share(epoch):
            early.penalty(log_p[[i]], torch.tensor([i % 3]), torch.tensor([i]))
            if i == 4:
                early.state()  # a checkpoint within the epoch changes nothing
            elif i == 1:  # every rank must come
                early.state()
        early.merge()
    return early.state()


@pytest.mark.slow
def test_early_learning_of_two_ranks_is_that_of_one(tmp_path: Path) -> None:
    """Whoever visits a sample, its target goes on from the last visit; both ranks save the same."""
    ranks = [Forked(_visits, rank, tmp_path) for rank in range(2)]
    for rank in ranks:
        done = finished(rank, 60)
        assert done.returncode == 0, done.stderr
    alone = _visited(lambda _: list(range(6)))
    for number in range(2):
        found = torch.load(tmp_path / f"early{number}.pt", weights_only=True)
        torch.testing.assert_close(found, alone, rtol=0, atol=0)
