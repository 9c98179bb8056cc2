"""An ensemble of cross-validations: its rule is learned of what they predicted out of fold, and kept by all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import softmax

import litscope
from litscope.errors import ConfigError, DataError
from litscope.evaluation.opened_run import open_run
from litscope.evaluation.predict import predict
from litscope.experiments.ensemble import ensemble
from litscope.experiments.ensemble_members import open_members
from litscope.ledger.journal.actions import submit
from litscope.ledger.journal.verbs import request
from litscope.rundir import RunDir

QUICK: dict[str, Any] = {"num_workers": 0, "accelerator": "cpu"}
CV: dict[str, Any] = {
    "folds": 3, "epochs": 2, "batch_size": 64, "lr": 3e-3, "limit_train_batches": 8, "accelerator": "cpu",
    "logger": ["none"], "progress": False, "split_seed": 0, "test_split": 0.1, "num_workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def cvs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of digits: convnets, trained one after the other, and MLPs, trained in one run."""
    base = tmp_path_factory.mktemp("cvs")
    found = [
        litscope.cv("digits", arch="convnet", seed=1, run_dir=str(base / "a"), **{**CV, "lr": 0.005}),
        litscope.cv("digits", arch="mlp", hidden=[16], seed=2, run_dir=str(base / "b"), **{**CV, "lr": 0.05}),
    ]
    assert [one.is_at_once for one in found] == [False, True]
    return [base / "a", base / "b"]


def out_of_fold(cvs: list[Path]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(K, N, C) probabilities, (N,) labels and the names of the classes, of the samples of all files."""
    tables = [pd.read_parquet(cv / "out-of-fold.parquet") for cv in cvs]
    classes = sorted(tables[0]["label"].unique())
    assert tables[0]["sample_id"].equals(tables[1]["sample_id"])
    probs = np.stack([table[[f"p_{name}" for name in classes]].to_numpy(float) for table in tables])
    return probs, tables[0]["label"].map(classes.index).to_numpy(), classes


def probabilities(run: Path, checkpoint: str = "best") -> np.ndarray:
    """(N, C) of the test samples."""
    table = predict(run, split="test", checkpoint=checkpoint, **QUICK).table
    return np.stack([table[f"p_{number}"].to_numpy() for number in range(10)], 1).astype(float)


def of_folds(cv: Path) -> list[np.ndarray]:
    """What each network of the convnets says of the test samples."""
    return [probabilities(cv / f"fold-{number}", "last") for number in range(3)]


def nll(probs: np.ndarray, label: np.ndarray) -> float:
    return float(-np.log(probs[np.arange(len(label)), label]).mean())


@pytest.mark.slow
def test_weights_are_learned_out_of_fold_and_shared_by_the_folds(cvs: list[Path], tmp_path: Path) -> None:
    found = ensemble(cvs, "weighted", tmp_path / "joined", **QUICK)
    probs, label, _ = out_of_fold(cvs)
    best = minimize(
        lambda x: nll(x[0] * probs[0] + (1 - x[0]) * probs[1], label), [0.5], bounds=[(1e-6, 1 - 1e-6)], tol=1e-12
    )
    weights = [cv.weight for cv in found.cvs]
    assert min(weights) > 0.02  # both count
    assert weights == pytest.approx([best.x[0], 1 - best.x[0]], abs=0.01)
    assert nll(weights[0] * probs[0] + weights[1] * probs[1], label) == pytest.approx(best.fun, abs=1e-5)
    assert (found.judged, found.num_judged, found.num_left_out) == ("folds", len(label), 0)
    assert found.fusion.weights == pytest.approx([weights[0] / 3] * 3 + [weights[1]])
    assert [cv.figures["accuracy"] for cv in found.cvs] == pytest.approx((probs.argmax(2) == label).mean(1).tolist())

    one = np.mean(of_folds(cvs[0]), axis=0)
    other = probabilities(cvs[1] / "folds", "last")  # itself the mean of its networks
    np.testing.assert_allclose(probabilities(tmp_path / "joined"), weights[0] * one + weights[1] * other, atol=2e-5)

    told = json.loads((tmp_path / "joined" / "ensemble.json").read_text())
    assert [cv["name"] for cv in told["cvs"]] == [str(cv) for cv in cvs]
    assert told["judged"] == "folds"
    assert told["against_best"]["nll"]["best_member"] in [str(cv) for cv in cvs]
    assert f"folds: {len(label):,} samples that each cross-validation predicted out of fold" in "\n".join(found.lines())
    kept = json.loads((tmp_path / "joined" / "summary.json").read_text())["metrics"]["best"]
    assert "folds/accuracy" not in kept  # these are not of the network that is kept


@pytest.mark.slow
def test_mlps_of_images_predict_the_fold_that_each_has_left_out(cvs: list[Path]) -> None:
    opened = open_run(cvs[1] / "folds", "last", accelerator="cpu")
    table = pd.read_parquet(cvs[1] / "out-of-fold.parquet")
    data, _ = opened.find_data()
    images = torch.from_numpy(data.source.reader.array[table["sample_id"].to_numpy()]).view(-1, 1, 8, 8)
    with torch.inference_mode():
        told = opened.predictor.eval().own_logits(images).softmax(2).numpy()
    own = told[table["fold"].to_numpy(), np.arange(len(table))]
    np.testing.assert_allclose(table[[f"p_{number}" for number in range(10)]], own, atol=1e-5)


@pytest.mark.slow
def test_of_nested_folds_the_best_weights_are_members_as_they_predicted(tmp_path: Path) -> None:
    own = {**CV, "folds": 2, "nested": True, "arch": "mlp", "epochs": 3}
    litscope.cv("digits", run_dir=str(tmp_path / "cv"), **own)
    for number, member in enumerate(open_members([tmp_path / "cv"])):
        assert member.network.checkpoint.samefile(RunDir(tmp_path / "cv" / f"fold-{number}").best_checkpoint)
    litscope.cv("iris", run_dir=str(tmp_path / "iris"), **own)
    with pytest.raises(DataError, match="Folds of a table that train one after the other scale its columns each"):
        open_members([tmp_path / "iris"])


@pytest.mark.slow
def test_stacked_scales_each_fold_by_its_cross_validations_temperature(cvs: list[Path], tmp_path: Path) -> None:
    found = ensemble(cvs, None, tmp_path / "joined", **QUICK)
    assert found.rule == "stacked"
    (w, v), (t, u) = ([getattr(cv, name) for cv in found.cvs] for name in ("weight", "temperature"))
    assert min(w, v) > 0.02  # both count
    probs, label, _ = out_of_fold(cvs)
    for of_one, temperature in zip(probs, (t, u), strict=True):
        scores = [nll(softmax(np.log(of_one) / (temperature * by), axis=1), label) for by in (0.97, 1.0, 1.03)]
        assert scores[1] == min(scores)
    one = np.mean([softmax(np.log(p) / t, axis=1) for p in of_folds(cvs[0])], axis=0)
    other = softmax(np.log(probabilities(cvs[1] / "folds", "last")) / u, axis=1)
    expected = softmax(np.log(w * one + v * other) / found.fusion.last_temperature, axis=1)
    np.testing.assert_allclose(probabilities(tmp_path / "joined"), expected, atol=2e-5)


@pytest.mark.slow
def test_cross_validations_that_do_not_fit_are_refused(cvs: list[Path], tmp_path: Path) -> None:
    other = {**CV, "split_seed": 7, "arch": "mlp", "hidden": [8], "epochs": 1}
    litscope.cv("digits", run_dir=str(tmp_path / "c"), **other)
    with pytest.raises(
        DataError, match=r"in other folds, or divided other data\. Cross-validate the same data.*--split"
    ):
        ensemble([cvs[0], tmp_path / "c"], "stacked", tmp_path / "no", **QUICK)
    with pytest.raises(
        ConfigError, match=r"one answer for each sample\. Of cross-validations weighted and stacked are"
    ):
        ensemble(cvs, "uncertainty_weighted", tmp_path / "no", **QUICK)
    with pytest.raises(ConfigError, match="give cross-validations alone, two or more"):
        ensemble([cvs[0]], "weighted", tmp_path / "no", **QUICK)
    assert not (tmp_path / "no").exists()
    found = ensemble([cvs[0], tmp_path / "c"], None, tmp_path / "mean", **QUICK)  # nobody asked for what is learned
    assert (found.rule, found.cvs) == ("mean", ())


@pytest.mark.slow
def test_decisions_of_the_first_count_and_others_are_refused(cvs: list[Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(cv, tmp_path / cv.name)) for cv in cvs]
    _, label, classes = out_of_fold(cvs)
    ids = pd.read_parquet(cvs[0] / "out-of-fold.parquet")["sample_id"].tolist()
    wrong = next(i for i in range(len(ids)) if classes[label[i]] != "3")
    submit(RunDir(copies[1] / "folds"), request("relabel", sample_id=[ids[wrong]], label="3"))
    with pytest.raises(ConfigError, match=rf"{copies[1]}/folds decides 1 sample otherwise than {copies[0]}/fold-0"):
        ensemble(copies, "weighted", tmp_path / "no", **QUICK)
    submit(RunDir(copies[0] / "fold-0"), request("relabel", sample_id=[ids[wrong]], label="3"))
    submit(RunDir(copies[0] / "fold-0"), request("discard", sample_id=ids[-5:]))
    found = ensemble(copies, "weighted", tmp_path / "joined", **QUICK)
    assert (found.num_judged, found.num_left_out) == (len(ids) - 5, 5)


@pytest.mark.slow
def test_twins_in_two_folds_and_groups(tmp_path: Path) -> None:
    """A network has seen a sample whose copy it was trained on; samples of one group are left out together."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame({name: random.normal(size=120) for name in "abc"})
    rows["y"] = np.where(rows["a"] + random.normal(size=120) > 0, "yes", "no")
    rows["who"] = np.arange(120) // 2
    rows = pd.concat([rows, rows.assign(who=rows["who"] + 60)[:12]], ignore_index=True)
    rows.to_csv(tmp_path / "data.csv", index=False)
    own = {**CV, "arch": "mlp", "target": "y", "group_column": "who", "test_split": 0.0}
    for name, hidden in (("a", [4]), ("b", [8])):
        litscope.cv(str(tmp_path / "data.csv"), run_dir=str(tmp_path / name), **{**own, "hidden": hidden})
    found = ensemble([tmp_path / "a", tmp_path / "b"], "weighted", tmp_path / "joined", **QUICK)
    fold = pd.read_parquet(tmp_path / "a" / "out-of-fold.parquet").set_index("sample_id")["fold"]
    apart = sum(fold[i] != fold[120 + i] for i in range(12))
    assert 0 < apart == found.num_left_out / 2
    assert found.num_judged == 132 - 2 * apart
    assert found.against["nll"].gain.num_units == len(set(rows["who"])) - apart  # pairs stay in one fold
