"""Interrupted anywhere and resumed, a run ends with the same bits as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from forked import Forked, finished
from small_runs import DIGITS, IRIS, At, assert_bit_equal, last, rows, send, small_fit

from litscope.errors import ConfigError, Interrupted, RunError
from litscope.live.records import epoch_rows, read_summary
from litscope.rundir import RunDir, read_lines
from litscope.training.fit import fit


@pytest.fixture(scope="module")
def whole(plain_run: Path) -> Path:
    """An uninterrupted run of 12 steps."""
    return plain_run


@pytest.fixture(scope="module")
def iris_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs on a table."""
    return small_fit(tmp_path_factory.mktemp("iris") / "run", IRIS).run.path


def interrupt(run_dir: Path, step: int, during: str = "train", **flags: Any) -> None:
    """Start a run and interrupt it by Ctrl-C."""
    with pytest.raises(Interrupted, match="--resume"):
        small_fit(run_dir, callbacks=[At(step, send(signal.SIGINT), during)], **flags)


def assert_same_run(run_dir: Path, whole: Path) -> None:
    """Weights, optimizer, random state and every ledger row are those of the uninterrupted run."""
    assert_bit_equal(last(run_dir), last(whole), "state_dict", "optimizer_states", "litscope")
    assert rows(run_dir).equals(rows(whole))
    ours, theirs = epoch_rows(RunDir(run_dir)), epoch_rows(RunDir(whole))
    kept = ("epoch", "step", "lr", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/auroc")
    assert [{k: r.get(k) for k in kept} for r in ours] == [{k: pytest.approx(r.get(k)) for k in kept} for r in theirs]


@pytest.mark.thorough
@pytest.mark.parametrize("step", range(1, 13))
def test_interrupted_at_any_step_ends_with_the_same_bits(step: int, whole: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", step)
    assert read_summary(RunDir(tmp_path / "run"))["status"] == "interrupted"
    result = fit(resume=str(tmp_path / "run"))
    assert result.summary["status"] == "finished"
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 12])
def test_interrupted_during_validation(step: int, whole: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", step, during="validation")
    assert len(epoch_rows(RunDir(tmp_path / "run"))) == step // 6 - 1, "the epoch was not over"
    fit(resume=str(tmp_path / "run"))
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_interrupted_again_and_again(whole: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "run", 2)
    for step, during in ((4, "train"), (6, "train"), (6, "validation"), (7, "train"), (12, "validation")):
        with pytest.raises(Interrupted):
            fit(resume=str(tmp_path / "run"), callbacks=[At(step, send(signal.SIGTERM), during)])
    fit(resume=str(tmp_path / "run"))
    assert_same_run(tmp_path / "run", whole)
    assert [a["start_step"] for a in read_lines(RunDir(tmp_path / "run").attempts)] == [0, 2, 4, 6, 6, 7, 12]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({"accumulate_grad_batches": 4, "gradient_clip_val": 0.5}, (1, 2, 3)),
        ({"ema_decay": 0.9}, (3, 6, 8)),
        ({"max_steps": 9, "epochs": None}, (4, 6, 8)),
        ({"num_workers": 2, "cache": False}, (5,)),
        ({"val_split": 0.0, "scheduler_type": "plateau"}, (6, 9)),
        ({"mixup": 0.2, "precision": "bf16-mixed"}, (4, 6)),
        ({"scheduler_type": "plateau", "early_stopping": True, "save_top_k": 2}, (7,)),
        ({"overfit_batches": 2, "limit_train_batches": None}, (1, 3)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_resume_is_exact_with(flags: dict[str, Any], steps: tuple[int, ...], tmp_path: Path) -> None:
    small_fit(tmp_path / "whole", **flags)
    for step in steps:
        interrupt(tmp_path / f"run{step}", step, **flags)
        fit(resume=str(tmp_path / f"run{step}"))
        assert_same_run(tmp_path / f"run{step}", tmp_path / "whole")


@pytest.mark.slow
def test_interrupted_during_validation_with_averaged_weights(tmp_path: Path) -> None:
    small_fit(tmp_path / "whole", ema_decay=0.9)
    interrupt(tmp_path / "run", 6, during="validation", ema_decay=0.9)
    fit(resume=str(tmp_path / "run"))
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert_bit_equal(last(tmp_path / "run"), last(tmp_path / "whole"), "litscope_trained_weights")


@pytest.mark.slow
def test_one_row_per_visit_whatever_happened(tmp_path: Path) -> None:
    """Each training sample has exactly one row per epoch, each validation sample one per evaluation."""
    flags = {"limit_train_batches": None, "limit_val_batches": None, "batch_size": 128}
    interrupt(tmp_path / "run", 5, **flags)
    for step in (9, 17):
        with pytest.raises(Interrupted):
            fit(resume=str(tmp_path / "run"), callbacks=[At(step, send(signal.SIGINT))])
    result = fit(resume=str(tmp_path / "run"))
    for split, phase in (("train", "train"), ("val", "eval")):
        table = rows(tmp_path / "run", split=split, phase=phase)
        visits = Counter(zip(table["sample_id"].to_pylist(), table["epoch"].to_pylist(), strict=True))
        assert set(visits.values()) == {1}
        assert len(visits) == 2 * result.summary["num_samples"][split]


def _fit_and_die(run: Path, step: int, during: str) -> None:
    small_fit(
        run, checkpoint_every="1steps", callbacks=[At(step, lambda: os.kill(os.getpid(), signal.SIGKILL), during)]
    )


@pytest.mark.thorough
@pytest.mark.parametrize(("step", "during", "start"), [(4, "train", 3), (6, "validation", 5), (9, "train", 8)])
def test_killed_without_warning(step: int, during: str, start: int, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = finished(Forked(_fit_and_die, run, step, during))
    assert ended.returncode == -signal.SIGKILL
    assert read_summary(RunDir(run)) is None
    fit(resume=str(run))
    assert [a["start_step"] for a in read_lines(RunDir(run).attempts)] == [0, start]
    assert_same_run(run, whole)


@pytest.mark.slow
def test_with_more_epochs_and_another_rate(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    result = fit(resume=str(tmp_path / "run"), epochs=4, lr=1e-3)
    assert (result.summary["epochs"], result.summary["global_step"]) == (4, 24)
    lines = epoch_rows(RunDir(tmp_path / "run"))
    assert [(r["epoch"], r["step"]) for r in lines] == [(0, 6), (1, 12), (2, 18), (3, 24)]
    assert 0 < lines[2]["lr"] < 1e-3, "the new rate, on the new schedule"
    table = rows(tmp_path / "run", split="train")
    assert len(table) == 4 * 6 * 32


@pytest.mark.thorough
@pytest.mark.parametrize("relative", [False, True])
def test_a_finished_run_is_left_alone(relative: bool, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path = Path() if relative else in_tmp
    small_fit(tmp_path / "run")
    capsys.readouterr()
    result = fit(resume=str(tmp_path / "run"))
    assert result.summary["status"] == "finished"
    assert "already finished (2 epochs)" in capsys.readouterr().err
    assert len(read_lines(RunDir(tmp_path / "run").attempts)) == 1


@pytest.mark.slow
def test_after_max_steps_goes_on_in_the_epoch(whole: Path, tmp_path: Path) -> None:
    small_fit(tmp_path / "run", scheduler_type="constant", max_steps=8)
    small_fit(tmp_path / "constant", scheduler_type="constant")
    fit(resume=str(tmp_path / "run"), max_steps=12)
    assert_bit_equal(last(tmp_path / "run"), last(tmp_path / "constant"))


@pytest.mark.slow
def test_a_moved_run_goes_on(whole: Path, tmp_path: Path) -> None:
    interrupt(tmp_path / "here", 8)
    shutil.move(tmp_path / "here", tmp_path / "there")
    result = fit(resume=str(tmp_path / "there"))
    assert_same_run(tmp_path / "there", whole)
    assert Path(result.summary["checkpoints"]["best"]).parent == tmp_path / "there" / "checkpoints"


def test_a_new_run_from_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    checkpoint = next(p for p in RunDir(whole).checkpoints.glob("epoch*.ckpt"))
    result = small_fit(tmp_path / "new", resume=str(checkpoint), epochs=3)
    assert result.summary["epochs"] == 3
    assert read_lines(RunDir(tmp_path / "new").attempts)[0]["resumed_from"] == str(checkpoint)


def test_fewer_epochs_than_are_done_are_refused_before_the_run_is_touched(whole: Path, tmp_path: Path) -> None:
    run = RunDir(shutil.copytree(whole, tmp_path / "run"))
    before = run.recipe.read_text()
    with pytest.raises(ConfigError, match=r"--epochs 1: .*last\.ckpt has 2 epochs behind it"):
        fit(resume=str(run.path), epochs=1)
    assert run.recipe.read_text() == before


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"hidden": [32]}, r"--hidden 32: .*\(net\.body"),
        ({"num_members": 2}, r"--num-members 2: "),
        ({"weights": "there.safetensors"}, r"--weights there\.safetensors: --resume .* takes the weights"),
        ({"pretrained": True}, "--pretrained: "),
    ],
)
def test_another_network_is_refused_before_the_run_is_touched(
    flags: dict[str, Any], said: str, iris_run: Path, tmp_path: Path
) -> None:
    """A recipe that asked for it would stay with the run, which then never goes on again."""
    run = RunDir(shutil.copytree(iris_run, tmp_path / "run"))

    def content() -> dict[Path, bytes]:  # who was the last to hold it is no part of the run
        return {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file() and file != run.trainer}

    before = content()
    for where in ({}, {"run_dir": str(tmp_path / "new")}):
        with pytest.raises(ConfigError, match=said):
            fit(resume=str(run.path), epochs=4, **flags, **where)
    assert content() == before
    assert not (tmp_path / "new").exists()
    assert fit(resume=str(run.path), epochs=4, hidden=[256, 256]).summary["epochs"] == 4


def test_other_data_are_refused(tmp_path: Path) -> None:
    interrupt(tmp_path / "run", 3)
    with pytest.raises(RunError, match="not those that"):
        fit(resume=str(tmp_path / "run"), val_split=0.3)


def test_settings_come_from_the_run(tmp_path: Path) -> None:
    interrupt(tmp_path / "run", 3, **{"batch_size": 48})
    fit(resume=str(tmp_path / "run"))
    recipe = RunDir(tmp_path / "run").recipe.read_text()
    assert "batch_size: 48" in recipe
    assert DIGITS["arch"] in recipe
