"""CollectAnswers: a callback that keeps what a network says in `Trainer.test`."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import numpy as np
from torch import Tensor

from litscope.data.manifest import Manifest
from litscope.evaluation.quality import Answers


class CollectAnswers(L.Callback):
    """Keeps logits, labels and ids of all samples, on the CPU."""

    def __init__(self) -> None:
        self._kept: list[dict[str, Tensor]] = []

    def on_test_batch_end(self, _: L.Trainer, __: L.LightningModule, outputs: Any, *___: Any) -> None:
        """Keep a batch."""
        kept = {name: outputs[name].detach().cpu() for name in ("logits", "label", "sample_id")}
        self._kept.append({**kept, "logits": kept["logits"].float()})  # numpy knows no bfloat16

    def answers(self, manifest: Manifest) -> Answers:
        """What was kept, without rows that are padding or have no label; with the groups of the manifest."""
        logits, label, ids = (
            np.concatenate([batch[name].numpy() for batch in self._kept]) for name in ("logits", "label", "sample_id")
        )
        counts = (label >= 0) & (ids >= 0)
        ids, groups = ids[counts], manifest.groups
        if groups is not None:
            groups = np.array(
                [f"row {i}" if group is None else f"group {group}" for i, group in zip(ids, groups[ids], strict=True)],
                dtype=object,
            )
        return Answers(ids, logits[counts].astype(np.float64), label[counts], groups)
