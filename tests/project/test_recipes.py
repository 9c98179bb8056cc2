"""The recipes do what their heads say, on the real data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from litscope.config.flags import parse
from litscope.data.manifest import Manifest
from litscope.models.networks.packaged import packaged_file
from litscope.training.fit import fit, run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_says_its_command_and_what_was_measured(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"litscope fit --config recipes/{path.name}" in line for line in head)
    assert any("Measured" in line for line in head)
    parse(["--config", str(path)]).check()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mnist", "cifar10"])
def test_the_speed_scripts_run_both_arms_at_a_small_size(task: str, shared_data: Path, in_tmp: Path) -> None:
    small = ["--seeds", "1", "--epochs", "1", "--limit-batches", "2", "--data", str(shared_data)]
    script = [sys.executable, str(RECIPES / f"{task}_speed.py"), *small]
    done = subprocess.run(script, capture_output=True, text=True, check=True, timeout=600)
    line = json.loads(done.stdout.splitlines()[-1])
    assert [row["side"] for row in line["rows"]] == ["litscope", "plain Lightning"]
    assert all(0 <= row["accuracy"] <= 1 and row["wall_s"] > 0 for row in line["rows"])


@pytest.mark.slow
def test_the_script_on_photographs_compares_what_is_trained(shared_data: Path, in_tmp: Path) -> None:
    if packaged_file("tf_efficientnet_lite0") is None:
        pytest.skip("litscope[weights] is not installed")
    words = ["--seeds", "1", "--cells", "signs-20", "spacewarps", "--kinds", "head", "--data", str(shared_data)]
    script = [sys.executable, str(RECIPES / "photographs.py"), *words, "--rows", "rows.jsonl"]
    done = subprocess.run(script, capture_output=True, text=True, check=True, timeout=600)
    rows = [json.loads(line) for line in (in_tmp / "rows.jsonl").read_text().splitlines()]
    assert [(row["cell"], row["arm"]) for row in rows] == [("signs-20", "head"), ("spacewarps", "head")]
    assert rows[0]["accuracy"] > 0.7, "a guess gives a tenth"
    assert 0.4 < rows[1]["auroc"] <= 1
    assert "| signs-20 | head |" in done.stdout
    again = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60)
    assert again.stdout == done.stdout, "nothing is trained twice"


@pytest.mark.slow
def test_mnist_reaches_99_percent_in_five_epochs(mnist_dir: Path, in_tmp: Path) -> None:
    line = ["--config", str(RECIPES / "mnist.yaml"), "--data-dir", str(mnist_dir), "--run-dir", "run"]
    result = run_recipe(parse(line))
    assert result.summary["epochs"] <= 5
    assert result.metrics["test/accuracy"] >= 0.99


@pytest.mark.slow
def test_iris_reaches_95_percent(in_tmp: Path) -> None:
    result = run_recipe(parse(["--config", str(RECIPES / "iris.yaml"), "--run-dir", "run"]))
    assert result.metrics["test/accuracy"] >= 0.95


@pytest.mark.slow
def test_space_warps_trains_on_grouped_splits(spacewarps: Path, in_tmp: Path) -> None:
    line = [
        "--config",
        str(RECIPES / "spacewarps.yaml"),
        "--dataset",
        str(spacewarps / "samples.csv"),
        "--run-dir",
        "run",
    ]
    result = run_recipe(parse([*line, "--epochs", "1"]))
    manifest = Manifest.read(result.run.manifest)
    assert manifest.groups is not None
    used = {split: set(np.asarray(manifest.groups)[manifest.ids(split)]) for split in ("train", "val", "test")}
    assert not used["train"] & used["val"]
    assert not used["train"] & used["test"]
    assert result.summary["num_samples"]["train"] == len(manifest.ids("train")) < len(manifest)


@pytest.mark.slow
def test_cifar10_trains_in_bfloat16_and_resumes(cifar10_small: Path, in_tmp: Path) -> None:
    line = ["--config", str(RECIPES / "cifar10.yaml"), "--dataset", str(cifar10_small), "--run-dir", "run"]
    run_recipe(parse([*line, "--epochs", "1", "--batch-size", "32"]))
    result = fit(resume="run", epochs=2)
    assert result.summary["precision"] == "bf16-mixed"
    assert result.summary["epochs"] == 2


@pytest.mark.slow
def test_the_story_of_the_lenses_runs_to_its_end(spacewarps: Path, in_tmp: Path) -> None:
    """Every command of it, in small; the numbers are those of docs/lenses.md at its size alone."""
    words = [
        "--data",
        str(spacewarps / "samples.csv"),
        "--out",
        "lenses",
        "--epochs",
        "1",
        "--folds",
        "2",
        "--members",
        "2",
    ]
    script = [sys.executable, str(RECIPES / "spacewarps.py"), *words]
    done = subprocess.run(script, capture_output=True, text=True, check=True, timeout=900)
    told = done.stdout
    assert len([line for line in told.splitlines() if line.startswith("$ litscope ")]) == 13
    assert "TPR at FPR 0.001                -  68 negatives are too few" in told
    assert "learned on 256 out-of-fold predictions" in told
    folds = pq.read_table(in_tmp / "lenses" / "runs" / "cv-1" / "out-of-fold.parquet")
    assert len(set(zip(folds["group"].to_pylist(), folds["fold"].to_pylist(), strict=True))) == 237, "no group in two"
    ambiguous = pacsv.read_csv(in_tmp / "lenses" / "ambiguous.csv")
    assert ambiguous.num_rows == 87
    assert {"prediction", "set", "p_1"} <= set(ambiguous.column_names)
    tables = [line for line in told.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [line.split(" | ")[0][2:] for line in tables] == [
        "0.3",
        "0.7",
        "2.0",
        "2.3",
        "2.7",
        "3.0",
        "1.0",
        "1.3",
        "1.7",
    ]
    assert sum(int(line.split(" | ")[1]) for line in tables) == 256 + 87
