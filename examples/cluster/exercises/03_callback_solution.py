"""Exercise 3: a callback that says of each epoch how long it took, and how much of that it waited for data.

A device that waits for data is one you pay for and do not use. The callback measures it in a training whose data set
is slow on purpose. It ends with "right", or with what is not right yet.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class EpochTimes(L.Callback):
    """Appends a line to a file after each epoch: `epoch`, `train_s` and `wait_s`, the seconds it waited."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        # Yours (3a): note the time, and that nothing was waited for yet. Waiting begins now: the next hook that is
        # called is on_train_batch_start, when the first batch is there. time.perf_counter() is the clock for this.
        self.began = self.waits_since = time.perf_counter()
        self.wait_s = 0.0
        # End (3a)

    def on_train_batch_start(self, *_: Any) -> None:
        # Yours (3b): a batch has come. Add up how long it was waited for.
        self.wait_s += time.perf_counter() - self.waits_since
        # End (3b)

    def on_train_batch_end(self, *_: Any) -> None:
        # Yours (3c): the batch is done, and waiting begins again.
        self.waits_since = time.perf_counter()
        # End (3c)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        # Yours (3d): append a line of JSON to self.file. On several devices only the process with rank 0 writes
        # (trainer.is_global_zero): two that write into one file at once spoil it.
        if trainer.is_global_zero:
            line = {"epoch": trainer.current_epoch, "train_s": time.perf_counter() - self.began, "wait_s": self.wait_s}
            with self.file.open("a") as lines:
                lines.write(json.dumps(line) + "\n")
        # End (3d)


class Numbers(Dataset[tuple[Tensor, Tensor]]):
    """160 rows; each takes `delay` seconds to read, as from a slow disk."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.x = torch.randn(160, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        time.sleep(self.delay)
        return self.x[index], (self.x[index].sum() > 0).long()


class Net(L.LightningModule):
    """A small network; what it learns does not matter here."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def measured(file: Path, delay: float) -> list[dict[str, float]]:
    """The lines of two epochs."""
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[EpochTimes(file)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(), DataLoader(Numbers(delay), batch_size=16))
    right(file.exists(), f"{file.name} is written (3d)")
    return [json.loads(line) for line in file.read_text().splitlines()]


def main() -> None:
    with TemporaryDirectory() as folder:
        slow, fast = measured(Path(folder) / "slow.jsonl", 0.005), measured(Path(folder) / "fast.jsonl", 0.0)
    right([line["epoch"] for line in slow] == [0, 1], "there is a line for each of the two epochs (3d)")
    for line in slow:
        right(
            0.8 <= line["wait_s"] <= line["train_s"],
            f"160 rows of 5 ms are waited for, not {line['wait_s']:.2f} s (3a, 3b, 3c)",
        )
    share, other = (
        sum(one["wait_s"] for one in lines) / sum(one["train_s"] for one in lines) for lines in (slow, fast)
    )
    right(other < share, "who has the data at hand waits less (3a, 3b, 3c)")
    print(f"right: the slow data are waited for {share:.0%} of the time, the fast ones {other:.0%}")


def right(is_so: Any, what: str) -> None:
    """End with what is not right yet."""
    if not is_so:
        raise SystemExit(f"not yet: {what}")


if __name__ == "__main__":
    main()
