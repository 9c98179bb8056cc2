"""Judged: a trained classifier whose test reads its logits as was learned, and tells what its parts say."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from litscope.models.classifier import Classifier
from litscope.models.forward import inputs_of
from litscope.models.learning.losses import IGNORED
from litscope.types import Batch


class Judged(Classifier):
    """A classifier for `Trainer.test` alone.

    Attributes:
        num_passes: passes with dropout on, see `Forward.said`; 0: one without.
    """

    num_passes = 0

    def test_step(self, batch: Batch, batch_idx: int) -> Any:  # noqa: ARG002
        """As `Classifier.test_step`, with metrics of the probabilities as `readout` reads them, and of what its
        threshold predicts. Logits are given as they are; `parts` of members and passes as `read_parts` does.
        """
        label = torch.where(batch["sample_id"] < 0, IGNORED, batch["label"])
        said = self.said(inputs_of(batch), self.num_passes)
        log_p = torch.log_softmax(self.read(said.logits), 1)
        sample_loss = F.nll_loss(log_p, label, reduction="none", ignore_index=IGNORED)
        if said.parts is not None and not self.num_passes:
            self.phases.add_members("test", said.parts, label)
        self.given.add("test", log_p, label)
        self.phase("test").add(self._decided(log_p), label, sample_loss)
        found = {"logits": said.logits, "label": label, "sample_id": batch["sample_id"]}
        return found if said.parts is None else {**found, "parts": self.read_parts(said.parts)}

    def _decided(self, log_p: Tensor) -> Tensor:
        """Log-odds between the classes moved so that the higher one is what the threshold predicts; their order over
        samples stays.
        """
        if self.readout is None or self.readout.threshold is None:
            return log_p
        threshold = min(max(self.readout.threshold, 1e-12), 1.0 - 1e-12)
        return log_p + log_p.new_tensor([math.log(threshold / (1.0 - threshold)), 0.0])
