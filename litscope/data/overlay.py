"""Overlay: what people decided about samples, laid over the manifest. Shared by every loader of a run.

It also holds the factors that pruning gives to samples in the current epoch. The manifest is
never edited. Loaders take labels and weights from here when a batch is handed over, so a change
reaches the very next batch, even one that was decoded before.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from litscope.data.sampler import Ids


class Overlay:
    """Labels, weights and discards of N samples.

    Args:
        labels: (N,) int64 class indices of the manifest, -1 where there is none.
        are_drawn_by_weight: see below.
        soft_labels: (N, C) float32, what training aims at in place of the labels, NaN in rows without; None: nowhere.

    Attributes:
        labels: (N,) int64, as they are now. Changed in place.
        weights: (N,) float32; None while every sample has weight 1.
        are_drawn_by_weight: whether the weights decide how often a sample is drawn, so that its loss has none.
        factors: (N,) float32, by which pruning multiplies the weights in the current epoch; None while all are 1.
        is_discarded: (N,) bool.
    """

    def __init__(
        self, labels: Ids, are_drawn_by_weight: bool = False, soft_labels: NDArray[np.float32] | None = None
    ) -> None:
        self._original = as_tensor(labels)
        self.labels: Tensor = self._original.clone()
        self._soft = None if soft_labels is None else as_tensor(soft_labels)
        self.weights: Tensor | None = None
        self.are_drawn_by_weight = are_drawn_by_weight
        self.factors: Tensor | None = None
        self.is_discarded: NDArray[np.bool_] = np.zeros(len(labels), bool)

    def set(self, discarded: Collection[int], labels: Mapping[int, int], weights: Mapping[int, float]) -> None:
        """Lay these decisions over the manifest, in place of all earlier ones.

        Args:
            discarded: sample ids that are left out.
            labels: sample id -> class index.
            weights: sample id -> factor of its loss, at least 0.
        """
        self.is_discarded[:] = False
        self.is_discarded[list(discarded)] = True
        self.labels.copy_(self._original)
        self.labels[list(labels)] = torch.tensor(list(labels.values()), dtype=torch.int64)
        self.weights = None
        if any(weight != 1.0 for weight in weights.values()):
            self.weights = torch.ones(len(self.labels))
            self.weights[list(weights)] = torch.tensor(list(weights.values()), dtype=torch.float32)

    def weight_of(self, ids: Tensor) -> Tensor | None:
        """(B,) float32 factor of the loss of each of `ids` (B,), or None while all are 1."""
        weights = None if self.are_drawn_by_weight else self.weights
        parts = [values[ids] for values in (weights, self.factors) if values is not None]
        return None if not parts else parts[0] if len(parts) == 1 else parts[0] * parts[1]

    def soft_of(self, ids: Tensor) -> Tensor | None:
        """(B, C) float32: what training aims at for `ids` (B,), or None where that is the labels alone. A label that
        somebody changed is certain, and so is one without a grade.
        """
        if self._soft is None:
            return None
        soft, labels = self._soft[ids], self.labels[ids]
        is_graded = (labels == self._original[ids]) & ~soft.isnan().any(-1)
        certain = torch.zeros_like(soft).scatter_(-1, labels.clamp(min=0).unsqueeze(-1), 1.0)
        return torch.where(is_graded.unsqueeze(-1), soft, certain)

    def state(self) -> dict[str, Tensor]:
        """What differs from the manifest, for a checkpoint; empty where nothing does."""
        changed = torch.nonzero(self.labels != self._original).flatten()
        discarded = torch.from_numpy(np.flatnonzero(self.is_discarded))
        state = {"discarded": discarded, "relabelled": changed, "labels": self.labels[changed]}
        if self.weights is not None:
            state["reweighted"] = torch.nonzero(self.weights != 1).flatten()
            state["weights"] = self.weights[state["reweighted"]]
        return {name: value for name, value in state.items() if len(value)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        ids = {name: state[name].tolist() for name in state}
        self.set(
            ids.get("discarded", []),
            dict(zip(ids.get("relabelled", []), ids.get("labels", []), strict=True)),
            dict(zip(ids.get("reweighted", []), ids.get("weights", []), strict=True)),
        )

    def active(self, ids: Ids) -> Ids:
        """The `ids` that have a label and are not discarded."""
        return ids[(self.labels.numpy()[ids] >= 0) & ~self.is_discarded[ids]]


def as_tensor(data: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over the array's memory. Nothing writes to it, so torch's warning about read-only arrays is void."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(data)
