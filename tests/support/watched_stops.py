"""A person's own small trainings, watched, with checkpoints of their own from which they go on; for `stops`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from watched import BATCH, TRAIN, VAL, Module, trainer

from litscope import watch
from litscope.watch import Scope, with_ids

NUM_EPOCHS = 3
Net = nn.Sequential


def net() -> Net:
    """Without dropout: neither Lightning nor these loops keep the random state."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))


def train(folder: Path, door: str, **options: Any) -> None:
    """Train by one of the doors of `litscope.watch`, from the last checkpoint where there is one."""
    torch.use_deterministic_algorithms(True)
    {"scope": with_scope, "loop": by_hand}[door](folder, **options)


def with_scope(folder: Path, saves_in_validation: bool = False) -> None:
    """Lightning's Trainer, which saves at each epoch's end, or after each validation."""
    saves = ModelCheckpoint(folder / "own", save_last=True, save_on_train_epoch_end=not saves_in_validation)
    module = Module()
    module.net = net()
    parts = [DataLoader(with_ids(data), BATCH) for data in (TRAIN, VAL)]
    last = folder / "own" / "last.ckpt"
    fit = trainer(Scope(folder / "run"), saves, max_epochs=NUM_EPOCHS, enable_checkpointing=True)
    fit.fit(module, *parts, ckpt_path=str(last) if last.exists() else None, weights_only=False)


def by_hand(folder: Path, counts: bool = False) -> None:
    """A plain loop, which saves after each epoch, or within the loop of `run.epochs`."""
    model, path = net(), folder / "own.pt"
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    state: dict[str, Any] = torch.load(path) if path.exists() else {"step": 0, "epoch": 0}
    if path.exists():
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    step, first = state["step"], state["epoch"]
    with watch.run(
        folder / "run",
        dataset=TRAIN,
        val_dataset=VAL,
        optimizer=optimizer,
        start_step=step,
        start_epoch=first if counts else None,
    ) as run:

        def one_epoch() -> None:
            nonlocal step
            for x, y, ids in run.loader(batch_size=BATCH):
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.record(ids, logits, y, loss=loss)
                run.step()
                step += 1
            with run.evaluating("val"), torch.no_grad():
                for x, y, ids in run.loader("val", batch_size=BATCH):
                    run.record(ids, model(x), y)

        def save(epoch: int) -> None:
            run.flush()
            aside = path.with_suffix(".aside")
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "epoch": epoch}, aside
            )
            os.replace(aside, path)  # noqa: PTH105 - not one of the points

        if counts:
            for epoch in run.epochs(NUM_EPOCHS):
                one_epoch()
                save(epoch + 1)
        else:
            for epoch in range(first, NUM_EPOCHS):
                one_epoch()
                run.epoch_ends()
                save(epoch + 1)
