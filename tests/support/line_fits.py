"""A small fit of Lightning: a line through ones, with loaders of as many batches as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from litscope import lightning_internals as internals

NUM_BATCHES = 4


class Loader:
    """`num_batches` of two rows; in stacks of `stack` batches, if asked for."""

    def __init__(self, num_batches: int = NUM_BATCHES, stack: int = 0) -> None:
        self.num_batches, self.stack = num_batches, stack

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Tensor]:
        if self.stack:
            yield from (torch.ones(self.stack, 2, 3) for _ in range(self.num_batches // self.stack))
        else:
            yield from (torch.ones(2, 3) for _ in range(self.num_batches))


class Module(L.LightningModule):
    """Fits a line, and notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.batches: list[tuple[int, int]] = []
        self.validated: list[int] = []
        self.steps_begun: list[int] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.batches.append((self.current_epoch, batch_idx))
        self.steps_begun.append(internals.steps_begun(self.trainer))
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validated.append(self.global_step)
        self.log("loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Data(L.LightningDataModule):
    """Loaders of as many batches as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.num_train, self.num_val = NUM_BATCHES, 1

    def train_dataloader(self) -> Loader:
        return Loader(self.num_train)

    def val_dataloader(self) -> Loader:
        return Loader(self.num_val)


def make_trainer(*callbacks: L.Callback, **arguments: Any) -> L.Trainer:
    defaults: dict[str, Any] = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    has_files = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    return L.Trainer(**{**defaults, **quiet, "enable_checkpointing": has_files, **arguments}, callbacks=list(callbacks))


def fit(trainer: L.Trainer, **arguments: Any) -> tuple[Module, Data]:
    module, data = Module(), Data()
    trainer.fit(module, datamodule=data, **arguments)
    return module, data
