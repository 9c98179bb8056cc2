"""checkpoints/best.ckpt: the best checkpoint under a name that does not change."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from small_runs import IRIS, At, ask, small_fit

from litscope import rundir
from litscope.config.flags import parse
from litscope.config.resume import resolve_resume
from litscope.data.manifest import Manifest
from litscope.lightning_internals import forget_best
from litscope.rundir import RunDir, name_also
from litscope.training.fit import fit
from litscope.training.loop.checkpoints import BestCheckpoints, best_checkpoints
from litscope.training.summary import epoch_rows


def best_epoch(file: Path) -> int:
    """From 0, of the weights in a checkpoint file."""
    position = torch.load(file, weights_only=True)["litscope"]["position"]
    return int(position["epoch"]) - 1


def assert_named(folder: Path, named: str | None) -> None:
    """best.ckpt is the file that the summary names."""
    assert named is not None
    assert (folder / "best.ckpt").read_bytes() == (folder / Path(named).name).read_bytes()
    assert not list(folder.glob(".*")), "nothing is left over"


class Watch(L.Callback):
    """Before each epoch: which epoch's weights best.ckpt holds, and which the metrics say."""

    def __init__(self, run_dir: Path) -> None:
        self.run, self.found = RunDir(run_dir), []

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.current_epoch:
            losses = {row["epoch"]: row["val/loss"] for row in epoch_rows(self.run)}
            self.found.append((best_epoch(self.run.best_checkpoint), min(losses, key=lambda epoch: losses[epoch])))


@pytest.mark.thorough
@pytest.mark.parametrize("save_top_k", [1, 2, -1])
def test_best_ckpt_follows_the_best(tmp_path: Path, save_top_k: int) -> None:
    """The rate is far too high at first, so that the best moves and also stays."""
    watch = Watch(tmp_path / "run")
    settings = {"lr": 0.3, "epochs": 8, "monitor": "val/loss", "save_top_k": save_top_k}
    result = small_fit(tmp_path / "run", IRIS, **settings, callbacks=[watch])
    assert len(watch.found) == 7
    assert all(found == told for found, told in watch.found)
    assert 1 < len({told for _, told in watch.found}) < 7, "it moved and stayed"
    assert_named(result.run.checkpoints, result.summary["checkpoints"]["best"])
    assert "best.ckpt" not in {Path(path).name for path in result.summary["checkpoints"]["kept"]}
    assert best_epoch(result.run.best_checkpoint) == result.summary["best_epoch"]


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_it(tmp_path: Path) -> None:
    small_fit(tmp_path / "run", IRIS, epochs=2)
    copied = shutil.copytree(tmp_path / "run", tmp_path / "copied")  # two files of it now
    (tmp_path / "run/checkpoints/best.ckpt").unlink()  # killed before it was named, or of an older version
    for run in (tmp_path / "run", copied):
        result = fit(resume=str(run), epochs=4)
        assert_named(result.run.checkpoints, result.summary["checkpoints"]["best"])


@pytest.mark.slow
def test_the_best_epoch_is_that_of_the_weights_when_another_metric_is_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the metric that is watched now, an epoch before may have been the best; its weights were not kept."""
    first = small_fit(tmp_path / "run", IRIS, monitor="val/loss", test_split=0.2, lr=1e-2).run
    row = epoch_rows(first)[0]
    assert row["epoch"] == 0
    lines = first.epoch_metrics.read_text().splitlines()
    first.epoch_metrics.write_text("\n".join([json.dumps(row | {"val/accuracy": 1.5}), *lines[1:]]) + "\n")
    capsys.readouterr()
    result = fit(resume=str(first.path), epochs=5, monitor="val/accuracy")
    best = result.summary["best_epoch"]
    assert best == best_epoch(first.best_checkpoint) > 2
    assert result.metrics["val/accuracy"] == epoch_rows(first)[best]["val/accuracy"]
    assert "val/accuracy was 1.5000 after epoch 1, whose weights are not kept" in capsys.readouterr().err


@pytest.mark.slow
def test_it_is_named_again_when_a_killed_run_goes_on(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    seen: list[int] = []

    class Look(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.append(best_epoch(run.best_checkpoint))

    small_fit(run.path, IRIS, epochs=2)
    named = best_epoch(run.best_checkpoint)
    run.best_checkpoint.unlink()
    fit(resume=str(run.path), epochs=3, callbacks=[Look()])
    assert seen[0] == named


@pytest.mark.parametrize("flags", [{"save_top_k": 0}, {"fast_dev_run": True}])
def test_without_a_best_there_is_none(tmp_path: Path, flags: dict[str, Any]) -> None:
    small_fit(tmp_path / "run", IRIS, **flags)
    assert not RunDir(tmp_path / "run").best_checkpoint.exists()


def test_it_lies_where_the_others_lie(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", IRIS, checkpoint_dir=str(tmp_path / "there"))
    assert_named(tmp_path / "there", result.summary["checkpoints"]["best"])


def test_without_a_monitor_it_is_the_newest(tmp_path: Path) -> None:
    callback = best_checkpoints(tmp_path, None, None, 1)
    (tmp_path / "epoch01.ckpt").write_bytes(b"first")
    callback.best_model_path = str(tmp_path / "epoch01.ckpt")
    callback._name_best(trainer())
    (tmp_path / "epoch02.ckpt").write_bytes(b"second")
    callback.best_model_path = str(tmp_path / "epoch02.ckpt")
    callback._name_best(trainer())
    assert (tmp_path / "best.ckpt").read_bytes() == b"second"


def trainer(is_global_zero: bool = True) -> Any:
    return SimpleNamespace(is_global_zero=is_global_zero)


def test_only_the_first_rank_names_and_forgets(tmp_path: Path) -> None:
    callback = best_checkpoints(tmp_path, "val/loss", "min", 1)
    (tmp_path / "epoch01-val_loss0.5000.ckpt").write_bytes(b"weights")
    callback.best_model_path = str(tmp_path / "epoch01-val_loss0.5000.ckpt")
    callback._name_best(trainer(is_global_zero=False))
    assert not (tmp_path / "best.ckpt").exists()
    callback._name_best(trainer())
    forget_best(callback)
    callback.unname_best(trainer(is_global_zero=False))
    assert (tmp_path / "best.ckpt").exists()
    callback.unname_best(trainer())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch01-val_loss0.5000.ckpt"]
    assert (callback.best_model_path, callback.best_model_score, callback.best_k_models) == ("", None, {})


@pytest.mark.slow
def test_what_was_best_on_other_samples_is_forgotten(tmp_path: Path) -> None:
    """A validation sample is discarded in the second epoch: until that ends, none is the best."""
    run = tmp_path / "run"
    found: list[bool] = []

    class Look(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            found.append(RunDir(run).best_checkpoint.exists())

    later = At(10, lambda: ask(run, "discard", sample_id=[int(Manifest.read(RunDir(run).manifest).ids("val")[0])])())
    result = small_fit(run, IRIS, epochs=6, callbacks=[later, Look()])
    assert_named(result.run.checkpoints, result.summary["checkpoints"]["best"])
    assert [is_there for is_there, _ in itertools.groupby(found)] == [False, True, False, True]


def test_names_count_epochs_from_one_and_old_names_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = small_fit(Path("runs/a"), IRIS, epochs=2, save_top_k=-1)
    kept = sorted(Path(path).name[:7] for path in result.summary["checkpoints"]["kept"])
    assert kept == ["epoch01", "epoch02"]
    folder = result.run.checkpoints
    for file in folder.glob("epoch*.ckpt"):
        file.unlink()
    (folder / "best.ckpt").rename(folder / "epoch00-val_loss0.2500.ckpt")  # as before epochs were counted from 1
    result.run.summary.unlink()
    assert resolve_resume(parse(["--resume", "best", "--name", "a"]))[0].name == "epoch00-val_loss0.2500.ckpt"


def test_what_resumes_from_the_best_is_told_the_name_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = small_fit(Path("runs/a"), IRIS, epochs=2).run
    run.summary.unlink()  # as while it trains, or after a kill
    named = next(run.checkpoints.glob("epoch*.ckpt"))
    asked = parse(["--resume", "best", "--name", "a"])
    assert resolve_resume(asked)[0] == named
    content = named.read_bytes()
    named.unlink()
    named.write_bytes(content)  # a copied folder: no two names of one file
    assert resolve_resume(asked)[0] == run.best_checkpoint


class TestNameAlso:
    """A second name for a file, whole at any moment."""

    def test_it_is_a_link_that_is_replaced(self, tmp_path: Path) -> None:
        one, two, name = tmp_path / "one", tmp_path / "two", tmp_path / "name"
        one.write_text("1")
        two.write_text("2")
        for file in (one, one, two):
            name_also(file, name)
            assert name.samefile(file)
        two.unlink()
        assert name.read_text() == "2"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["name", "one"]

    @pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EXDEV])
    def test_without_links_it_is_a_copy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        def refuse(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(rundir.os, "link", refuse)
        (tmp_path / "one").write_text("1")
        (tmp_path / "name").write_text("0")
        name_also(tmp_path / "one", tmp_path / "name")
        assert (tmp_path / "name").read_text() == "1"
        assert not (tmp_path / "name").samefile(tmp_path / "one")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["name", "one"]

    def test_when_it_fails_the_name_stands_for_what_it_stood_for(self, tmp_path: Path) -> None:
        (tmp_path / "name").write_text("0")
        with pytest.raises(FileNotFoundError):
            name_also(tmp_path / "absent", tmp_path / "name")
        assert (tmp_path / "name").read_text() == "0"
        assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_the_callback_is_stored_under_lightnings_name(tmp_path: Path) -> None:
    assert isinstance(callback := best_checkpoints(tmp_path, "val/loss", "min", 1), BestCheckpoints)
    assert callback.state_key.startswith("ModelCheckpoint{")
