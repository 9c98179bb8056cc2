"""Exercise 5: a script that does the right thing on one device and on several.

    --devices 2 --accelerator cpu    two processes
    --devices 4                      four GPUs
    --scale-lr linear                a learning rate for the global batch

It ends with "right", or with what is not right yet.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import lightning.pytorch as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

NUM_TRAIN, BATCH_SIZE, LR = 1440, 32, 1e-3


def global_batch(batch_size: int, devices: int) -> int:
    """Samples that one optimizer step sees, on all devices together."""
    # Yours (5a): each device takes a batch of its own, and their gradients are averaged.
    return batch_size * devices
    # End (5a)


def steps_per_epoch(num_samples: int, batch_size: int, devices: int) -> int:
    """Optimizer steps until every sample was seen once. The last one may see fewer samples."""
    # Yours (5b): it follows from the global batch.
    return math.ceil(num_samples / global_batch(batch_size, devices))
    # End (5b)


def scaled(lr: float, devices: int, rule: str) -> float:
    """The learning rate, by "none", "linear" or "sqrt"."""
    # Yours (5c): by the number of devices, by its square root, or not at all. A ValueError for any other rule.
    if rule not in ("none", "linear", "sqrt"):
        raise ValueError(f"{rule} is no rule; none, linear and sqrt are")
    return lr * {"none": 1.0, "linear": float(devices), "sqrt": math.sqrt(devices)}[rule]
    # End (5c)


def trainer_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of L.Trainer that say where it trains: accelerator, devices, num_nodes, strategy."""
    # Yours (5d): accelerator, devices and num_nodes as they were given; the strategy is "ddp" for more than one
    # process, else "auto".
    is_alone = options.devices * options.num_nodes == 1
    return {
        "accelerator": options.accelerator,
        "devices": options.devices,
        "num_nodes": options.num_nodes,
        "strategy": "auto" if is_alone else "ddp",
    }
    # End (5d)


class Digits(L.LightningModule):
    """One hidden layer; it counts what it sees."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr, self.num_seen = lr, 0
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
        x, y = batch
        self.num_seen += len(y)
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        x, y = batch
        accuracy = (self.net(x).argmax(1) == y).float().mean()
        # Yours (5e): log val_acc as the mean over all devices, weighted by the size of the batch.
        self.log("val_acc", accuracy, batch_size=len(y), sync_dist=True)
        # End (5e)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def say(trainer: L.Trainer, text: str) -> None:
    """Print a line once, whatever the number of processes."""
    # Yours (5f): only the process with global rank 0 prints. (is_local_zero would print once on each machine.)
    if trainer.is_global_zero:
        print(text)
    # End (5f)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--num-nodes", type=int, default=1)
    parser.add_argument("--scale-lr", default="none")
    options = parser.parse_args(words)
    L.seed_everything(1)
    found = load_digits()
    x, y = torch.tensor(found.data, dtype=torch.float32) / 16, torch.tensor(found.target)
    trainer = L.Trainer(
        **trainer_arguments(options),
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    world = options.devices * options.num_nodes
    module = Digits(scaled(LR, world, options.scale_lr))
    train = DataLoader(TensorDataset(x[:NUM_TRAIN], y[:NUM_TRAIN]), BATCH_SIZE, shuffle=True)
    trainer.fit(module, train, DataLoader(TensorDataset(x[NUM_TRAIN:], y[NUM_TRAIN:]), BATCH_SIZE))

    steps = steps_per_epoch(NUM_TRAIN, BATCH_SIZE, world)
    right(trainer.world_size == world, f"{world} processes train, here {trainer.world_size} (5d)")
    right(
        trainer.num_training_batches == steps,
        f"an epoch has {trainer.num_training_batches} steps, not {steps} (5a, 5b)",
    )
    right(module.num_seen == 2 * NUM_TRAIN // world, f"this process saw its share, here {module.num_seen} samples (5d)")
    right("val_acc" in trainer.callback_metrics, "val_acc is logged (5e)")
    right(
        math.isclose(scaled(0.1, 4, "sqrt"), 0.2) and scaled(0.1, 4, "linear") == 0.4, "4 devices, sqrt or linear (5c)"
    )
    say(
        trainer,
        f"right: {world} x {BATCH_SIZE} samples a step, {steps} steps an epoch, lr {module.lr:g}, "
        f"val_acc {float(trainer.callback_metrics['val_acc']):.3f}",
    )


def right(is_so: Any, what: str) -> None:
    """End with what is not right yet."""
    if not is_so:
        raise SystemExit(f"not yet: {what}")


if __name__ == "__main__":
    main()
