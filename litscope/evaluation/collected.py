"""CollectedAnswers: what a network says, kept batch by batch. Needs no Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litscope.training.readouts import Answers
from litscope.uncertainty.entropies import expected_entropy, mutual_information


class CollectedAnswers:
    """Keeps what is said of all samples, on the CPU, batch by batch."""

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []

    def add(
        self,
        logits: Tensor,
        sample_id: Tensor,
        label: Tensor | None,
        parts: tuple[Tensor, Sequence[float] | None] | None,
    ) -> None:
        """Keep a batch: logits (B, C), ids (B,), labels (B,), and of its parts what `Forward.read_parts` gives."""
        kept = {
            "logits": logits.detach().double().cpu().numpy(),
            "sample_id": sample_id.cpu().numpy(),
            "label": torch.full_like(sample_id, -1).cpu().numpy() if label is None else label.cpu().numpy(),
        }
        if parts is not None:
            each, weights = parts
            probs = torch.softmax(each.detach().double().cpu(), 2).numpy()
            kept["expected_entropy"] = expected_entropy(probs, weights)
            kept["mutual_information"] = mutual_information(probs, weights)
        self._kept.append(kept)

    def answers(self, num_classes: int) -> Answers:
        """All of it, without rows that are padding."""
        if not self._kept:
            none = np.empty(0, np.int64)
            return Answers(none, np.empty((0, num_classes)), none)
        joined = {name: np.concatenate([batch[name] for batch in self._kept]) for name in self._kept[0]}
        found = Answers(**joined)
        return found.of(found.sample_id >= 0)
