"""What is given holds: on resume, in a copy of a run's recipe, with early stopping, with undefined metrics."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import IRIS, assert_bit_equal, last, small_fit

from litscope.config.flags import parse, recipe_from_keywords
from litscope.errors import ConfigError, RunError
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir, read_lines
from litscope.training.choosing.class_weights import read_class_weights
from litscope.training.fit import fit
from litscope.training.loop.checkpoints import best_checkpoints, best_path
from litscope.training.prepare import prepare

OPEN: dict[str, Any] = {"dataset": "iris", "accelerator": "cpu", "logger": ["none"], "progress": False}


def table(path: Path, **rows_of: int) -> str:
    """A table with so many rows of each class."""
    lines = [f"{i * 7 % 11},{i},{name}" for name, count in rows_of.items() for i in range(count)]
    path.write_text("x,y,label\n" + "\n".join(lines) + "\n")
    return str(path)


def settings_of(run: Path) -> Any:
    return parse(["--config", str(run / "recipe.yaml")])


def test_the_recipe_of_a_run_says_what_was_chosen_and_repeats_it(tmp_path: Path) -> None:
    small_fit(tmp_path / "a", OPEN, max_steps=12, lr=0.002)
    recipe = settings_of(tmp_path / "a")
    assert {"data.batch_size", "training.epochs", "training.monitor", "model.arch"} <= recipe.chosen
    assert not {"training.lr", "training.max_steps", "data.dataset"} & recipe.chosen
    small_fit(tmp_path / "b", {"config": str(tmp_path / "a/recipe.yaml")})
    assert_bit_equal(last(tmp_path / "a"), last(tmp_path / "b"), "state_dict")
    assert (tmp_path / "b/recipe.yaml").read_text() == (tmp_path / "a/recipe.yaml").read_text()


@pytest.mark.slow
def test_a_copy_of_a_recipe_follows_the_new_flags(tmp_path: Path) -> None:
    small_fit(tmp_path / "a", OPEN, max_steps=12)
    config = str(tmp_path / "a/recipe.yaml")
    for flags in ({"optimizer": "sgd"}, {"monitor": "val/accuracy"}, {"epochs": 1}, {"dataset": "breast_cancer"}):
        ours = prepare(recipe_from_keywords(config=config, **flags)).asked
        theirs = prepare(recipe_from_keywords(**{**OPEN, "max_steps": 12, **flags})).asked
        ours.data.data_dir = theirs.data.data_dir  # written whole in a run's recipe
        assert ours.to_dict() == theirs.to_dict(), flags


@pytest.mark.slow
def test_more_steps_are_trained_though_the_epochs_were_chosen(tmp_path: Path) -> None:
    small_fit(tmp_path / "a", OPEN, max_steps=12)
    assert fit(resume=str(tmp_path / "a"), max_steps=40).summary["global_step"] == 40
    with pytest.raises(ConfigError, match="Give more --max-steps"):
        fit(resume=str(tmp_path / "a"), epochs=90)


@pytest.mark.slow
def test_a_run_whose_time_is_over_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_fit(tmp_path / "a", IRIS, max_time="1s", epochs=100_000)
    fit(resume=str(tmp_path / "a"), epochs=100_001)
    assert "has trained for its --max-time 1s, so it ends at once. Give more --max-time too" in capsys.readouterr().err


@pytest.mark.slow
def test_a_class_more_in_the_data_of_a_run_that_goes_on(tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv", cat=30, dog=30)
    small_fit(tmp_path / "a", OPEN, dataset=file, epochs=1)
    table(tmp_path / "t.csv", cat=30, dog=30, elk=30)
    for more in ({}, {"run_dir": str(tmp_path / "new")}):
        with pytest.raises(RunError, match="was trained on cat, dog; the data now also hold elk") as refused:
            fit(resume=str(tmp_path / "a/checkpoints/last.ckpt"), epochs=2, **more)
        assert "--num-classes" not in str(refused.value)
    assert prepare(recipe_from_keywords(config=str(tmp_path / "a/recipe.yaml"))).recipe.model.num_classes == 3
    table(tmp_path / "t.csv", cat=30, elk=30)
    with pytest.raises(RunError, match="now also hold elk and no longer hold dog"):
        fit(resume=str(tmp_path / "a"), epochs=2)


@pytest.mark.slow
def test_a_run_that_early_stopping_ended_trains_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"epochs": 30, "patience": 2, "min_delta": 0.9, "monitor": "val/accuracy"}
    stopped = small_fit(tmp_path / "run", IRIS, **flags).summary["epochs"]
    assert stopped < 30
    capsys.readouterr()
    assert fit(resume=str(tmp_path / "run")).summary["epochs"] == stopped
    assert "early stopping ended it; to train on, give --no-early-stopping" in capsys.readouterr().err
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert fit(resume=str(tmp_path / "run"), epochs=40).summary["epochs"] == stopped + 2, "it waits anew"
    assert "it now waits anew" in capsys.readouterr().err
    freed = fit(resume=str(tmp_path / "copy"), early_stopping=False)
    assert freed.summary["epochs"] == 30
    assert not settings_of(tmp_path / "copy").training.early_stopping


def test_a_run_that_was_moved_is_still_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_fit(tmp_path / "run", IRIS, epochs=1)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    (tmp_path / "run").rename(tmp_path / "moved")
    for name in ("moved", "copy"):
        capsys.readouterr()
        fit(resume=str(tmp_path / name))
        assert "is already finished" in capsys.readouterr().err
        assert len(read_lines(RunDir(tmp_path / name).attempts)) == 1


# ---- metrics that are undefined ------------------------------------------------------------------


def split_table(path: Path, in_val: tuple[str, ...]) -> str:
    """Rows of cat and dog to train on, and validation rows of `in_val`."""
    lines = [f"{i},{i * 3 % 7},{name},train" for name in ("cat", "dog") for i in range(30)]
    lines += [f"{i},{i % 7},{name},val" for name in in_val for i in range(10)]
    path.write_text("x,y,label,split\n" + "\n".join(lines) + "\n")
    return str(path)


@pytest.mark.thorough
@pytest.mark.parametrize(("monitor", "in_val"), [("val/auroc", "cat"), ("val/auroc", "dog"), ("val/ap", "cat")])
def test_a_monitor_that_is_undefined_is_refused_before(monitor: str, in_val: str, tmp_path: Path) -> None:
    file = split_table(tmp_path / "t.csv", (in_val,))
    other = "dog" if in_val == "cat" else "cat"
    metric = monitor.removeprefix("val/")
    with pytest.raises(
        ConfigError, match=f"hold none of {other}, so {metric} is undefined in every epoch. Use val/loss"
    ):
        small_fit(tmp_path / "run", OPEN, dataset=file, epochs=1, monitor=monitor)
    assert not (tmp_path / "run").exists()
    small_fit(tmp_path / "run", OPEN, dataset=file, epochs=1, monitor="val/loss")
    row = epoch_rows(RunDir(tmp_path / "run"))[0]
    assert row["val/auroc"] is None
    assert row["val/loss"] is not None


def test_a_rare_class_that_validation_lacks_is_not_watched(tmp_path: Path) -> None:
    lines = [f"{i},no,{'val' if i < 20 else 'train'}" for i in range(100)] + [f"{i},yes,train" for i in range(4)]
    (tmp_path / "t.csv").write_text("x,label,split\n" + "\n".join(lines) + "\n")
    start = prepare(recipe_from_keywords(**{**OPEN, "dataset": str(tmp_path / "t.csv"), "epochs": 1}))
    assert start.recipe.training.monitor == "val/loss"
    assert "monitor val/loss: a class is rare, and validation holds no sample of one" in start.chosen


def test_a_metric_that_becomes_undefined_is_null_and_never_the_best(tmp_path: Path) -> None:
    """Two of the three validation batches are left out, and the one that is left holds one class."""
    file = split_table(tmp_path / "t.csv", ("cat", "dog"))
    flags = {"batch_size": 10, "epochs": 3, "monitor": "val/auroc", "limit_val_batches": 1, "patience": 2}
    run = small_fit(tmp_path / "run", OPEN, dataset=file, **flags)
    assert [row["val/auroc"] for row in epoch_rows(run.run)] == [None, None], "early stopping counts them as no better"
    assert run.summary["metrics"]["best"]["val/auroc"] is None
    assert run.summary["checkpoints"]["best"] is None
    assert json.loads(run.run.summary.read_text()) == run.summary


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_checkpoint_passes_undefined_values_over(mode: str, tmp_path: Path) -> None:
    keeper = best_checkpoints(tmp_path, "val/auroc", mode, 1)
    for value in (torch.nan, torch.inf, -torch.inf):
        assert not keeper.check_monitor_top_k(None, torch.tensor(value))  # type: ignore[arg-type]
    assert keeper.check_monitor_top_k(None, torch.tensor(0.5))  # type: ignore[arg-type]
    keeper.best_model_path, keeper.best_model_score = "x.ckpt", torch.tensor(torch.inf)
    assert best_path([keeper]) == ""
    keeper.best_model_score = torch.tensor(0.5)
    assert best_path([keeper]) == "x.ckpt"


# ---- class weights -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("w.csv", "class,weight\na,1\nb,-3\n", "class 'b' has the weight -3 in line 3. A weight is a number above 0"),
        ("w.csv", "a,1\nb,0\n", "class 'b' has the weight 0 in line 2"),
        ("w.csv", "a,nan\nb,1\n", "class 'a' has the weight nan in line 1"),
        ("w.csv", "a,inf\nb,1\n", "class 'a' has the weight inf"),
        ("w.csv", "a,x\nb,1\n", "class 'a' has the weight x"),
        ("w.csv", "a,1\nb,2\na,3\n", "class 'a' has a second weight in line 3"),
        ("w.csv", "a,1\n", "no weight for 'b'. Add a line b,WEIGHT"),
        ("w.csv", "a,1\nb,2\nB,3\n", "'B' is not a class of the data in line 3.*The classes are a, b"),
        ("w.csv", "a\nb\n", "line 1 is not class,weight, so it is neither JSON by its name nor CSV"),
        ("w.csv", "", "no weight for 'a' and 1 other classes"),
        ("w.json", '{"a": 1, "b": -3}', "class 'b' has the weight -3. A weight"),
        ("w.json", '{"a": 1, "b": NaN}', "class 'b' has the weight nan"),
        ("w.json", '{"a": 1, "b": true}', "class 'b' has the weight True"),
        ("w.json", '{"a": 1, "b": null}', "class 'b' has the weight None"),
        ("w.json", '{"a": 1, "b": 2, "a": 3}', "class 'a' has a second weight. Keep one"),
        ("w.json", '{"a": 1}', "no weight for 'b'. Add a key \"b\" with its weight"),
        ("w.json", "[1, 2]", "its JSON is neither"),
        ("w.json", "{", "this is not JSON"),
        ("w.json", f'{{"a": 1, "b": 1{"0" * 400}}}', "class 'b' has the weight 1000"),
    ],
)
def test_a_file_of_class_weights_is_checked_as_it_was_written(name: str, text: str, word: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigError, match=word) as refused:
        read_class_weights(file, ["a", "b"])
    assert str(refused.value).startswith(f"--class-weights {file}: ")
    assert name.endswith(".csv") or "line" not in str(refused.value).replace("line 1 column", "")


def test_strangers_files_of_class_weights(tmp_path: Path) -> None:
    file = tmp_path / "w.csv"
    file.write_bytes('\ufeffClass, Weight\r\n"a", 1\r\n\r\nb , 2.5\r\n'.encode())
    assert read_class_weights(file, ["a", "b"]) == {"a": 1.0, "b": 2.5}
