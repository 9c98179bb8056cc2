"""WeightsLab on the same MNIST task, with parts wrapped as in its Lightning example.

    python bench/rivals/weightslab_mnist.py FOLDER --batches N --epochs N [--tuned]

--tuned: the settings that its own examples use for speed: a large flush, no HDF5, no checkpoints while it trains, no
signals of the model. Telemetry and serving are off.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"WL_NO_TELEMETRY": "1", "WEIGHTSLAB_DISABLE_EMBEDDED_KERNEL": "1"}

# ruff: isort: split
import mnist_cnn
import pytorch_lightning as pl
import torch
import weightslab as wl
from torch import nn
from turns import Turns

TUNED = {
    "ledger_flush_max_rows": 8192,
    "ledger_enable_h5_persistence": False,
    "experiment_dump_to_train_steps_ratio": 10_000_000,
}


class Own(pl.LightningModule):
    """A classifier whose parts are wrapped."""

    def __init__(self, net: nn.Module, optimizer: Any, loss_of: Any, turns: Turns, num_samples: int) -> None:
        super().__init__()
        self.net, self.optimizer, self.loss_of = net, optimizer, loss_of
        self.turns, self.num_samples = turns, num_samples

    def training_step(self, batch: Any) -> Any:
        """Cross-entropy of one batch, recorded by the loss."""
        with wl.guard_training_context:
            x, ids, y = batch
            logits = self.net(x)
            preds = logits.argmax(1)
            return self.loss_of(logits.float(), y.long(), batch_ids=ids, preds=preds).mean()

    def configure_optimizers(self) -> Any:
        return self.optimizer

    def on_train_epoch_start(self) -> None:
        self.turns.begin()

    def on_train_epoch_end(self) -> None:
        self.turns.end(self.num_samples)


def main() -> None:
    """Train, and report samples per second."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--tuned", action="store_true")
    options = parser.parse_args()
    count = options.batches * options.batch_size
    settings = {"experiment_name": "bench", "device": "cpu", "root_log_dir": tempfile.mkdtemp(dir=".")}
    settings |= TUNED if options.tuned else {}
    wl.watch_or_edit(settings, flag="hyperparameters", defaults=settings, poll_interval=1.0)
    loader = wl.watch_or_edit(
        mnist_cnn.training_set(options.folder, count),
        flag="data",
        loader_name="train_loader",
        batch_size=options.batch_size,
        shuffle=True,
        is_training=True,
        compute_hash=False,
        preload_labels=False,
        enable_h5_persistence=not options.tuned,
    )
    loss_of = wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name="loss-CE", log=True)
    plain = mnist_cnn.network()
    num_parameters = sum(parameter.numel() for parameter in plain.parameters())
    more = {"log_model_signals": False} if options.tuned else {}
    net = wl.watch_or_edit(plain, flag="model", device="cpu", **more)
    optimizer = wl.watch_or_edit(torch.optim.Adam(net.parameters(), 1e-3), flag="optimizer")
    wl.serve(serving_grpc=False, serving_cli=False)
    wl.start_training(timeout=3)
    turns = Turns()
    trainer = pl.Trainer(
        max_epochs=options.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Own(net, optimizer, loss_of, turns, count), loader)
    turns.finish(num_parameters)
    os._exit(0)  # its background threads would keep the process


if __name__ == "__main__":
    main()
