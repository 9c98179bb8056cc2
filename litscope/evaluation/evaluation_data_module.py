"""EvaluationDataModule: samples for a trained network, on their way through Lightning's Trainer."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
import torch

from litscope.data.loader import Loader
from litscope.evaluation.evaluation_data import EvaluationData, on_device
from litscope.types import Batch


class EvaluationDataModule(L.LightningDataModule):
    """The samples of `EvaluationData`, for `Trainer.test` and `Trainer.predict`."""

    def __init__(self, data: EvaluationData) -> None:
        super().__init__()
        self._samples = data

    def test_dataloader(self) -> Loader:
        """The samples that were asked for, once and in order."""
        return self._samples.batches()

    def predict_dataloader(self) -> Loader:
        """The same batches as `test_dataloader`."""
        return self._samples.batches()

    def teardown(self, stage: str | None = None) -> None:  # noqa: ARG002 - Lightning's signature
        """End the decoding threads."""
        self._samples.close()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Move each tensor, without waiting for a GPU."""
        return on_device(batch, device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:  # noqa: ARG002
        """The evaluation transform, in the trainer's precision."""
        assert self.trainer is not None
        return self.trainer.precision_plugin.convert_input(self._samples.seen(batch))
