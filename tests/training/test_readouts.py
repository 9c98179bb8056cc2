"""What is learned on validation samples, and when nothing is."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from small_runs import IRIS, assert_bit_equal, small_fit

from litscope.calls import cv
from litscope.config.calibration import Asked
from litscope.errors import ConfigError
from litscope.evaluation.calibrate import calibrate
from litscope.models.readout import READOUT
from litscope.rundir import RunDir
from litscope.training.fit import fit
from litscope.training.readouts import Answers, drawn_by_key, learn, limit_of, scaling_of


def answers(count, num_classes=3, too_sure=3.0, seed=0, first_id=0):
    """Logits that are `too_sure` times what would be the truth."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, num_classes))
    odds = softmax(logits, 1).cumsum(1)
    label = (random.random(count)[:, None] > odds).sum(1).clip(max=num_classes - 1)
    return Answers(np.arange(first_id, first_id + count), logits * too_sure, label)


def test_the_temperature_that_is_kept_is_the_one_that_was_put_in():
    found = learn(answers(4000), Asked("temperature"))
    assert found.readout.temperature == pytest.approx(3.0, rel=0.06)
    assert found.after < found.before


def test_where_all_are_right_nothing_tells_how_sure_to_be():
    of = answers(300)
    found = learn(Answers(of.sample_id, of.logits, of.logits.argmax(1)), Asked("temperature", coverage=0.9))
    assert found.readout.method == "none"
    assert "all of 300 validation samples are right" in found.notes[-1]
    assert found.readout.sets is not None


def test_one_that_is_worse_on_others_is_left_out():
    """Fourteen of fifteen are right, so whoever has not seen the fifteenth would be as sure as can be."""
    of = answers(15)
    label = of.logits.argmax(1)
    label[7] = (label[7] + 1) % 3
    found = learn(Answers(of.sample_id, of.logits, label), Asked("temperature"))
    assert found.readout.method == "none"
    assert "may not help on others" in found.notes[-1]
    measured = learn(Answers(of.sample_id, of.logits, label), Asked("temperature"), is_kept=False)
    assert measured.readout.method == "temperature"


def test_samples_of_one_group_are_never_judged_by_their_own():
    """Two groups are fewer than the folds: nobody can tell."""
    of = answers(300)
    groups = np.where(of.sample_id < 150, "group a", "group b").astype(object)
    found = learn(Answers(of.sample_id, of.logits, of.label, groups), Asked("temperature"))
    assert "too few to learn a temperature from" in found.notes[-1]


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
@pytest.mark.parametrize("by_class", [False, True])
def test_sets_hold_the_true_class_as_often_as_was_asked(method, by_class):
    asked = Asked("temperature", coverage=0.9, conformal=method, by_class=by_class)
    readout = learn(answers(20_000), asked).readout
    others = answers(20_000, seed=1, first_id=20_000)
    sets = limit_of(readout.sets).sets(scaling_of(readout).probabilities(others.logits), others.lot)
    assert sets[np.arange(20_000), others.label].mean() == pytest.approx(0.9, abs=0.01)


def test_a_threshold_lies_between_scores():
    of = answers(500, num_classes=2)
    readout = learn(of, Asked("temperature", threshold="f1")).readout
    scores = scaling_of(readout).probabilities(of.logits)[:, 1]
    assert np.abs(scores - readout.threshold).min() > 0
    noisy = scores + np.random.default_rng(0).normal(0, 1e-9, 500)
    assert np.array_equal(noisy >= readout.threshold, scores >= readout.threshold)


def test_another_scaling_leaves_nothing_of_what_was_known():
    of = answers(1000, num_classes=2)
    base = learn(of, Asked("temperature", coverage=0.9, threshold="f1")).readout
    other = learn(of, Asked("vector"), base=base).readout
    assert (other.threshold, other.sets) == (None, None)
    more = learn(of, Asked(coverage=0.8), base=base).readout
    assert (more.threshold, more.scale, more.sets.coverage) == (base.threshold, base.scale, 0.8)


def test_what_is_drawn_for_a_key_is_even_and_the_same_each_time():
    keys = [f"folder/{i}.png" for i in range(5000)]
    drawn = drawn_by_key(keys)
    assert np.histogram(drawn, 10, (0, 1))[0].min() > 400
    assert np.array_equal(drawn_by_key(keys[::-1]), drawn[::-1])


# ---- at the end of a run ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A run on two classes that overlap, which learned them by heart and was calibrated at its end; and its lines."""
    folder = tmp_path_factory.mktemp("two")
    random = np.random.default_rng(0)
    is_positive = random.random(900) < 0.3
    rows = pd.DataFrame({"a": random.normal(is_positive, 1.0), "b": random.normal(size=900)})
    for name in "cdefgh":
        rows[name] = random.normal(size=900)
    rows["label"] = np.where(is_positive, "yes", "no")
    rows.to_csv(folder / "data.csv", index=False)
    flags = {"dataset": str(folder / "data.csv"), "target": "label", "lr": 1e-2, "epochs": 25, "monitor": "train/loss"}
    small_fit(folder / "plain", {**IRIS, **flags}, val_split=0.4)
    words = {"calibrate": "temperature", "threshold": "f1", "coverage": 0.9}
    small_fit(folder / "run", {**IRIS, **flags}, val_split=0.4, **words)
    return folder


def kept(run):
    return torch.load(RunDir(run).best_checkpoint, weights_only=True).get(READOUT)


@pytest.mark.flag("--calibrate", "--threshold", "--coverage")
def test_a_run_keeps_at_its_end_what_the_command_would(calibrated):
    found = kept(calibrated / "run")
    assert found["method"] == "temperature"
    assert found["scale"][0] < 1
    assert (found["aim"], found["sets"]["coverage"]) == ("f1", 0.9)
    again = calibrate(calibrated / "plain", threshold="f1", coverage=0.9).readout.to_dict()
    assert again["fitted_on"] == found["fitted_on"]
    assert again["scale"] == pytest.approx(found["scale"], rel=1e-4)
    assert again["threshold"] == pytest.approx(found["threshold"], abs=1e-4)


def test_and_trains_as_it_would_without(calibrated):
    one, other = (torch.load(RunDir(calibrated / name).last_checkpoint, weights_only=True) for name in ("plain", "run"))
    assert_bit_equal(one, other)
    summaries = [json.loads(RunDir(calibrated / name).summary.read_text()) for name in ("plain", "run")]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    assert READOUT not in other


def test_the_best_weights_keep_it_until_others_are_better(calibrated, tmp_path):
    shutil.copytree(calibrated / "run", tmp_path / "run")
    before = kept(tmp_path / "run")
    fit(resume=str(tmp_path / "run"), epochs=26, calibrate="none", threshold=None, coverage=None)
    best = json.loads(RunDir(tmp_path / "run").summary.read_text())["best_epoch"]
    assert kept(tmp_path / "run") == (None if best == 25 else before)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"calibrate": "temperature", "save_top_k": 0}, "--save-top-k 0 keeps no best weights"),
        ({"threshold": "f1"}, "for two classes"),
        ({"threshold": "recall:95"}, "recall:0.95"),
        ({"coverage": 1.0}, "less than 1"),
        ({"calibrate": "temperature", "val_split": 0.0}, "there are none"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_training(tmp_path, words, told):
    with pytest.raises(ConfigError, match=told):
        small_fit(tmp_path / "run", IRIS, **words)
    assert not (tmp_path / "run").exists()


def test_folds_are_not_calibrated_on_themselves():
    for words in ({"calibrate": "vector"}, {"threshold": "f1"}, {"coverage": 0.9}):
        with pytest.raises(ConfigError, match="the fold to be predicted"):
            cv("iris", **words)
