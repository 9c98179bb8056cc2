"""Exercise 4: put every sample on record with Scope, and find the labels that somebody got wrong.

Of 1,500 digits 20 have a wrong label: it is planted here, so you can check. The run's folder is one of its own below
--runs. It ends with "right", or with what is not right yet.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import litscope
from litscope.watch import Scope, with_ids


def digits() -> tuple[TensorDataset, TensorDataset, set[int]]:
    """1,497 digits to train on, 300 to validate with, and which of the first have a wrong label."""
    found = load_digits()
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(len(found.target), generator=draw)
    x, y = torch.tensor(found.data, dtype=torch.float32)[order] / 16, torch.tensor(found.target)[order]
    wrong = torch.randperm(len(y) - 300, generator=draw)[:20]
    labels = y[300:].clone()
    labels[wrong] = (labels[wrong] + 1 + torch.randint(0, 9, (20,), generator=draw)) % 10
    return TensorDataset(x[300:], labels), TensorDataset(x[:300], y[:300]), set(wrong.tolist())


def watched(data: TensorDataset) -> Dataset[Any]:
    """The data set, each of whose samples has an id."""
    # Yours (4a): with_ids around the data set. Its items are then (x, y, sample_id).
    raise NotImplementedError("4a is yours to write")


class Digits(L.LightningModule):
    """One hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        # Yours (4b): a dict with loss, logits, label and sample_id. Lightning looks at the loss, Scope at the others.
        raise NotImplementedError("4b is yours to write")

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return self.training_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def callbacks(run_dir: Path) -> list[Any]:
    """The callbacks of the Trainer."""
    # Yours (4c): Scope, with the run's folder.
    raise NotImplementedError("4c is yours to write")


def suspected(run_dir: Path) -> list[str]:
    """The keys of the 40 training samples whose label is most suspicious. A key is like train/00017."""
    # Yours (4d): open the run with litscope.open_run and ask it for its suspects; .column("key").to_pylist() are the
    # keys.
    raise NotImplementedError("4d is yours to write")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    runs = parser.parse_args(words).runs
    run_dir = next(folder for number in range(1, 1000) if not (folder := runs / f"exercise-4-{number}").exists())
    L.seed_everything(1)
    train, val, wrong = digits()
    trainer = L.Trainer(
        max_epochs=6,
        accelerator="cpu",
        callbacks=callbacks(run_dir),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(), DataLoader(watched(train), 64, shuffle=True), DataLoader(watched(val), 300))
    right(run_dir.is_dir(), f"the run lies in {run_dir} (4c)")
    first = [int(key.rpartition("/")[2]) for key in suspected(run_dir)]
    found = len(wrong & set(first))
    right(len(first) == 40, f"40 samples are asked for, here {len(first)} (4d)")
    right(found >= 14, f"most of the planted labels are among the first 40, here {found} of 20 (4b)")
    print(f"right: {found} of the 20 wrong labels are among the first 40; now try: litscope suspects {run_dir}")


def right(is_so: Any, what: str) -> None:
    """End with what is not right yet."""
    if not is_so:
        raise SystemExit(f"not yet: {what}")


if __name__ == "__main__":
    main()
