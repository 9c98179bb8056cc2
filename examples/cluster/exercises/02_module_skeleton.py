"""Exercise 2: a LightningModule for MNIST, an MLP.

    --data data/MNIST/raw     the four idx files, packed (.gz) or not
    --limit-batches 50        a short trial

If you do not have the files: python -c "from torchvision.datasets import MNIST; MNIST('data', download=True)", on a
machine with internet. It ends with "right", or with what is not right yet.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def idx(folder: Path, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An idx file: two bytes of zero, the type (8: uint8), the number of axes, their lengths, and the numbers."""
    packed = folder / f"{name}.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def mnist(folder: Path, part: str) -> TensorDataset:
    """Images (n, 784) in [0, 1] and labels (n,) of "train" (60,000) or "t10k" (10,000)."""
    images = torch.tensor(idx(folder, f"{part}-images-idx3-ubyte")).flatten(1).float() / 255
    return TensorDataset(images, torch.tensor(idx(folder, f"{part}-labels-idx1-ubyte")).long())


class MLP(L.LightningModule):
    """Two hidden layers."""

    def __init__(self, lr: float = 2e-3) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        )  # fmt: skip

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        # Yours (2a): the cross-entropy of the batch, logged as train_loss, and returned. Neither backward() nor the
        # optimizer is called here.
        raise NotImplementedError("2a is yours to write")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        # Yours (2b): log the share of right predictions as val_acc; on several devices, as the mean over all of them
        # (sync_dist).
        raise NotImplementedError("2b is yours to write")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Yours (2c): Adam over the parameters of this module, with the learning rate self.lr.
        raise NotImplementedError("2c is yours to write")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data/MNIST/raw"))
    parser.add_argument("--limit-batches", type=int)
    options = parser.parse_args(words)
    L.seed_everything(1)
    train, val = mnist(options.data, "train"), mnist(options.data, "t10k")
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        limit_train_batches=options.limit_batches,
        limit_val_batches=options.limit_batches,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(MLP(), DataLoader(train, 128, shuffle=True), DataLoader(val, 500))
    logged = trainer.callback_metrics
    right("train_loss" in logged, "training logs train_loss (2a)")
    right("val_acc" in logged, "validation logs val_acc (2b)")
    right(logged["val_acc"] > 0.5, f"it learns; {logged['val_acc']:.1%} of the digits are right (2a, 2c)")
    print(f"right: {logged['val_acc']:.1%} of the digits it has not seen")


def right(is_so: Any, what: str) -> None:
    """End with what is not right yet."""
    if not is_so:
        raise SystemExit(f"not yet: {what}")


if __name__ == "__main__":
    main()
