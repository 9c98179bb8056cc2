"""The story of a run from the outside: its folder, its summary, its flags, its mistakes."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from small_runs import DIGITS, IRIS, assert_bit_equal, last, small_fit

from litscope.config.flags import build as build_recipe
from litscope.config.flags import recipe_from_keywords
from litscope.config.recipe import Recipe
from litscope.curation.recipe_source import make_source
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, MissingExtra, RunError, UserError
from litscope.live.records import epoch_rows, metric_facts
from litscope.rundir import RunDir, read_lines
from litscope.training.build import class_weights, make_data
from litscope.training.fit import fit
from litscope.training.summary import confused_pairs

SUMMARY_KEYS = {
    "status", "message", "name", "run_dir", "dataset", "arch", "num_parameters", "classes", "num_samples", "epochs",
    "global_step", "metrics", "monitor", "mode", "best_epoch", "checkpoints", "samples_per_s", "epoch_s", "wall_s",
    "device", "num_devices", "precision", "resume", "confused_pairs", "hardest", "monitored", "near_duplicates",
    "global_batch_size", "peak_lr", "ensemble",
}  # fmt: skip


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return small_fit(tmp_path_factory.mktemp("iris") / "run", IRIS, epochs=20, test_split=0.2).run


def test_the_folder_of_a_run(iris: RunDir) -> None:
    files = {str(p.relative_to(iris.path)) for p in iris.path.rglob("*") if p.is_file()}
    assert {"recipe.yaml", "environment.json", "manifest.parquet", "attempts.jsonl", "summary.json"} <= files
    assert {"metrics/steps.jsonl", "metrics/epochs.jsonl", "checkpoints/last.ckpt"} <= files
    assert {"figures/confusion.png", "figures/curves.png"} <= files
    assert any(name.startswith("signals/a0001-r000-") for name in files)
    assert not [name for name in files if name.endswith(".tmp")]
    assert len(Manifest.read(iris.manifest)) == 150
    environment = json.loads(iris.environment.read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["seed"] == 42
    assert environment["command"]


def test_the_summary(iris: RunDir) -> None:
    summary = json.loads(iris.summary.read_text())
    assert summary.keys() == SUMMARY_KEYS
    assert summary["status"] == "finished"
    assert summary["num_samples"] == {"train": 105, "val": 15, "test": 30}
    assert summary["epochs"] == 20
    choose = {"min": min, "max": max}[summary["mode"]]
    best = choose(epoch_rows(iris), key=lambda row: row[summary["monitor"]])
    assert summary["best_epoch"] == best["epoch"]
    assert summary["metrics"]["best"]["val/accuracy"] == best["val/accuracy"]
    assert summary["metrics"]["best"]["test/accuracy"] > 0.8
    assert summary["metrics"]["final"]["train/loss"] == epoch_rows(iris)[-1]["train/loss"]
    assert len(summary["hardest"]) == 10
    assert {"sample_id", "key", "label_name", "pred_name", "mean"} <= summary["hardest"][0].keys()
    hardest = [row["mean"] for row in summary["hardest"]]
    assert hardest == sorted(hardest, reverse=True)


@pytest.mark.slow
def test_the_recipe_in_the_folder_repeats_the_run(iris: RunDir, tmp_path: Path) -> None:
    recipe = build_recipe({}, [iris.recipe])
    recipe.logging.run_dir = str(tmp_path / "again")
    fit(recipe=recipe)
    assert_bit_equal(last(tmp_path / "again"), last(iris.path))


@pytest.mark.flag("name")
def test_nothing_is_left_outside_the_run_folder(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(**{**IRIS, "epochs": 1, "logger": ["csv"], "name": "first"})
    assert [p.name for p in in_tmp.iterdir()] == ["runs"]
    assert [p.name for p in (in_tmp / "runs").iterdir()] == ["first"]
    out, err = capsys.readouterr()
    assert out == ""
    assert not re.search(r"lightning|tip|litlogger|GPU available", err, re.IGNORECASE)
    assert "mlp: 2.7 k parameters" in err or "mlp: " in err
    assert "next: litscope suspects runs/first" in err


def test_names_are_made_from_data_and_model(in_tmp: Path) -> None:
    names = [fit(**{**IRIS, "epochs": 1}).run.path.name for _ in range(2)]
    assert names == ["iris-mlp-1", "iris-mlp-2"]


@pytest.mark.flag("run_dir")
def test_a_run_is_never_overwritten(iris: RunDir) -> None:
    with pytest.raises(RunError, match="already holds a run"):
        small_fit(iris.path, IRIS)


def test_a_name_that_is_taken_is_told_before_the_data_are_read(iris: RunDir, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(RunError, match="already holds a run"):
        small_fit(iris.path, IRIS, dataset=str(tmp_path / "empty.csv"))


@pytest.mark.flag("seed")
def test_the_seed_decides(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        small_fit(tmp_path / name, IRIS, epochs=1, seed=seed, dropout_rate=0.2)
    assert_bit_equal(last(tmp_path / "a"), last(tmp_path / "b"))
    with pytest.raises(AssertionError):
        assert_bit_equal(last(tmp_path / "a"), last(tmp_path / "c"))


@pytest.mark.flag("deterministic")
def test_deterministic_is_for_this_run_only(tmp_path: Path) -> None:
    seen = []

    class Look(L.Callback):
        def on_train_start(self, *_: Any) -> None:
            seen.append(torch.are_deterministic_algorithms_enabled())

    small_fit(tmp_path / "run", IRIS, epochs=1, deterministic=True, callbacks=[Look()])
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.flag("ledger")
def test_without_a_ledger_no_one_is_sent_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_fit(tmp_path / "run", IRIS, ledger=False)
    assert "litscope worst" not in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.flag("precision")
@pytest.mark.parametrize(
    ("precision", "expected", "dtype"),
    [
        ("auto", "32-true", torch.float32),
        ("16", "bf16-mixed", torch.float32),
        ("bf16", "bf16-mixed", torch.float32),
        ("bf16-true", "bf16-true", torch.bfloat16),
        ("64-true", "64-true", torch.float64),
    ],
)
def test_precision(precision: str, expected: str, dtype: torch.dtype, tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", epochs=1, precision=precision)
    assert result.summary["precision"] == expected
    weight = next(v for v in last(tmp_path / "run")["state_dict"].values() if v.is_floating_point())
    assert weight.dtype == dtype


@pytest.mark.flag("gradient_clip_val", "accumulate_grad_batches", "limit_train_batches", "limit_val_batches")
def test_what_the_trainer_is_told(tmp_path: Path) -> None:
    told: dict[str, Any] = {}

    class Look(L.Callback):
        def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
            told.update(
                clip=trainer.gradient_clip_val,
                accumulate=trainer.accumulate_grad_batches,
                train=trainer.num_training_batches,
                val=sum(trainer.num_val_batches),
            )

    result = small_fit(tmp_path / "run", epochs=1, gradient_clip_val=0.5, accumulate_grad_batches=3, callbacks=[Look()])
    assert told == {"clip": 0.5, "accumulate": 3, "train": 6, "val": 3}
    assert result.summary["global_step"] == 2


@pytest.mark.flag("limit_test_batches")
def test_limit_test_batches(tmp_path: Path) -> None:
    from small_runs import rows

    small_fit(tmp_path / "run", epochs=1, test_split=0.2, limit_test_batches=2)
    assert len(rows(tmp_path / "run", split="test")) == 2 * 32


@pytest.mark.flag("fast_dev_run")
def test_fast_dev_run(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", epochs=5, fast_dev_run=True, test_split=0.1, logger=["csv"])
    assert result.summary["status"] == "finished"
    assert result.summary["global_step"] == 1
    assert "test/accuracy" in result.metrics
    assert result.summary["checkpoints"]["last"] is None


@pytest.mark.flag("logger", "log_dir")
def test_loggers_write_to_the_log_folder(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    small_fit(tmp_path / "run", IRIS, logger=["csv", "tensorboard"], log_dir=str(logs), log_every_n_steps=2)
    text = (logs / "csv" / "attempt-1" / "metrics.csv").read_text()
    assert "val/accuracy" in text.splitlines()[0]
    assert "train/loss_step" in text.splitlines()[0]
    assert list((logs / "tensorboard").glob("events*"))


@pytest.mark.flag("use_wandb")
@pytest.mark.parametrize("flags", [{"use_wandb": True}, {"logger": ["mlflow"]}, {"logger": ["wandb", "csv"]}])
def test_a_missing_extra_is_said_before_anything_is_made(flags: dict[str, Any], tmp_path: Path) -> None:
    package = "mlflow" if "mlflow" in flags.get("logger", []) else "wandb"
    if __import__("importlib.util").util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(MissingExtra, match=rf"pip install 'litscope\[{package}\]'"):
        small_fit(tmp_path / "run", IRIS, **flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
@pytest.mark.flag("profiler")
@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_the_profiler_leaves_its_report(profiler: str, tmp_path: Path) -> None:
    small_fit(tmp_path / "run", IRIS, epochs=1, profiler=profiler)
    reports = list(RunDir(tmp_path / "run").logs.glob("*profile*"))
    assert reports
    assert sum(report.stat().st_size for report in reports) > 500


@pytest.mark.flag("class_weights")
def test_class_weights(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("x,label\n" + "".join(f"{i},{'a' if i % 4 else 'b'}\n" for i in range(40)))
    recipe = recipe_from_keywords(dataset=str(table), val_split=0.0)
    data = make_data(recipe, make_source(recipe)).open()
    assert class_weights("none", data) is None
    balanced = class_weights("balanced", data)
    np.testing.assert_allclose(balanced, [20 / 30, 20 / 10])
    file = tmp_path / "w.json"
    file.write_text('{"a": 1, "b": 3}')
    given = class_weights(str(file), data)
    np.testing.assert_allclose(np.array(given) / given[0], [1, 3])
    np.testing.assert_allclose(np.dot(given, [30, 10]) / 40, 1)
    (tmp_path / "w.csv").write_text("class,weight\na,1\nb,3\n")
    assert class_weights(str(tmp_path / "w.csv"), data) == given
    for text, message in (
        ('{"a": 1}', "no weight for 'b'"),
        ('{"a": 1, "B": 2}', "'B' is not a class"),
        ("7", "neither"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            class_weights(str(file), data)


@pytest.mark.flag("num_classes", "in_channels")
@pytest.mark.parametrize("flags", [{"num_classes": 11}, {"in_channels": 3}])
def test_counts_are_checked_against_the_data(flags: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the data have"):
        small_fit(tmp_path / "run", DIGITS, **flags)


def test_without_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No data set"):
        fit(run_dir=str(tmp_path / "run"))


def test_a_recipe_or_flags_but_not_both() -> None:
    with pytest.raises(ConfigError, match="either"):
        fit("iris", recipe=Recipe())


def test_a_callback_of_the_other_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pytorch_lightning"):
        small_fit(tmp_path / "run", IRIS, callbacks=[object()])


def test_no_warning_reaches_the_person(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_fit(tmp_path / "run", IRIS, logger=["csv"], num_workers=0)


def test_without_validation_the_training_loss_decides(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", IRIS, val_split=0.0)
    assert result.summary["monitor"] == "train/loss"
    assert "train/loss" in result.metrics
    assert result.summary["confused_pairs"] == []


def test_a_failed_run_says_so(tmp_path: Path) -> None:
    class Fail(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == 7:
                raise ValueError("something broke")

    with pytest.raises(ValueError, match="something broke"):
        small_fit(tmp_path / "run", callbacks=[Fail()])
    summary = json.loads(RunDir(tmp_path / "run").summary.read_text())
    assert (summary["status"], summary["message"], summary["epochs"]) == ("failed", "something broke", 1)
    assert fit(resume=str(tmp_path / "run")).summary["status"] == "finished"
    assert len(read_lines(RunDir(tmp_path / "run").attempts)) == 2


def test_confused_pairs() -> None:
    counts = np.array([[5, 2, 0], [0, 6, 3], [1, 0, 9]])
    assert confused_pairs(counts, ("a", "b", "c")) == [
        {"label": "b", "prediction": "c", "count": 3, "share": 0.3333},
        {"label": "a", "prediction": "b", "count": 2, "share": 0.2857},
        {"label": "c", "prediction": "a", "count": 1, "share": 0.1},
    ]


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 0)])
def test_best_epoch(mode: str, best: int) -> None:
    rows = [
        {"epoch": i, "step": i, "epoch_s": 1.0, "samples_per_s": 10.0, "val/f1": value}
        for i, value in enumerate([0.2, 0.9, 0.9, None])
    ]
    facts = metric_facts(rows, "val/f1", mode)
    assert facts["best_epoch"] == best
    assert facts["samples_per_s"] == 10.0
    assert metric_facts([], "val/f1", mode)["best_epoch"] is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"arch": "resnet81"}, "resnet81"),
        ({"num_classes": 7}, "--num-classes 7"),
        ({"optimizer": "adamx"}, "adamx"),
    ],
)
def test_a_mistake_leaves_no_run_behind(in_tmp: Path, flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        fit("digits", run_dir="r", accelerator="cpu", epochs=1, **flags)
    assert not Path("r").exists()


@pytest.mark.slow
def test_a_run_goes_on_from_another_directory(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    np.savez(in_tmp / "table.npz", X=rows, y=(rows[:, 0] > 0).astype(np.int64))
    small_fit(in_tmp / "run", IRIS, dataset="table.npz", epochs=1)
    (in_tmp / "elsewhere").mkdir()
    monkeypatch.chdir(in_tmp / "elsewhere")
    assert fit(resume=str(in_tmp / "run"), epochs=2).summary["epochs"] == 2
    assert not any(Path.cwd().iterdir())
