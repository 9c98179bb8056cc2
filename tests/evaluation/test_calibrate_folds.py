"""What is learned of out-of-fold predictions in place of a small validation split, for a run of the same data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from litscope.cli import main
from litscope.config.flags import recipe_from_keywords
from litscope.errors import ConfigError, DataError, RunError
from litscope.evaluation.calibrate import calibrate
from litscope.evaluation.evaluate import evaluate
from litscope.experiments.cv import cross_validate
from litscope.ledger.journal.actions import submit
from litscope.ledger.journal.verbs import request
from litscope.rundir import RunDir
from litscope.training.fit import fit

FLAGS: dict[str, Any] = {
    "arch": "mlp",
    "epochs": 20,
    "lr": 2e-2,
    "batch_size": 64,
    "accelerator": "cpu",
    "logger": ["none"],
    "progress": False,
    "target": "label",
    "group_column": "patient",
    "test_split": 0.4,
    "split_seed": 3,
}

SHORT: dict[str, Any] = {"epochs": 1, "batch_size": 300}
"""Folds that are refused for other reasons than what they predict."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that overlap, rows in pairs; a run with 36 samples to validate on, and a cross-validation of 356."""
    folder = tmp_path_factory.mktemp("folds")
    random = np.random.default_rng(0)
    is_positive = random.random(600) < 0.3
    rows = pd.DataFrame({name: random.normal(is_positive * (name == "a"), 1.0) for name in "abcdef"})
    rows["label"], rows["patient"] = np.where(is_positive, "yes", "no"), np.arange(600) // 2
    rows.to_csv(folder / "data.csv", index=False)
    given = {**FLAGS, "dataset": str(folder / "data.csv"), "monitor": "train/loss"}
    fit(**given, val_split=0.1, run_dir=str(folder / "run"))
    cross_validate(recipe_from_keywords(**given, run_dir=str(folder / "cv")), 3, is_nested=False)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.mark.slow
def test_it_is_learned_of_all_that_the_folds_predict(made: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = pq.read_table(made / "cv" / "out-of-fold.parquet").to_pandas()
    count = len(told)
    assert 340 < count < 380
    logits, label = np.log(told[["p_no", "p_yes"]].to_numpy(float)), (told["label"] == "yes").to_numpy()

    def probs(temperature: float) -> np.ndarray:
        scaled = np.exp(logits / temperature)
        return np.asarray(scaled / scaled.sum(1, keepdims=True))

    best = minimize_scalar(lambda t: log_loss(label, probs(t)), bounds=(0.2, 9), method="bounded").x
    assert (
        main(["calibrate", str(run), "--folds", str(made / "cv"), "--threshold", "fpr:0.1", "--coverage", "0.9"]) == 0
    )
    out, err = capsys.readouterr()
    assert f"learned on {count} out-of-fold predictions" in out
    assert "have their last weights" in err
    readout = evaluate(run)["readout"]
    assert 1 / readout["scale"][0] == pytest.approx(best, rel=1e-3)
    assert readout["fitted_on"]["split"] == "folds"
    score = probs(best)[:, 1]
    called = score >= readout["threshold"]
    allowed = [t for t in np.unique(score) if (score >= t)[~label].mean() <= 0.1]
    assert called[~label].mean() <= 0.1
    assert called[label].mean() == pytest.approx(max((score >= t)[label].mean() for t in allowed))
    of_label = np.sort(1 - probs(best)[np.arange(count), label.astype(int)])
    assert readout["sets"]["limit"][0] == pytest.approx(of_label[int(np.ceil((count + 1) * 0.9)) - 1], abs=1e-6)
    assert main(["evaluate", str(run)]) == 0
    out, err = capsys.readouterr()
    assert f"from {count} out-of-fold predictions" in out
    assert "flatters" not in err, "the test split is in no fold"
    assert main(["evaluate", str(run), "--split", "val"]) == 0
    assert "They are among what is measured here, which flatters it." in capsys.readouterr().err


def test_the_last_weights_are_those_of_the_folds(made: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate(run, folds=made / "cv", checkpoint="last")
    assert "have their last weights" not in capsys.readouterr().err


def test_what_was_decided_counts(made: Path, run: Path) -> None:
    told = pq.read_table(made / "cv" / "out-of-fold.parquet")
    ids = told["sample_id"].to_pylist()
    submit(RunDir(run), request("relabel", sample_id=ids[:40], label="yes"))
    submit(RunDir(run), request("discard", sample_id=ids[40:50]))
    found = calibrate(run, folds=made / "cv", threshold="f1")
    assert found.readout is not None
    assert found.readout.fitted_on.num_samples == told.num_rows - 10
    plain = calibrate(run, folds=made / "cv", threshold="f1", source_labels=True)
    assert plain.readout is not None
    assert plain.readout.fitted_on.num_samples == told.num_rows
    assert plain.readout.threshold != found.readout.threshold


def other_split(made: Path, folder: Path) -> Path:
    given = {**FLAGS, "dataset": str(made / "data.csv"), **SHORT, "split_seed": 4}
    cross_validate(recipe_from_keywords(**given, run_dir=str(folder / "other")), 2)
    return folder / "other"


def other_classes(made: Path, folder: Path) -> Path:
    rows = pd.read_csv(made / "data.csv").replace({"label": {"yes": "lens"}})
    rows.to_csv(folder / "lens.csv", index=False)
    given = {**FLAGS, "dataset": str(folder / "lens.csv"), **SHORT}
    cross_validate(recipe_from_keywords(**given, run_dir=str(folder / "other")), 2)
    return folder / "other"


def other_data(made: Path, folder: Path) -> Path:
    rows = pd.read_csv(made / "data.csv")
    rows["a"] += 1
    rows.to_csv(folder / "moved.csv", index=False)
    given = {**FLAGS, "dataset": str(folder / "moved.csv"), **SHORT}
    cross_validate(recipe_from_keywords(**given, run_dir=str(folder / "other")), 2)
    return folder / "other"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (other_split, ConfigError, "samples of the test split of .* which could no longer judge"),
        (other_classes, DataError, "its classes are lens, no, those of .*run no, yes"),
        (other_data, DataError, "predicts no sample of"),
        (lambda made, _: made / "run", RunError, "no `litscope cv` was completed there"),
    ],
)
def test_what_does_not_belong_to_the_run_is_refused(
    make: Callable[[Path, Path], Path], error: type[Exception], message: str, made: Path, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        calibrate(run, folds=make(made, tmp_path))
    assert evaluate(run)["readout"] is None
