"""A plain Lightning script: torchvision transforms, DataLoader, two logged metrics, as the documentation shows."""

from __future__ import annotations

from typing import Any

import common
import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torchmetrics.classification import MulticlassAccuracy


class Plain(L.LightningModule):
    """A classifier that logs loss and accuracy."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net
        self.accuracy = MulticlassAccuracy(num_classes=10)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Cross-entropy of one batch."""
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Timing(L.Callback):
    """Times each epoch's training."""

    def __init__(self, num_samples: int) -> None:
        self.clock, self.num_samples = common.Clock(), num_samples

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.clock.begin()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop the clock."""
        self.clock.end(self.num_samples)


def main() -> None:
    """Train, and print samples per second."""
    options = common.arguments()
    module = Plain(common.plain_network(options.task))
    timing = Timing(options.batches * options.batch_size)
    trainer = L.Trainer(
        max_epochs=options.epochs,
        limit_train_batches=options.batches,
        accelerator="cpu",
        callbacks=[timing],
        logger=L.loggers.CSVLogger("."),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, common.loader(options))
    timing.clock.report(module.net)


if __name__ == "__main__":
    main()
