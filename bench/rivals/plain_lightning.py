"""A plain Lightning script: torchvision transforms, DataLoader, two logged values, as the documentation shows."""

from __future__ import annotations

import warnings
from typing import Any

import common
import lightning.pytorch as L
import torch
import torch.nn.functional as F
from turns import Turns


class Plain(L.LightningModule):
    """A classifier that logs loss and accuracy."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Cross-entropy of one batch."""
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("train_acc", (logits.argmax(1) == y).float().mean(), on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    # The two hooks below wait for the turn and take the time. As hooks of the module they cost no further callback.

    def on_train_epoch_start(self) -> None:
        self.turns.begin()

    def on_train_epoch_end(self) -> None:
        common.wait_for(self.device.type)
        self.turns.end(self.num_samples)


def main() -> None:
    """Train, and report samples per second."""
    warnings.filterwarnings("ignore")
    options = common.arguments()
    module = Plain(common.plain_network(options))
    module.turns, module.num_samples = Turns(), options.batches * options.batch_size
    trainer = L.Trainer(
        max_epochs=options.epochs,
        limit_train_batches=options.batches,
        accelerator="cpu" if options.device == "cpu" else "gpu",
        devices=1,
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        logger=L.loggers.CSVLogger("."),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, common.loader(options))
    net = module.net.to(options.device)
    # With one epoch of one batch, as bench/startup.py runs it, the end of the epoch is that of the first step.
    first_step_s = module.turns.first_end_s
    module.turns.finish(common.num_parameters(net), common.accuracy(net, options), first_step_s=first_step_s)


if __name__ == "__main__":
    main()
