"""Checkpoint files, the best ones, and averaged weights."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from small_runs import DIGITS, IRIS, last, small_fit

from litscope.claims import held
from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError, RunError, Superseded
from litscope.live.records import epoch_rows
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir
from litscope.training.fit import fit
from litscope.training.loop.checkpoints import (
    AtomicCheckpointIO,
    Position,
    position_of,
    random_state,
    set_random_state,
    write_position,
)
from litscope.training.loop.ema import TRAINED_KEY


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in RunDir(run_dir).checkpoints.iterdir())


@pytest.mark.flag("save_top_k", "save_last", "monitor", "mode")
def test_the_best_k_and_the_last_are_kept(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", epochs=5, save_top_k=2, monitor="val/loss", mode="min")
    found = names(tmp_path / "run")
    assert found[-2:] == ["last.ckpt", "previous.ckpt"]
    assert found[0] == "best.ckpt"
    assert len(found) == 5
    by_loss = sorted(epoch_rows(result.run), key=lambda row: row["val/loss"])
    expected = sorted(f"epoch{row['epoch'] + 1:02d}-val_loss{row['val/loss']:.4f}.ckpt" for row in by_loss[:2])
    assert found[1:3] == expected
    assert result.summary["best_epoch"] == by_loss[0]["epoch"]
    assert Path(result.summary["checkpoints"]["best"]).name.startswith(f"epoch{by_loss[0]['epoch'] + 1:02d}-")


@pytest.mark.flag("save_top_k", "save_last")
def test_none_is_kept_when_none_is_wanted(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", IRIS, save_top_k=0, save_last=False)
    assert names(tmp_path / "run") == []
    assert result.summary["checkpoints"] == {"last": None, "best": None, "kept": []}


@pytest.mark.slow
@pytest.mark.flag("checkpoint_dir", "resume")
def test_checkpoints_may_lie_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    small_fit(tmp_path / "run", IRIS, checkpoint_dir=str(elsewhere))
    assert "last.ckpt" in {path.name for path in elsewhere.iterdir()}
    assert names(tmp_path / "run") == []
    assert fit(resume=str(tmp_path / "run"), epochs=5).summary["epochs"] == 5


def test_every_checkpoint_loads_without_running_code(tmp_path: Path) -> None:
    small_fit(tmp_path / "run", ema_decay=0.9, early_stopping=True, precision="bf16-mixed")
    for path in RunDir(tmp_path / "run").checkpoints.iterdir():
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["litscope"]["position"]["stage"] == "end"
        module = Classifier.load_from_checkpoint(path, map_location="cpu")
        assert module(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(3)}}, path)

    class Unwritable:
        def __reduce__(self) -> Any:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.zeros(3)}, "b": Unwritable()}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert load_checkpoint(path)["state_dict"]["a"].sum() == 3


def test_a_run_that_was_taken_over_while_a_checkpoint_was_written_keeps_its_own(tmp_path: Path) -> None:
    with held(RunDir(tmp_path)) as claim:
        checkpoints, path = AtomicCheckpointIO(), tmp_path / "checkpoints/last.ckpt"
        checkpoints.save_checkpoint({"state_dict": {"a": torch.ones(3)}}, path)
        checkpoints.guard = claim.check
        with held(RunDir(tmp_path)), pytest.raises(Superseded):
            checkpoints.save_checkpoint({"state_dict": {"a": torch.zeros(3)}}, path)
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    assert load_checkpoint(path)["state_dict"]["a"].sum() == 3


@pytest.mark.flag("checkpoint_every")
@pytest.mark.parametrize(
    ("steps_per_call", "every", "steps"), [(1, "4steps", [4, 6, 8, 12]), (64, "5 steps", [5, 6, 10, 12])]
)
def test_checkpoints_in_the_middle_of_epochs(
    steps_per_call: int, every: str, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a call takes several steps, which then ends there."""
    saved: list[int] = []
    write = AtomicCheckpointIO.save_checkpoint

    def noted(self: Any, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write(self, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt":
            saved.append(checkpoint["global_step"])

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", noted)
    small_fit(tmp_path / "run", checkpoint_every=every, steps_per_call=steps_per_call, limit_val_batches=0)
    assert saved == steps


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"checkpoint_every": "500"}, r"--checkpoint-every 500: .*\(15m, 90s, 1h\)\. 500steps, or 500m\?"),
        ({"checkpoint_every": "0steps"}, "it is a number of steps"),
        ({"checkpoint_every": "5m", "save_last": False}, "--no-save-last leaves last.ckpt out"),
    ],
)
def test_a_checkpoint_every_that_says_nothing_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_from_keywords(**flags)


def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 100_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr("litscope.models.checkpoint_parts.whole_file", lambda *_: Full())
    with pytest.raises(OSError, match=r"No space left on device: '.*last\.ckpt'"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.zeros(100_000)}}, tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"half a file", "cannot be read"), ("weights", "no 'state_dict'"), ("code", "cannot")],
)
def test_what_is_no_checkpoint_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    if content == "weights":
        torch.save({"conv.weight": torch.ones(1)}, path)
    elif content == "code":
        torch.save({"state_dict": {}, "path": Path("/")}, path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=message):
        load_checkpoint(path)


def test_the_random_state_is_put_back() -> None:
    import random

    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(()))]

    np.random.randn()  # numpy keeps the second number of each pair
    state = random_state()
    first = draw()
    set_random_state(state)
    assert draw() == first


def test_the_random_state_of_another_machine_s_gpu_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    put_back: list[torch.Tensor] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "set_rng_state", put_back.append)
    on_gpu = {**random_state(), "cuda": torch.zeros(16, dtype=torch.uint8)}
    first = torch.rand(())
    set_random_state(on_gpu)
    assert torch.rand(()) == first
    assert put_back == []


@pytest.mark.parametrize(
    ("state", "is_due", "expected"),
    [
        ((2, 3), False, ("mid", 2, 3, 2)),
        ((3, 0), True, ("validate", 3, 0, 2)),
        ((3, 0), False, ("end", 3, 0, 3)),
        ((2, 3), True, ("validate", 2, 3, 2)),
    ],
)
def test_positions(state: tuple[int, int], is_due: bool, expected: tuple[Any, ...]) -> None:
    position = position_of({"epoch": state[0], "batches_done": state[1]}, is_due)
    assert (position.stage, position.epoch, position.batches_done, position.epochs_done) == expected


@pytest.mark.parametrize(
    ("position", "num_stepped", "batches_done", "val_batches_begun"),
    [(Position("mid", 2, 3), 23, 3, 0), (Position("validate", 3, 0), 22, 10, 1), (Position("end", 2, 0), 23, 0, 0)],
)
def test_a_position_in_lightning_s_own_counters(
    position: Position, num_stepped: int, batches_done: int, val_batches_begun: int
) -> None:
    """`_batches_that_stepped` is the x axis of the loggers: Lightning counts a validated epoch's last step later."""
    loops: dict[str, Any] = {
        "state_dict": {"combined_loader": {}},
        "epoch_loop.batch_progress": {"total": {"ready": 23}},
        "epoch_loop.state_dict": {"_batches_that_stepped": 0},
    }
    write_position({"loops": {"fit_loop": loops}}, position, global_step=23, num_batches=10)
    assert loops["epoch_loop.state_dict"] == {"_batches_that_stepped": num_stepped}
    assert loops["epoch_loop.batch_progress"]["current"]["completed"] == batches_done
    assert loops["epoch_loop.batch_progress"]["is_last_batch"] == bool(val_batches_begun)
    assert loops["epoch_loop.val_loop.batch_progress"]["total"]["started"] == val_batches_begun
    assert loops["epoch_progress"]["current"]["started"] == 2 + (position.stage != "end")
    assert loops["epoch_progress"]["current"]["completed"] == 2
    assert loops["state_dict"] == {}


@pytest.mark.flag("early_stopping", "patience", "min_delta")
def test_early_stopping(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", epochs=30, patience=2, min_delta=0.9, monitor="val/accuracy")
    assert result.summary["epochs"] == 3, "the first epoch sets the mark; two without improvement end the run"
    again = fit(resume=str(tmp_path / "run"), patience=3)
    assert again.summary["epochs"] == 4


@pytest.mark.flag("monitor")
@pytest.mark.parametrize("monitor", ["val/acuracy", "test/accuracy", "loss"])
def test_an_unknown_monitor_is_refused_before_training(monitor: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="monitor"):
        small_fit(tmp_path / "run", monitor=monitor)
    assert not (tmp_path / "run").exists()


def test_a_validation_monitor_needs_validation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no validation"):
        small_fit(tmp_path / "run", monitor="val/accuracy", val_split=0.0)
    assert not (tmp_path / "run").exists()


@pytest.mark.flag("ema_decay")
def test_averaged_weights_follow_the_formula_and_are_what_is_validated(tmp_path: Path) -> None:
    class Follow(L.Callback):
        def __init__(self) -> None:
            self.average: dict[str, torch.Tensor] = {}
            self.seen_in_validation: dict[str, torch.Tensor] = {}

        def on_train_start(self, _: L.Trainer, module: L.LightningModule) -> None:
            self.average = {k: v.clone() for k, v in module.state_dict().items()}

        def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
            decay = min(0.9, (1 + trainer.global_step) / (10 + trainer.global_step))
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    self.average[name] = decay * self.average[name] + (1 - decay) * value
                else:
                    self.average[name] = value.clone()

        def on_validation_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
            self.seen_in_validation = {k: v.clone() for k, v in module.state_dict().items()}

    follow = Follow()
    small_fit(tmp_path / "run", ema_decay=0.9, callbacks=[follow])
    saved = last(tmp_path / "run")
    for name, value in follow.average.items():
        torch.testing.assert_close(saved["state_dict"][name], value, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(follow.seen_in_validation[name], value, rtol=1e-4, atol=1e-6)
    small_fit(tmp_path / "without")
    for name, value in last(tmp_path / "without")["state_dict"].items():
        assert torch.equal(saved[TRAINED_KEY][name], value), "the training itself is not touched"


@pytest.mark.slow
def test_averaging_may_begin_with_a_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_fit(tmp_path / "run", DIGITS)
    result = fit(resume=str(tmp_path / "run"), epochs=3, ema_decay=0.9)
    assert "holds no averaged weights" in capsys.readouterr().err
    assert TRAINED_KEY in last(result.run.path)
