"""Visits: how often an epoch that draws with repetition had drawn each sample of a batch before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from litscope.data.sampler import Ids


@dataclass(frozen=True)
class Visits:
    """How often samples were drawn before, in the batches of one pass over an epoch.

    Attributes:
        first: number of its first batch.
        batches: the ids of each batch.
        times: how often the epoch had drawn each of them before.
    """

    first: int
    batches: list[Ids]
    times: list[Ids]

    def of(self, ids: Tensor, number: int) -> Tensor:
        """As `ids`: how often each was drawn before. Of a batch, (B,), or of a stack of them, (N, B).

        Args:
            ids: those of the batch that could be read.
            number: of the batch in its epoch.
        """
        at = number - self.first
        if ids.ndim == 2:
            return torch.from_numpy(np.stack(self.times[at : at + len(ids)]))
        wanted, times = self.batches[at], self.times[at]
        return torch.from_numpy(times if len(ids) == len(wanted) else times[np.isin(wanted, ids.numpy())])
