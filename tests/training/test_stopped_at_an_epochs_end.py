"""A run that is stopped between an epoch's last step and its end, and goes on, lacks nothing of that epoch."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small_runs import DIGITS, At, assert_bit_equal, last, rows, send, small_fit
from stops import count_steps_as_seconds, write_pictures

from litscope.config.flags import recipe_from_keywords
from litscope.errors import Interrupted
from litscope.ledger.journal.actions import request
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.live.capture import Capture
from litscope.live.records import epoch_rows, read_summary
from litscope.rundir import RunDir
from litscope.training.fit import fit, run_recipe

MIXUP: dict[str, Any] = {
    "limit_train_batches": None,
    "limit_val_batches": None,
    "val_split": 0.2,
    "mixup": 0.2,
    "num_threads": 1,
    "steps_per_call": 1,
}
"""Four batches an epoch: eight steps."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures.npz")


@contextmanager
def a_signal_in_the_pass(step: int, batch: int = 2, number: int = signal.SIGTERM) -> Iterator[None]:
    """Comes when the clean pass after `step` steps has recorded so many batches."""
    add, seen = Capture.add, []

    def counted(self: Capture, output: Any, **where: Any) -> None:
        add(self, output, **where)
        if (where["step"], where["split"], where["phase"]) == (step, "train", "eval"):
            seen.append(step)
            if len(seen) == batch:
                os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Capture, "add", counted)
        yield


def train(run: Path, pictures: Path, **flags: Any) -> None:
    small_fit(run, {**DIGITS, **MIXUP, "dataset": str(pictures)}, **flags)


def assert_same_end(run: Path, whole: Path) -> None:
    """Weights, rows, lines and scores are those of the run that was not stopped; no row comes twice."""
    assert read_summary(RunDir(run))["status"] == "finished"
    assert_bit_equal(last(run), last(whole))
    assert rows(run).equals(rows(whole))
    visits = Counter(zip(*(rows(run)[name].to_pylist() for name in ("split", "step", "sample_id")), strict=True))
    assert set(visits.values()) == {1}
    lines, theirs = ([(r["epoch"], r["step"], r["train/loss"]) for r in epoch_rows(RunDir(f))] for f in (run, whole))
    assert lines == theirs
    assert refresh(RunDir(run), save=False).table.equals(refresh(RunDir(whole), save=False).table)


def steps_as_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    count_steps_as_seconds(monkeypatch.setattr)


ENDS: dict[str, tuple[dict[str, Any], int]] = {
    "after an epoch": ({}, 4),
    "after the last epoch": ({}, 8),
    "when early stopping ended the run": ({"epochs": 9, "patience": 1, "min_delta": 9.0}, 8),
    "when the time is over in an epoch": ({"epochs": 9, "max_time": "5s"}, 6),
    "when the time is over with an epoch": ({"epochs": 9, "max_time": "7s"}, 8),
    "when the steps are done in an epoch": ({"epochs": 9, "max_steps": 6}, 6),
    "when the steps are done, without validation": ({"epochs": 9, "max_steps": 6, "val_split": 0.0}, 6),
    "with averaged weights": ({"ema_decay": 0.9}, 8),
}
"""Flags, and the step after which the pass is stopped."""


@pytest.mark.thorough
@pytest.mark.parametrize("end", ENDS)
def test_the_clean_pass_is_made_up_for(
    end: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, step = ENDS[end]
    steps_as_seconds(monkeypatch)
    train(tmp_path / "whole", pictures, **flags)
    with pytest.raises(Interrupted, match="--resume"), a_signal_in_the_pass(step):
        train(tmp_path / "run", pictures, **flags)
    written = [line["step"] for line in epoch_rows(RunDir(tmp_path / "run"))]
    assert step not in written, "an epoch that has its line has all its rows"
    with pytest.raises(Interrupted, match="--resume"), a_signal_in_the_pass(step, batch=3):
        fit(resume=str(tmp_path / "run"))
    fit(resume=str(tmp_path / "run"))
    assert_same_end(tmp_path / "run", tmp_path / "whole")


@pytest.mark.thorough
@pytest.mark.parametrize("flags", [{"max_steps": 6}, {"max_time": "5s"}, {"max_steps": 8}], ids=str)
def test_the_last_validation_is_made_up_for(
    flags: dict[str, Any], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the run ends within an epoch, and where it ends with one."""
    steps_as_seconds(monkeypatch)
    flags = {"epochs": 9, "batch_size": 32, "limit_val_batches": None, **flags}
    train(tmp_path / "whole", pictures, **flags)
    stop = At(flags.get("max_steps", 6), send(signal.SIGINT), during="validation")
    with pytest.raises(Interrupted):
        train(tmp_path / "run", pictures, callbacks=[stop], **{**flags, "batch_size": 32})
    fit(resume=str(tmp_path / "run"))
    assert_same_end(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_was_asked_to_stop_ends_where_it_was(pictures: Path, tmp_path: Path) -> None:
    def train_until_asked(run: Path) -> None:
        flags = {**DIGITS, **MIXUP, "dataset": str(pictures), "run_dir": str(run)}
        run_recipe(recipe_from_keywords(**flags), actions=[{**request("stop"), "at_step": 6}])

    train_until_asked(tmp_path / "whole")
    with pytest.raises(Interrupted), a_signal_in_the_pass(6):
        train_until_asked(tmp_path / "run")
    fit(resume=str(tmp_path / "run"))
    assert_same_end(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_was_killed_between_its_best_checkpoint_and_its_last_one_has_each_once(
    pictures: Path, tmp_path: Path
) -> None:
    train(tmp_path / "whole", pictures)
    with pytest.raises(Interrupted):
        train(tmp_path / "run", pictures, callbacks=[At(6, send(signal.SIGTERM))])
    best = next((tmp_path / "whole" / "checkpoints").glob("epoch02-*.ckpt"))
    shutil.copy(best, tmp_path / "run" / "checkpoints")
    fit(resume=str(tmp_path / "run"))
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    names = [sorted(path.name for path in (tmp_path / name / "checkpoints").iterdir()) for name in ("run", "whole")]
    assert names[0] == names[1]


@pytest.mark.slow
def test_with_more_time_the_epoch_goes_on_and_has_one_pass_of_its_own(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "whole", pictures)
    steps_as_seconds(monkeypatch)
    with pytest.raises(Interrupted), a_signal_in_the_pass(6):
        train(tmp_path / "run", pictures, max_time="5s")
    fit(resume=str(tmp_path / "run"), max_time="50s")
    assert_bit_equal(last(tmp_path / "run"), last(tmp_path / "whole"))
    found = Counter(rows(tmp_path / "run", split="train", min_epoch=1)["step"].to_pylist())
    assert found[8] == len(rows(tmp_path / "whole", split="train", min_epoch=1))


@pytest.mark.slow
def test_averaged_weights_are_what_a_run_without_a_best_checkpoint_is_tested_with(
    pictures: Path, tmp_path: Path
) -> None:
    """Stopped in the last evaluation, it has nothing left to train."""
    flags = {"mixup": 0.0, "ema_decay": 0.9, "save_top_k": 0, "test_split": 0.2}
    train(tmp_path / "whole", pictures, **flags)
    with pytest.raises(Interrupted, match="training is done"):
        train(tmp_path / "run", pictures, callbacks=[At(1, send(signal.SIGINT), during="test")], **flags)
    fit(resume=str(tmp_path / "run"))
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    found, wanted = (read_summary(RunDir(tmp_path / name))["metrics"]["best"] for name in ("run", "whole"))
    assert found == wanted


@pytest.mark.slow
def test_canaries_leave_at_the_epoch_whose_pass_was_cut(pictures: Path, tmp_path: Path) -> None:
    """That is when four fifths of the run are over, of 20 steps 16."""
    flags = {"epochs": 5, "canaries": 0.05}
    train(tmp_path / "whole", pictures, **flags)
    with a_signal_in_the_pass(16), pytest.raises(Interrupted, match="step 16"):
        train(tmp_path / "run", pictures, **flags)
    fit(resume=str(tmp_path / "run"))
    assert_same_end(tmp_path / "run", tmp_path / "whole")
