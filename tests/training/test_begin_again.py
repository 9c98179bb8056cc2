"""A run that is killed at any stage before its first checkpoint leads on, and ends with the same bits."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from forked import Forked, finished
from small_runs import DIGITS, IRIS, At, assert_bit_equal, last, rows, small_fit

from litscope.data.manifest import Manifest
from litscope.errors import RunError
from litscope.ledger.journal.actions import submit
from litscope.ledger.journal.verbs import request
from litscope.live.records import epoch_rows
from litscope.rundir import LAST, RunDir, read_lines
from litscope.training import run_folder
from litscope.training.fit import fit
from litscope.training.loop.checkpoints import AtomicCheckpointIO


def _die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class DieFirst(L.Callback):
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _die()


def _fit_until(stage: str, run: Path, settings: dict[str, Any]) -> None:
    """Train, and be killed at a stage before the first last checkpoint."""
    callbacks: list[L.Callback] = []
    match stage:
        case "the folder is made":
            Manifest.write = _die  # type: ignore[method-assign]
        case "no recipe yet":
            run_folder.write_text = _die
        case "no attempt yet":
            run_folder.begin_attempt = _die
        case "before the first step":
            callbacks = [DieFirst()]
        case "in the first epoch":
            callbacks = [At(4, _die)]
        case "in its validation":
            callbacks = [At(6, _die, "validation")]
        case "at the first checkpoint":
            AtomicCheckpointIO.save_checkpoint = _die  # type: ignore[method-assign]
        case "after the best one":
            save = AtomicCheckpointIO.save_checkpoint

            def save_or_die(self: Any, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
                if Path(path).name == LAST:
                    _die()
                save(self, checkpoint, path, storage_options)

            AtomicCheckpointIO.save_checkpoint = save_or_die  # type: ignore[method-assign]
    small_fit(run, settings, callbacks=callbacks)


def kill_at(stage: str, run: Path, settings: dict[str, Any] = DIGITS) -> RunDir:
    ended = finished(Forked(_fit_until, stage, run, settings))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return RunDir(run)


def assert_same_run(run: RunDir, whole: Path) -> None:
    assert_bit_equal(last(run.path), last(whole), "state_dict", "optimizer_states", "litscope")
    assert rows(run.path).equals(rows(whole))
    assert [(row["epoch"], row["step"]) for row in epoch_rows(run)] == [(0, 6), (1, 12)]


@pytest.mark.thorough
@pytest.mark.parametrize("stage", ["the folder is made", "no recipe yet"])
def test_before_the_recipe_the_same_command_begins_anew(stage: str, plain_run: Path, tmp_path: Path) -> None:
    run = kill_at(stage, tmp_path / "run")
    with pytest.raises(RunError, match=f"give its own command again, with --run-dir {run.path}"):
        fit(resume=str(run.path))
    small_fit(run.path)
    assert_same_run(run, plain_run)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stage",
    ["no attempt yet", "before the first step", "in the first epoch", "in its validation", "at the first checkpoint"],
)
def test_resume_begins_again_at_step_0(
    stage: str, plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = kill_at(stage, tmp_path / "run")
    with pytest.raises(RunError, match=f"already holds a run. Continue it with --resume {run.path}"):
        small_fit(run.path)
    capsys.readouterr()
    assert fit(resume=str(run.path)).summary["status"] == "finished"
    assert capsys.readouterr().err.count("begins again at step 0") == 1
    assert {line["start_step"] for line in read_lines(run.attempts)} == {0}
    assert_same_run(run, plain_run)


@pytest.mark.slow
def test_the_newest_that_is_there_is_taken(plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = kill_at("after the best one", tmp_path / "run")
    fit(resume=str(run.path))
    said = capsys.readouterr().err
    assert "has no last checkpoint: the run goes on from the newest that is there" in said
    assert "epoch01-val_" in said
    assert [line["start_step"] for line in read_lines(run.attempts)] == [0, 6]
    assert_same_run(run, plain_run)


@pytest.mark.slow
def test_killed_again_and_again(plain_run: Path, tmp_path: Path) -> None:
    run = kill_at("at the first checkpoint", tmp_path / "run")
    for stage in ("no attempt yet", "at the first checkpoint", "before the first step"):
        kill_at(stage, run.path, {"resume": str(run.path)})
    fit(resume=str(run.path))
    assert_same_run(run, plain_run)


@pytest.mark.slow
def test_a_full_disk_before_the_first_checkpoint(
    plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.ckpt")

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
        with pytest.raises(OSError, match="No space left"):
            small_fit(tmp_path / "run")
    fit(resume=str(tmp_path / "run"))
    assert_same_run(RunDir(tmp_path / "run"), plain_run)


@pytest.mark.slow
def test_other_flags_hold_for_the_run_that_begins_again(tmp_path: Path) -> None:
    run = kill_at("before the first step", tmp_path / "run", IRIS)
    assert fit(resume=str(run.path), epochs=1).summary["epochs"] == 1
    assert "epochs: 1" in run.recipe.read_text()


@pytest.mark.slow
def test_what_was_decided_before_holds(tmp_path: Path) -> None:
    """A request that the lost attempt had not answered is as any other that waits."""
    run = kill_at("before the first step", tmp_path / "run", IRIS)
    submit(run, request("discard", sample_id=[1, 2, 3]))
    fit(resume=str(run.path))
    assert not {1, 2, 3} & set(rows(run.path, split="train")["sample_id"].to_pylist())


@pytest.mark.slow
def test_the_manifest_of_a_start_that_was_killed_is_not_kept(tmp_path: Path) -> None:
    run = kill_at("no recipe yet", tmp_path / "run")
    small_fit(run.path, IRIS)
    assert len(Manifest.read(run.manifest)) == 150


@pytest.mark.slow
def test_without_a_checkpoint_no_new_run_starts_from_it(tmp_path: Path) -> None:
    run = kill_at("before the first step", tmp_path / "run", IRIS)
    with pytest.raises(RunError, match=r"has no last checkpoint .* There is none at all"):
        fit(resume=str(run.path), run_dir=str(tmp_path / "other"))


@pytest.mark.slow
def test_on_two_processes(tmp_path: Path) -> None:
    two = {**IRIS, "devices": "2", "strategy": "ddp", "epochs": 1, "val_split": 0.3}
    run = kill_at("no attempt yet", tmp_path / "run", two)
    ended = finished(Forked(_resume, run.path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("begins again at step 0") == 1
    assert len(epoch_rows(run)) == 1


def _resume(run: Path) -> int:
    try:
        fit(resume=str(run))
    except RunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
