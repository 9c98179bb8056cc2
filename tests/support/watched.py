"""A small training of somebody else: a LightningModule, its data, and ways to look at what was recorded of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from litscope import RunDir
from litscope.ledger.journal.actions import entries, request, submit
from litscope.ledger.views import sql
from litscope.live import steering
from litscope.watch import Scope, with_ids

NUM_TRAIN, NUM_VAL, BATCH = 100, 30, 10


def numbers(count: int, seed: int) -> TensorDataset:
    """Rows of 4 numbers; the class is which of the first three is the greatest."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x[:, :3].argmax(1))


TRAIN, VAL = numbers(NUM_TRAIN, 0), numbers(NUM_VAL, 1)


def network() -> nn.Sequential:
    """The same weights each time; it has dropout, so that a random number too many shows."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


class Module(L.LightningModule):
    """Returns what Scope wants; batches are (x, y) or (x, y, id).

    Args:
        step: instead of the usual one: (module, batch) -> what the step returns.
    """

    def __init__(self, step: Callable[[Any, Any], Any] | None = None) -> None:
        super().__init__()
        self.net = network()
        self.step = step
        self.rates: list[float] = []

    def shown(self, batch: Any) -> Any:
        if self.step is not None:
            return self.step(self, batch)
        x, y, *ids = batch
        logits = self.net(x)
        found = {"loss": F.cross_entropy(logits, y), "logits": logits, "label": y}
        return {**found, "sample_id": ids[0]} if ids else found

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        out = self.shown(batch)
        self.log("train_loss", out["loss"] if isinstance(out, dict) else out)
        return out

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self.shown(batch)

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return self.shown(batch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
        optimizer.register_step_pre_hook(lambda one, *_: self.rates.append(one.param_groups[0]["lr"]))
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def loaders(watched: bool = True, **options: Any) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """The loaders of training and validation."""
    train, val = (with_ids(data) if watched else data for data in (TRAIN, VAL))
    return DataLoader(train, BATCH, shuffle=True, **options), DataLoader(val, BATCH, **options)


def trainer(*callbacks: Any, tree: Any = L, **options: Any) -> Any:
    """A quiet trainer on the CPU."""
    return tree.Trainer(
        **{
            "max_epochs": 3,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": list(callbacks),
            **options,
        }
    )


def weights(module: nn.Module) -> Tensor:
    """All parameters, flat."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


class Asks:
    """What a callback of a test writes into the journal: step -> the request's verb and arguments."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, wishes: dict[int, tuple[str, dict[str, Any]]]
    ) -> None:
        monkeypatch.setattr(steering, "POLL_S", 0.0)  # else a short run ends before it looks
        self.folder, self.wishes = folder, wishes

    def at(self, step: int) -> None:
        """Ask for what is wished after `step` steps."""
        if step in self.wishes:
            what, arguments = self.wishes.pop(step)
            submit(RunDir(self.folder), request(what, **arguments))


class Asking(L.Callback):
    """Asks at a step's start, so before the watching callback looks at its end."""

    def __init__(self, asks: Asks) -> None:
        self.asks = asks

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.asks.at(trainer.global_step)


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """The answer of `litscope sql`."""
    table = sql(RunDir.open(folder), query)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def visits(folder: Path) -> dict[tuple[int, str, str], tuple[int, int]]:
    """(epoch, split, phase) -> rows, and distinct samples among them."""
    query = "select epoch, split, phase, count(*), count(distinct sample_id) from signals group by all"
    return {(epoch, split, phase): (n, distinct) for epoch, split, phase, n, distinct in rows(folder, query)}


def answers(folder: Path) -> list[tuple[str, str, str]]:
    """What was asked, its status, and the reason or note of the answer."""
    found = entries(RunDir(folder))
    return [
        (e.action["what"], e.status, (e.answer or {}).get("reason") or (e.answer or {}).get("note") or "")
        for e in found
    ]


def scoped_fit(
    folder: Path, *callbacks: Any, module: Module | None = None, workers: Any = None, **options: Any
) -> Module:
    """Fit under a `Scope`, from the same weights and order each time."""
    module = module or Module()
    torch.manual_seed(3)
    trainer(Scope(folder), *callbacks, **options).fit(module, *loaders(**(workers or {})))
    return module


def ends(folder: Path) -> dict[str, Any]:
    """What the run's summary says."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found
