"""A watched script whose run another process has taken over ends, and leaves the folder as that process finds it."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from watched import BATCH, TRAIN, scoped_fit

from litscope.claims import held
from litscope.errors import Superseded
from litscope.rundir import RunDir
from litscope.watch import run


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".tmp")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class TakenOver(L.Callback):
    """After a step another process begins to train in the folder."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step
        self.found: dict[str, bytes] = {}

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step and not self.found:
            with held(RunDir(self.folder)):
                self.found = content(self.folder)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning")
def test_a_module_of_ones_own_writes_nothing_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No row, no step's line, no epoch's, no checkpoint, no scores, no manifest, no summary."""
    folder = tmp_path / "run"
    taken = TakenOver(folder, 13)
    saves = ModelCheckpoint(tmp_path / "own", save_top_k=-1)
    with pytest.raises(Superseded, match=r"is trained by another process .*has written nothing since"):
        scoped_fit(folder, taken, saves, enable_checkpointing=True)
    assert taken.found
    assert content(folder) == taken.found
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["epoch=0-step=10.ckpt"]
    assert "could not be closed" not in capsys.readouterr().err


@pytest.mark.parametrize("names", [False, True])
def test_a_loop_of_ones_own_writes_nothing_more(tmp_path: Path, names: bool) -> None:
    """Its rows go no further than its thread, nor do the ids that it gives to samples of the person's own."""
    folder = tmp_path / "run"

    def shown(step: int) -> list[str] | list[int]:
        return [f"s{step * BATCH + i}" if names else step * BATCH + i for i in range(BATCH)]

    found: dict[str, bytes] = {}

    def train() -> None:
        with run(folder, dataset=None if names else TRAIN) as watched:
            watched.record(shown(0), torch.zeros(BATCH, 3), [0] * BATCH)
            with held(RunDir(folder)):
                found.update(content(folder))
            for step in range(1, 4):
                watched.record(shown(step), torch.zeros(BATCH, 3), [0] * BATCH)
                watched.step()

    with pytest.raises(Superseded):
        train()
    assert content(folder) == found
