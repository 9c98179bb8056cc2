"""CollectAnswers: a callback that keeps what a network says in `Trainer.test`."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L

from litscope.data.manifest import Manifest
from litscope.evaluation.collected import CollectedAnswers
from litscope.training.readouts import Answers, groups_of


class CollectAnswers(L.Callback):
    """Keeps logits, labels and ids of all samples, and how far the parts of the network disagree."""

    def __init__(self) -> None:
        self._kept = CollectedAnswers()

    def on_test_batch_end(self, _: L.Trainer, __: L.LightningModule, outputs: Any, *___: Any) -> None:
        """Keep a batch."""
        self._kept.add(outputs["logits"], outputs["sample_id"], outputs["label"], outputs.get("parts"))

    def answers(self, manifest: Manifest) -> Answers:
        """What was kept, without rows that are padding or have no label; with the groups of the manifest."""
        found = self._kept.answers(len(manifest.classes))
        found = found.of(found.label >= 0)
        return Answers(**{**vars(found), "groups": groups_of(manifest, found.sample_id)})
