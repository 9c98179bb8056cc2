"""CIFAR-10 with a ResNet in Lightning, with checkpoints by val_acc, LearningRateMonitor and TensorBoard; Scope watches.

    python examples/cifar10_resnet.py --data ../shared/data/cifar10        # train|test/<class>/*.jpg
    python examples/cifar10_resnet.py --data data --download
    litscope suspects runs/cifar10_resnet

litscope's part: `with_ids`, `Scope`, and the dict that the steps return. TensorBoard comes with
`pip install 'litscope[tensorboard]'`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, models, transforms

import litscope.watch

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


class CIFAR10DataModule(L.LightningDataModule):
    """Training, validation (a tenth of the training images) and test.

    Args:
        folder: where the images are, or where to download them.
        download: use torchvision's CIFAR10 instead of a folder of images.
    """

    def __init__(self, folder: Path, download: bool = False, batch_size: int = 128, num_workers: int = 2) -> None:
        super().__init__()
        self.folder, self.download = folder, download
        self.options = {"batch_size": batch_size, "num_workers": num_workers, "persistent_workers": num_workers > 0}

    def prepare_data(self) -> None:
        if self.download:
            datasets.CIFAR10(str(self.folder), download=True)

    def setup(self, stage: str) -> None:  # noqa: ARG002
        plain = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        changed = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *plain]
        augmented, clean = self._images("train", changed), self._images("train", plain)
        order = torch.randperm(len(clean), generator=torch.Generator().manual_seed(0)).tolist()
        cut = len(order) // 10
        self.val = litscope.watch.with_ids(Subset(clean, order[:cut]))
        self.train = litscope.watch.with_ids(Subset(augmented, order[cut:]))
        self.test = litscope.watch.with_ids(self._images("test", plain))

    def _images(self, split: str, steps: list[Any]) -> Any:
        transform = transforms.Compose(steps)
        if self.download:
            return datasets.CIFAR10(str(self.folder), train=split == "train", transform=transform)
        return datasets.ImageFolder(str(self.folder / split), transform)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, shuffle=True, drop_last=True, **self.options)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val, **self.options)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.test, **self.options)


class ResNet(L.LightningModule):
    """ResNet-18 with a stem for small images."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = models.resnet18(num_classes=10)
        self.net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.net.maxpool = nn.Identity()

    def _shown(self, batch: Any, name: str) -> dict[str, torch.Tensor]:
        x, y, ids = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.log(f"{name}_loss", loss)
        self.log(f"{name}_acc", (logits.argmax(1) == y).float().mean(), prog_bar=True)
        return {"loss": loss, "logits": logits, "label": y, "sample_id": ids}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return self._shown(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return self._shown(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return self._shown(batch, "test")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9, weight_decay=5e-4)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--limit-batches", type=int, help="a short trial")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/cifar10_resnet"))
    options = parser.parse_args()
    L.seed_everything(1, workers=True)
    best = ModelCheckpoint(options.run_dir / "checkpoints", "{epoch}-{val_acc:.3f}", monitor="val_acc", mode="max")
    limits = dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), options.limit_batches)
    trainer = L.Trainer(
        max_epochs=options.epochs,
        logger=TensorBoardLogger(options.run_dir / "logs", name=None),
        callbacks=[best, LearningRateMonitor("step"), litscope.watch.Scope(options.run_dir)],
        log_every_n_steps=10,
        enable_progress_bar=False,
        **limits,
    )
    data = CIFAR10DataModule(options.data, options.download, options.batch_size)
    module = ResNet()
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data)
    print(f"best: {best.best_model_path}\nnext: litscope suspects {options.run_dir}")


if __name__ == "__main__":
    main()
