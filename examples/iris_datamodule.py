"""Iris in Lightning, watched, with a DataModule, a callback that prints each epoch's loss, and one that times epochs.

    python examples/iris_datamodule.py [--epochs 30]
    python examples/iris_datamodule.py --accelerator cpu --devices 2        # two processes
    litscope worst runs/iris_datamodule

litscope's part: `with_ids` twice, `Scope`, and the dict that the steps return.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_iris
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import litscope.watch


class IrisDataModule(L.LightningDataModule):
    """150 flowers, a fifth of them held out, standardised."""

    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:  # noqa: ARG002
        iris = load_iris()
        order = torch.randperm(len(iris.target), generator=torch.Generator().manual_seed(0))
        x, y = torch.tensor(iris.data, dtype=torch.float32)[order], torch.tensor(iris.target)[order]
        x = (x - x[:120].mean(0)) / x[:120].std(0)
        names = [f"flower {i}" for i in order.tolist()]  # the same from run to run
        self.train = litscope.watch.with_ids(TensorDataset(x[:120], y[:120]), keys=names[:120])
        self.val = litscope.watch.with_ids(TensorDataset(x[120:], y[120:]), keys=names[120:])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val, self.batch_size)


class Iris(L.LightningModule):
    """A network with one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def _shown(self, batch: Any) -> dict[str, torch.Tensor]:
        x, y, ids = batch
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, y), "logits": logits, "label": y, "sample_id": ids}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        out = self._shown(batch)
        self.log("train_loss", out["loss"], on_step=False, on_epoch=True, sync_dist=True)
        return out

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        out = self._shown(batch)
        self.log("val_loss", out["loss"], sync_dist=True)
        self.log("val_acc", (out["logits"].argmax(1) == out["label"]).float().mean(), sync_dist=True)
        return out

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)


class PrintLoss(L.Callback):
    """Prints a line for each epoch."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        found = trainer.callback_metrics
        if trainer.is_global_zero:  # of several processes one prints
            print(f"epoch {trainer.current_epoch}: loss {found['train_loss']:.4f}, val_acc {found['val_acc']:.3f}")


class TimeEpochs(L.Callback):
    """Logs the seconds of each epoch like any metric: of several processes their mean."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        pl_module.log("epoch_s_by_callback", time.perf_counter() - self.began, sync_dist=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/iris_datamodule"))
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--num-nodes", type=int, default=1)
    parser.add_argument("--strategy", default="auto")
    options = parser.parse_args()
    L.seed_everything(1)
    scope = litscope.watch.Scope(options.run_dir, class_names=list(load_iris().target_names))
    trainer = L.Trainer(
        max_epochs=options.epochs,
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=options.strategy,
        logger=CSVLogger(options.run_dir / "logs"),
        callbacks=[PrintLoss(), TimeEpochs(), scope],
        enable_checkpointing=False,
        enable_progress_bar=False,
        log_every_n_steps=4,
    )
    trainer.fit(Iris(), datamodule=IrisDataModule())
    if trainer.is_global_zero:
        print(f"next: litscope worst {options.run_dir}")


if __name__ == "__main__":
    main()
