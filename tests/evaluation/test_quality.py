"""What `evaluate` says of probabilities, recomputed from predictions with other tools; and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss
from small_runs import IRIS, small_fit

from litscope.cli import main
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError
from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.predict import predict
from litscope.rundir import RunDir

CLASSES = ["setosa", "versicolor", "virginica"]


@pytest.fixture(scope="module")
def iris_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("iris") / "run"
    small_fit(run, {**IRIS, "epochs": 8}, val_split=0.3, test_split=0.3)
    return run


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """A table of two classes that overlap, in groups of ten rows."""
    folder = tmp_path_factory.mktemp("two")
    random = np.random.default_rng(0)
    is_positive = random.random(900) < 0.3
    rows = pd.DataFrame({"a": random.normal(is_positive, 1.0), "b": random.normal(size=900)})
    rows["label"] = np.where(is_positive, "yes", "no")
    rows["group"] = np.arange(900) // 10
    rows.to_csv(folder / "data.csv", index=False)
    flags = {"dataset": str(folder / "data.csv"), "target": "label", "group_column": "group"}
    small_fit(folder / "run", {**IRIS, "epochs": 3}, **flags, val_split=0.3, test_split=0.3)
    return folder / "run"


def predicted(run, split, classes):
    """(N, C) probabilities and (N,) labels, as `predict` gives them."""
    table = predict(run, split=split).table
    probs = np.stack([table[f"p_{name}"].to_numpy() for name in classes], 1).astype(float)
    probs /= probs.sum(1, keepdims=True)  # they are float32
    return probs, np.array([classes.index(name) for name in table["label"].to_pylist()])


def test_the_figures_are_those_of_the_predictions(iris_run):
    found = evaluate(iris_run)
    figures = found["quality"]["figures"]
    probs, label = predicted(iris_run, "test", CLASSES)
    assert figures["nll"]["value"] == pytest.approx(log_loss(label, probs), abs=1e-5)
    assert figures["nll"]["value"] == pytest.approx(found["metrics"]["test/loss"], abs=1e-5)
    assert figures["accuracy"]["value"] == pytest.approx((probs.argmax(1) == label).mean())
    assert figures["brier"]["value"] == pytest.approx(((probs - np.eye(3)[label]) ** 2).sum(1).mean(), abs=1e-5)
    assert figures["nll"]["low"] < figures["nll"]["value"] < figures["nll"]["high"]


def test_a_temperature_is_the_best_one_of_the_validation_split(iris_run):
    quality = evaluate(iris_run, calibrate="temperature")["quality"]
    probs, label = predicted(iris_run, "val", CLASSES)
    temperature = quality["calibration"]["temperature"]

    def nll(t):
        scaled = np.exp(np.log(probs) / t)
        return log_loss(label, scaled / scaled.sum(1, keepdims=True))

    assert nll(temperature) < min(nll(temperature * 1.05), nll(temperature / 1.05))
    assert quality["calibration"]["num_samples"] == len(label)
    before = evaluate(iris_run)["quality"]["figures"]
    assert quality["calibration"]["before"] == {name: each["value"] for name, each in before.items()}
    assert quality["figures"]["accuracy"]["value"] == before["accuracy"]["value"]


def test_sets_are_those_of_the_predictions(iris_run):
    found = evaluate(iris_run, coverage=0.8)["quality"]["conformal"]
    others, label = predicted(iris_run, "val", CLASSES)
    scores = np.sort(1 - others[np.arange(len(label)), label])
    limit = scores[int(np.ceil((len(label) + 1) * 0.8)) - 1]
    probs, label = predicted(iris_run, "test", CLASSES)
    sets = 1 - probs <= limit + 1e-7
    assert found["coverage"]["value"] == pytest.approx(sets[np.arange(len(label)), label].mean())
    assert found["mean_set_size"] == pytest.approx(sets.sum(1).mean())


def test_a_threshold_is_chosen_on_one_split_and_measured_on_another(two_classes):
    found = evaluate(two_classes, threshold="precision:0.6")["quality"]["threshold"]
    others, label = predicted(two_classes, "val", ["no", "yes"])
    called = others[:, 1] >= found["threshold"] - 1e-7
    assert label[called].mean() >= 0.6
    probs, label = predicted(two_classes, "test", ["no", "yes"])
    called = probs[:, 1] >= found["threshold"] - 1e-7
    assert found["precision"] == pytest.approx(label[called].mean())
    assert found["recall"] == pytest.approx(called[label == 1].mean())


def test_two_accuracies_are_told_apart(two_classes, capsys):
    assert main(["evaluate", str(two_classes), "--threshold", "recall:0.95"]) == 0
    out = capsys.readouterr().out
    shown = {
        line.split("  ")[0]: line.split()[-1 if "test/" in line else 3]
        for line in out.splitlines()
        if "accuracy" in line
    }
    found = evaluate(two_classes, threshold="recall:0.95")
    assert shown["test/accuracy"] == f"{found['metrics']['test/accuracy']:.4f}"
    assert shown["accuracy at 0.5"] == f"{found['quality']['figures']['accuracy']['value']:.4f}"
    assert shown["test/accuracy"] != shown["accuracy at 0.5"]


def test_what_few_negatives_do_not_allow_says_why(two_classes):
    figures = evaluate(two_classes)["quality"]["figures"]
    rate = figures["tpr_at_fpr_0.001"]
    assert rate["value"] is None
    assert "too few" in rate["reason"]
    assert 0 <= figures["tpr_at_0_false_positives"]["value"] <= figures["tpr_at_10_false_positives"]["value"] <= 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"coverage": 1.5}, "between 0 and 1"),
        ({"calibrate": "heat"}, "temperature or vector"),
        ({"coverage": 0.9, "conformal": "best"}, "lac, aps, raps"),
        ({"threshold": "precision"}, "precision:0.9"),
        ({"threshold": "recall:95"}, "recall:0.95"),
        ({"threshold": "f1"}, "for two classes, and the run has 3"),
        ({"calibrate": "temperature", "split": "val"}, "Measure another split"),
        ({"coverage": 0.9, "split": "all"}, "Measure another split"),
    ],
)
def test_what_cannot_be_is_refused(iris_run, words, told):
    with pytest.raises(ConfigError, match=told):
        evaluate(iris_run, **words)


def test_what_is_learned_on_labels_that_nobody_has_verified_is_told(iris_run, capsys):
    evaluate(iris_run, calibrate="temperature")
    assert "tagged 'verified', so all count" in capsys.readouterr().err


def test_how_sets_are_made_without_sets(iris_run, capsys):
    assert main(["evaluate", str(iris_run), "--by-class"]) == 2
    assert "--coverage 0.9 asks for them" in capsys.readouterr().err


def test_the_command_prints_and_draws(iris_run, tmp_path, capsys):
    words = ["--calibrate", "vector", "--coverage", "0.8", "--by-class", "--figures", str(tmp_path / "figures")]
    assert main(["evaluate", str(iris_run), *words]) == 0
    out = capsys.readouterr().out
    assert "scaled by a vector, from 45 validation samples: NLL" in out
    assert "0.8 was asked" in out
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert files == ["reliability.png", "risk_coverage.png"]


def test_another_data_set_is_measured_with_what_the_runs_own_validation_says(iris_run, tmp_path, capsys):
    table = pd.DataFrame(np.random.default_rng(0).normal(3, 1, (40, 4)), columns=columns_of(iris_run))
    table["label"] = np.resize(CLASSES, 40)
    table.to_csv(tmp_path / "other.csv", index=False)
    own = evaluate(iris_run, calibrate="temperature")["quality"]["calibration"]
    found = evaluate(iris_run, dataset=str(tmp_path / "other.csv"), calibrate="temperature")["quality"]["calibration"]
    assert (found["temperature"], found["num_samples"]) == (own["temperature"], own["num_samples"])


def columns_of(run):
    """Names of the features of a run on a table."""
    return Manifest.read(RunDir(run).manifest).encoding["feature_names"]
