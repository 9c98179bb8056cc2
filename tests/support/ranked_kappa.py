"""A metric of a module of its own, as a user writes one, which keeps its rows and does not say what is better."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_cohen_kappa


class TwiceKappa(Metric):
    """Two times Cohen's kappa of three classes."""

    higher_is_better = None
    full_state_update = False

    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("preds", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        assert preds.dtype == torch.float32
        assert preds.shape == (len(target), 3)
        assert target.dtype == torch.int64
        self.preds.append(preds)
        self.target.append(target)

    def compute(self) -> Tensor:
        preds, target = (torch.cat(x) if isinstance(x, list) else x for x in (self.preds, self.target))
        return 2 * multiclass_cohen_kappa(preds, target, 3)
