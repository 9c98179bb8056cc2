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
from litscope.evaluation.evaluate import evaluate
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


def test_what_may_be_chance_is_left_out():
    """It helps a little on others, but not by more than such a difference scatters."""
    of = answers(200, too_sure=1.4, seed=6)
    measured = learn(of, Asked("temperature"), is_kept=False)
    assert 0 < measured.before - measured.after < measured.error
    assert learn(of, Asked("temperature")).readout.is_plain


def test_a_vector_is_not_learned_without_samples_of_each_class():
    """It would push down a class that never comes, and the NLL of the samples that are there would be the better."""
    of = answers(2000)
    of = of.of(of.label < 2)
    found = learn(of, Asked("vector"), classes=["cat", "dog", "fox"])
    assert found.readout.is_plain
    assert "validation samples is of fox:" in found.notes[-2]
    assert "a class without samples does not tell: logits are read as they are" in found.notes[-1]
    assert found.after < found.before - found.error
    assert learn(of, Asked("temperature")).readout.method == "temperature"


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_vector_that_was_fitted_on_the_same_samples_leaves_sets_their_coverage(method, is_known):
    """Set on what it says of those, the limit would be too low: 0.886 of the true classes, in the mean."""
    held = []
    for seed in range(20):
        val, test = answers(300, 10, 2.5, seed), answers(1000, 10, 2.5, seed + 100, first_id=1000)
        asked = Asked("vector", coverage=0.9, conformal=method)
        base = None
        if is_known:
            base, asked = learn(val, Asked("vector")).readout, Asked(coverage=0.9, conformal=method)
        found = learn(val, asked, base=base, is_kept=not is_known).readout
        assert found.method == "vector"
        made = limit_of(found.sets).sets(scaling_of(found).probabilities(test.logits), test.lot)
        held.append(made[np.arange(1000), test.label].mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.008)


def test_too_few_samples_for_a_coverage_are_told():
    few = learn(answers(5), Asked(coverage=0.9))
    assert few.notes[-1] == "5 validation samples are too few for a coverage of 0.9: every class is in every set"
    of = answers(100, 12)
    told = learn(of.of(of.label != 3), Asked(coverage=0.99, by_class=True), classes=[f"c{i}" for i in range(12)]).notes
    assert "is of c3: what is learned may not hold" in told[-2]
    assert told[-1].startswith("the samples of c0, c1, c2, c3, c4 and 7 more are too few for a coverage of 0.99")


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
    flags = {"dataset": str(folder / "data.csv"), "target": "label", "lr": 3e-2, "epochs": 25, "monitor": "train/loss"}
    flags["batch_size"] = 60
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


def test_the_best_weights_keep_it_until_others_are_better(calibrated, tmp_path, capsys):
    shutil.copytree(calibrated / "run", tmp_path / "run")
    before = kept(tmp_path / "run")
    fit(resume=str(tmp_path / "run"), epochs=26, calibrate="none", threshold=None, coverage=None)
    best = json.loads(RunDir(tmp_path / "run").summary.read_text())["best_epoch"]
    assert kept(tmp_path / "run") == (None if best == 25 else before)
    assert ("now others are the best, which are not" in capsys.readouterr().err) == (best == 25)


@pytest.mark.slow
def test_a_run_says_that_its_calibration_is_gone_with_the_weights(tmp_path, capsys):
    run = tmp_path / "run"
    small_fit(run, IRIS, epochs=1, val_split=0.4)
    calibrate(run, coverage=0.8)
    evaluate(run, split="train", record=True)
    fit(resume=str(run), epochs=3)
    assert kept(run) is None
    told = capsys.readouterr().err
    assert "the best weights were calibrated, and now others are the best, which are not" in told
    assert f"To do it: litscope calibrate {run}" in told
    assert f"To keep it anew: litscope evaluate {run} --record" in told


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
