"""Epochs of a watched run whose script was stopped beside a checkpoint: each has the line that it would have had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F
from torch.utils.data import DataLoader
from watched import BATCH, NUM_TRAIN, TRAIN, VAL, Module, ends, trainer
from watched_stops import net

from litscope.live.records import COLUMNS, epoch_rows
from litscope.rundir import RunDir, read_lines
from litscope.watch import Scope, run, session, with_ids

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended"),
]

Saves = Callable[[Path], L.Callback]
NUM_EPOCHS = 2
TIMES = ("epoch_s", "samples_per_s", "attempt")


class Numbers(Module):
    """Logs a loss of training and one of validation for each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        out = self.shown(batch)
        self.log("val_loss", out["loss"])
        return out


class Dies:
    """Leaves, as Lightning does on SIGTERM, when the function has been called so often."""

    def __init__(self, function: Callable[..., Any], count: int) -> None:
        self.function, self.count = function, count

    def __call__(self, *arguments: Any) -> None:
        self.function(*arguments)
        self.count -= 1
        if self.count == 0:
            raise SystemExit


class SavesFirst(L.Callback):
    """Saves at an epoch's end, before `Scope` has heard of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint(self.path / "last.ckpt")


def in_validation(path: Path) -> L.Callback:
    return ModelCheckpoint(path, save_last=True, save_on_train_epoch_end=False)


def at_the_end(path: Path) -> L.Callback:
    return ModelCheckpoint(path, save_last=True, save_on_train_epoch_end=True)


def in_the_epoch(path: Path) -> L.Callback:
    return ModelCheckpoint(path, save_last=True, every_n_train_steps=4, save_on_train_epoch_end=False)


def fit(folder: Path, saves: L.Callback, max_epochs: int = NUM_EPOCHS) -> None:
    parts = [DataLoader(with_ids(data), BATCH) for data in (TRAIN, VAL)]
    callbacks = (saves, Scope(folder / "run")) if isinstance(saves, SavesFirst) else (Scope(folder / "run"), saves)
    last = folder / "own" / "last.ckpt"
    has_own = isinstance(
        saves, ModelCheckpoint
    )  # else Lightning would add one, which writes into the working directory
    trainer(*callbacks, max_epochs=max_epochs, enable_checkpointing=has_own).fit(
        Numbers(), *parts, ckpt_path=last if last.exists() else None, weights_only=False
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    """Without times; metrics rounded."""
    found = [{name: value for name, value in row.items() if name not in TIMES} for row in epoch_rows(RunDir(folder))]
    return [{name: value if name in COLUMNS else round(value, 5) for name, value in row.items()} for row in found]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("saves", "hook", "count"),
    [
        (in_validation, "on_validation_end", 2),  # the sanity check is the first
        (in_validation, "on_validation_end", 3),
        (SavesFirst, "on_train_epoch_end", 1),
        (SavesFirst, "on_train_epoch_end", 2),
        (at_the_end, "on_train_epoch_end", 1),
        (at_the_end, "on_train_epoch_end", 2),
    ],
)
def test_a_fit_that_is_stopped_beside_a_checkpoint(saves: Saves, hook: str, count: int, tmp_path: Path) -> None:
    fit(tmp_path / "whole", saves(tmp_path / "whole" / "own"))
    dying = saves(tmp_path / "own")
    setattr(dying, hook, Dies(getattr(dying, hook), count))
    with pytest.raises(SystemExit):
        fit(tmp_path, dying)
    assert ends(tmp_path / "run")["status"] == "interrupted"
    fit(tmp_path, saves(tmp_path / "own"))
    assert ends(tmp_path / "run")["status"] == "finished"
    assert lines(tmp_path / "run") == lines(tmp_path / "whole" / "run")
    rates = [row["samples_per_s"] for row in epoch_rows(RunDir(tmp_path / "run"))]
    assert all(0 < rate < 1e6 for rate in rates)


def test_an_epoch_that_was_cut_in_two_tells_all_its_samples(tmp_path: Path) -> None:
    """Its metrics are others, for Lightning begins with the loader's first batches again."""
    dying = in_the_epoch(tmp_path / "own")
    setattr(dying, "on_train_batch_end", Dies(dying.on_train_batch_end, 17))  # noqa: B010 - of a method
    with pytest.raises(SystemExit):
        fit(tmp_path, dying)
    fit(tmp_path, in_the_epoch(tmp_path / "own"))
    assert [(row["step"], row["num_samples"]) for row in lines(tmp_path / "run")] == [(10, NUM_TRAIN), (20, NUM_TRAIN)]


def test_a_fit_with_nothing_left_leaves_a_run_that_has_finished_or_gone_further(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    fit(tmp_path, at_the_end(tmp_path / "own"))
    fit(tmp_path, at_the_end(tmp_path / "own"))
    assert len(read_lines(run_dir.attempts)) == 1
    run_dir.summary.unlink()
    first = next((tmp_path / "own").glob("epoch=1*"))
    first.replace(tmp_path / "own" / "last.ckpt")
    with run_dir.epoch_metrics.open("a") as file:
        file.write('{"epoch": 2, "step": 30, "attempt": 1}\n')
    fit(tmp_path, at_the_end(tmp_path / "own"))
    assert len(read_lines(run_dir.attempts)) == 1
    assert not run_dir.summary.exists()


def test_a_watched_run_says_last_that_it_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds it need not look for what a signal left out."""
    close, found = session.Upkeep.close, []

    def look(self: Any, is_over: bool) -> None:
        close(self, is_over)
        found.append((tmp_path / "run" / "summary.json").exists())

    monkeypatch.setattr(session.Upkeep, "close", look)
    with run(tmp_path / "run", dataset=TRAIN) as watched:
        watched.record([1, 2], torch.zeros(2, 3), [0, 1])
    assert found == [False]
    assert ends(tmp_path / "run")["status"] == "finished"


def loop(folder: Path, dies_in: int | None = None) -> None:
    """Saves at the end of the body of `run.epochs`, which is where it may die."""
    model, path = net(), folder / "own.pt"
    state: dict[str, Any] = torch.load(path) if path.exists() else {"model": model.state_dict(), "step": 0, "epoch": 0}
    model.load_state_dict(state["model"])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step = state["step"]
    start = {"start_step": step, "start_epoch": state["epoch"]}
    with run(folder / "run", dataset=TRAIN, optimizer=optimizer, **start) as watched:
        for epoch in watched.epochs(NUM_EPOCHS):
            for x, y, ids in watched.loader(batch_size=BATCH):
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.record(ids, logits, y, loss=loss)
                watched.step()
                step += 1
            watched.log({"last_loss": float(loss.detach()), "undefined": float("nan")})
            watched.flush()
            torch.save({"model": model.state_dict(), "step": step, "epoch": epoch + 1}, path)
            if epoch == dies_in:
                raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", range(NUM_EPOCHS))
def test_a_loop_that_is_stopped_behind_the_checkpoint_of_its_body(epoch: int, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    loop(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path, dies_in=epoch)
    assert [row["epoch"] for row in lines_as_written(tmp_path)] == list(range(epoch))
    loop(tmp_path)
    ours, theirs = lines_as_written(tmp_path), lines_as_written(tmp_path / "whole")
    assert ours == theirs
    assert [row["num_samples"] for row in ours] == [NUM_TRAIN] * NUM_EPOCHS


def lines_as_written(folder: Path) -> list[dict[str, Any]]:
    found = epoch_rows(RunDir(folder / "run"))
    return [{name: value for name, value in row.items() if name not in TIMES} for row in found]
