"""A checkpoint with a flipped bit is found by whoever reads it, and a run goes on from the one before."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from flips import flip
from forked import Forked, finished
from small_runs import IRIS, assert_bit_equal, last, rows, small_fit

from litscope import rundir
from litscope.config.flags import recipe_from_keywords
from litscope.config.resume import resolve_resume
from litscope.errors import ModelError, RunError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.trained import load_network
from litscope.experiments.replay import replay
from litscope.live.records import epoch_rows
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.networks.weights import read_weights
from litscope.models.predictor import Predictor
from litscope.rundir import RunDir, read_lines
from litscope.seals import why_damaged
from litscope.training.fit import fit
from litscope.training.loop.checkpoints import AtomicCheckpointIO, steering_state


@pytest.fixture
def run(plain_run: Path, tmp_path: Path) -> RunDir:
    """A finished run of two epochs, of 6 steps each."""
    return RunDir(shutil.copytree(plain_run, tmp_path / "run"))


def damage(path: Path) -> None:
    """Flip a bit in the middle, where the weights are, and only in the file of this name."""
    flip(path, 4 * path.stat().st_size)


def commands(message: str) -> list[str]:
    """What a message advises after --resume."""
    return re.findall(r"--resume (\S+?)[,.]?(?:\s|$)", message)


def test_all_that_is_written_is_sealed(run: RunDir) -> None:
    found = sorted(run.checkpoints.iterdir())
    assert {"best.ckpt", "last.ckpt", "previous.ckpt"} <= {path.name for path in found}
    for path in found:
        assert b"litscope-crc32-" in path.read_bytes()[-60:], path
        assert why_damaged(path) is None


def test_the_one_before_the_last_is_kept(run: RunDir) -> None:
    steps = [load_checkpoint(path)["global_step"] for path in (run.previous_checkpoint, run.last_checkpoint)]
    assert steps == [6, 12]


READERS: dict[str, tuple[Callable[[Path], Any], type[Exception]]] = {
    "load_checkpoint": (load_checkpoint, RunError),
    "a look": (lambda path: load_checkpoint(path, mmap=True), RunError),
    "steering": (steering_state, RunError),
    "evaluate and predict": (lambda path: load_network(path, Predictor), RunError),
    "Lightning": (AtomicCheckpointIO().load_checkpoint, RunError),
    "--weights": (read_weights, ModelError),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "epoch"])
def test_every_reader_finds_it(reader: str, name: str, run: RunDir) -> None:
    path = next(run.checkpoints.glob(f"{name}*"))
    read, error = READERS[reader]
    read(path)
    damage(path)
    with pytest.raises(error, match="its bytes are not those that were written"):
        read(path)


def test_commands_refuse_it_and_name_the_whole_ones(run: RunDir) -> None:
    damage(run.last_checkpoint)
    for ask in (lambda: evaluate(run.path, checkpoint="last"), lambda: replay(run)):
        with pytest.raises(RunError, match=r"last\.ckpt is damaged: its bytes .* Whole, beside it: .*previous\.ckpt"):
            ask()
    assert evaluate(run.path, split="val", checkpoint=str(run.previous_checkpoint))["metrics"]


def test_a_run_goes_on_from_the_one_before_and_says_so(
    run: RunDir, plain_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run.last_checkpoint)
    fit(resume=str(run.path))
    said = capsys.readouterr().err
    assert f"{run.last_checkpoint} is damaged (its bytes are not those that were written)" in said
    assert f"the run goes on from the one before, {run.previous_checkpoint}" in said
    assert said.count("is damaged") == 1
    assert [line["start_step"] for line in read_lines(run.attempts)] == [0, 6]
    assert_bit_equal(last(run.path), last(plain_run), "state_dict", "optimizer_states", "litscope")
    assert rows(run.path).equals(rows(plain_run))


def test_a_last_one_that_is_gone_is_as_a_damaged_one(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run.last_checkpoint.unlink()
    fit(resume=str(run.path))
    assert "has no last checkpoint: the run goes on from the one before" in capsys.readouterr().err
    assert why_damaged(run.last_checkpoint) is None


@pytest.mark.thorough
@pytest.mark.parametrize("advice", [0, 1])
def test_where_both_are_damaged_the_message_leads_on(advice: int, run: RunDir, plain_run: Path) -> None:
    damage(run.last_checkpoint)
    damage(run.previous_checkpoint)
    with pytest.raises(RunError, match=r"last\.ckpt is damaged .*, and so is .*previous\.ckpt\.") as caught:
        fit(resume=str(run.path))
    advised = commands(str(caught.value))
    assert advised[1] == str(run.path)
    if advice == 1:
        for path in run.checkpoints.glob("*.ckpt"):
            path.unlink()
    fit(resume=advised[advice])
    assert_bit_equal(last(run.path), last(plain_run))
    assert rows(run.path).equals(rows(plain_run))


def test_one_damaged_last_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    run = small_fit(tmp_path / "run", IRIS, epochs=1, save_top_k=0).run
    damage(run.last_checkpoint)
    with pytest.raises(RunError, match=r"To begin again at step 0, remove all \.ckpt files in") as caught:
        fit(resume=str(run.path))
    run.last_checkpoint.unlink()
    assert fit(resume=commands(str(caught.value))[0]).summary["status"] == "finished"


@pytest.mark.slow
def test_a_damaged_best_one_does_not_undo_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Damage(L.Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            damage(next((tmp_path / "run" / "checkpoints").glob("epoch*.ckpt")))

    result = small_fit(tmp_path / "run", IRIS, callbacks=[Damage()])
    assert result.summary["status"] == "finished"
    assert result.summary["checkpoints"]["best"] is None
    said = capsys.readouterr().err
    assert "is damaged" in said
    assert f"litscope evaluate {tmp_path / 'run'} --checkpoint last" in said
    assert evaluate(tmp_path / "run", split="val", checkpoint="last")["metrics"]


@pytest.mark.slow
def test_a_checkpoint_without_a_seal_is_taken_as_before(run: RunDir) -> None:
    for path in (run.last_checkpoint, run.previous_checkpoint):
        torch.save(torch.load(path, weights_only=True), path)
    assert b"litscope-crc32" not in run.last_checkpoint.read_bytes()
    assert fit(resume=str(run.path), epochs=3).summary["epochs"] == 3


# ---- what stands beside a last checkpoint --------------------------------------------------------


@pytest.mark.slow
def test_going_on_from_an_earlier_one_gives_up_what_came_after(run: RunDir) -> None:
    """Else a crash before the next save would leave a last checkpoint beyond rows that no longer hold."""
    early = next(path for path in run.checkpoints.glob("*.ckpt") if load_checkpoint(path)["global_step"] == 6)

    class Crash(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            raise OSError("the machine went away")

    with pytest.raises(OSError, match="went away"):
        fit(resume=str(early), callbacks=[Crash()])
    assert load_checkpoint(run.last_checkpoint)["global_step"] == 6
    assert not run.previous_checkpoint.exists() or early.samefile(run.previous_checkpoint)
    fit(resume=str(run.path))
    assert [line["start_step"] for line in read_lines(run.attempts)] == [0, 6, 6]
    assert len(epoch_rows(run)) == 2
    assert rows(run.path, split="train").num_rows == 2 * 6 * 32


def _save_and_die(folder: Path, before: bool) -> None:
    keep = rundir._keep

    def deadly(path: Path, former: Path) -> None:
        if not before:
            keep(path, former)
        os.kill(os.getpid(), signal.SIGKILL)

    rundir._keep = deadly
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "n": 3}, folder / "last.ckpt")


@pytest.mark.parametrize("before", [False, True])
def test_killed_while_the_last_one_is_replaced(before: bool, tmp_path: Path) -> None:
    for n in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "n": n}, tmp_path / "last.ckpt")
    assert finished(Forked(_save_and_die, tmp_path, before)).returncode == -signal.SIGKILL
    found = {name: load_checkpoint(tmp_path / f"{name}.ckpt")["n"] for name in ("last", "previous")}
    assert found == {"last": 2, "previous": 1 if before else 2}


def test_without_hard_links_the_former_one_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    for n in (1, 2, 3):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "n": n}, tmp_path / "last.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert load_checkpoint(tmp_path / "previous.ckpt")["n"] == 2


def test_a_full_disk_leaves_both(tmp_path: Path) -> None:
    for n in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "n": n}, tmp_path / "last.ckpt")

    class Unwritable:
        def __reduce__(self) -> Any:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "n": Unwritable()}, tmp_path / "last.ckpt")
    assert [load_checkpoint(tmp_path / f"{name}.ckpt")["n"] for name in ("last", "previous")] == [2, 1]
    assert len(list(tmp_path.iterdir())) == 2


def test_only_the_last_one_keeps_its_former_self(tmp_path: Path) -> None:
    for _ in range(2):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, tmp_path / "epoch01.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch01.ckpt"]


def test_a_run_that_is_whole_says_nothing(run: RunDir) -> None:
    recipe = recipe_from_keywords(resume=str(run.path))
    assert resolve_resume(recipe) == (run.last_checkpoint, run.path, "")
