"""A callback in a module of its own, as other processes of a run need it."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as L


class StepCount(L.Callback):
    """Writes, for each process, how many optimizer steps it saw."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def on_before_zero_grad(self, *_: object) -> None:
        self.count += 1

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        (self.folder / f"steps{trainer.global_rank}").write_text(str(self.count))
