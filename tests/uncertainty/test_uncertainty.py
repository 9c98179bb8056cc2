"""Figures of probabilities: against closed forms, scikit-learn and torchmetrics, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from litscope.uncertainty import conformal
from litscope.uncertainty.bootstrap import intervals
from litscope.uncertainty.calibration import Reliability, classwise_error, reliability, reliability_of
from litscope.uncertainty.entropies import expected_entropy, mutual_information, predictive_entropy
from litscope.uncertainty.operating import operating_points
from litscope.uncertainty.proper import brier_scores, log_losses
from litscope.uncertainty.selective import risk_coverage
from litscope.uncertainty.temperature import fit_temperature, fit_vector


def drawn(count, num_classes=4, sharpness=2.0, seed=0):
    """Logits whose softmax is the truth: (N, C), and labels drawn by it."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, sharpness, (count, num_classes))
    odds = softmax(logits, 1).cumsum(1)
    label = (random.random(count)[:, None] > odds).sum(1).clip(max=num_classes - 1)
    return logits, label.astype(np.int64)


def test_entropies_of_what_is_certain_and_of_what_is_not():
    probs = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert predictive_entropy(probs) == pytest.approx([0.0, np.log(2)])
    disagree = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert mutual_information(disagree) == pytest.approx([np.log(2)])
    assert expected_entropy(disagree) == pytest.approx([0.0])
    agree = np.stack([probs, probs])
    assert mutual_information(agree) == pytest.approx([0.0, 0.0])
    assert expected_entropy(agree) == pytest.approx(predictive_entropy(probs))


def test_proper_scores_are_those_of_scikit_learn():
    logits, label = drawn(500)
    probs = softmax(logits, 1)
    assert log_losses(probs, label).mean() == pytest.approx(log_loss(label, probs, labels=range(4)))
    two = softmax(logits[:, :2], 1)
    is_one = (label > 1).astype(np.int64)
    # Over both classes, the squared distance counts twice.
    assert brier_scores(two, is_one).mean() == pytest.approx(2 * brier_score_loss(is_one, two[:, 1]))


def test_who_was_sure_and_wrong_has_a_finite_loss():
    assert np.isfinite(log_losses(np.array([[1.0, 0.0]]), np.array([1]))).all()


def test_parts_count_by_their_weights():
    """By hand: a part that is certain of each class, and one that knows nothing."""
    parts = np.array([[[1.0, 0.0]], [[0.5, 0.5]]])
    assert expected_entropy(parts, [0.75, 0.25]) == pytest.approx([0.25 * np.log(2)])
    whole = -0.875 * np.log(0.875) - 0.125 * np.log(0.125)
    assert mutual_information(parts, [0.75, 0.25]) == pytest.approx([whole - 0.25 * np.log(2)])
    assert mutual_information(parts, [0.5, 0.5]) == pytest.approx(mutual_information(parts))


def test_the_calibration_error_of_two_bins_by_hand():
    found = reliability([0.6, 0.6, 0.9, 0.9], [True, False, True, True], num_bins=2)
    assert found.count.tolist() == [2, 2]
    assert found.error == pytest.approx((0.1 + 0.1) / 2)


def test_with_a_bin_for_each_value_it_is_that_of_torchmetrics():
    """Bins of equal width and of equal mass are the same where each holds one value as often as the others."""
    random = np.random.default_rng(3)
    sure = np.repeat(np.arange(10) / 20 + 0.525, 50)
    right = random.random(500) < sure
    probs = np.stack([sure, 1 - sure], 1)
    label = np.where(right, 0, 1)
    theirs = multiclass_calibration_error(torch.tensor(probs), torch.tensor(label), num_classes=2, n_bins=20, norm="l1")
    assert reliability_of(probs, label, num_bins=10).error == pytest.approx(float(theirs), abs=1e-6)


def test_the_correction_takes_off_what_the_scatter_of_few_samples_adds():
    """By simulation: calibrated bins of which each is drawn anew. See the module for why it is not all."""
    plain, corrected = [], []
    for seed in range(20):
        logits, label = drawn(600, seed=seed)
        found = reliability_of(softmax(logits, 1), label)
        plain.append(found.error)
        corrected.append(found.corrected_error)
    assert np.mean(plain) > 0.04
    assert np.mean(corrected) < 0.65 * np.mean(plain)
    gap, spread = 0.3, np.sqrt(0.25 / 100)
    seen = np.abs(np.random.default_rng(0).normal(gap, spread, 100_000)).mean()
    found = Reliability(np.array([100]), np.array([0.5]), np.array([0.5 + gap]))
    assert found.error - found.corrected_error == pytest.approx(seen - gap, abs=1e-3)


def test_a_real_error_stays_with_the_correction():
    logits, label = drawn(20_000)
    found = reliability_of(softmax(3 * logits, 1), label)
    assert found.corrected_error == pytest.approx(found.error, rel=0.03)


def test_nothing_is_known_of_nothing():
    found = reliability([], [])
    assert np.isnan(found.error)
    assert np.isnan(found.corrected_error)


def test_the_classwise_error_sees_what_the_predicted_class_hides():
    logits, label = drawn(5000)
    probs = softmax(logits, 1)
    shifted = softmax(logits + np.array([0.0, 0, 0, 1.5]), 1)
    assert classwise_error(shifted, label) > 3 * classwise_error(probs, label)


def test_the_area_under_risk_and_coverage_by_hand():
    found = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, False, True, True])
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert found.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found.best_area == pytest.approx((1 / 4) / 4)


def test_answers_of_one_confidence_have_no_order():
    """The mean over all orders of the two that are alike."""
    first = risk_coverage([0.9, 0.8, 0.7], [True, True, False]).area
    other = risk_coverage([0.9, 0.8, 0.7], [True, False, True]).area
    tied = risk_coverage([0.9, 0.7, 0.7], [True, True, False])
    assert tied.area == pytest.approx((first + other) / 2)
    assert tied.coverage.tolist() == pytest.approx([1 / 3, 1.0])


def test_no_answers_have_no_curve():
    with pytest.raises(ValueError, match="at least one"):
        risk_coverage([], [])


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_a_temperature_finds_the_factor_that_was_hidden(factor):
    logits, label = drawn(20_000)
    assert fit_temperature(factor * logits, label).temperature == pytest.approx(factor, rel=0.05)


def test_a_temperature_keeps_every_prediction_and_log_probabilities_will_do():
    logits, label = drawn(300, sharpness=0.5)
    scaling = fit_temperature(logits, label)
    log_p = np.log(softmax(logits, 1))
    assert scaling.probabilities(log_p) == pytest.approx(scaling.probabilities(logits))
    assert (scaling.probabilities(logits).argmax(1) == logits.argmax(1)).all()


def test_where_all_are_right_the_temperature_is_cold_and_finite():
    logits = np.eye(3)[[0, 1, 2, 0]] * 5
    scaling = fit_temperature(logits, np.array([0, 1, 2, 0]))
    assert 0 < scaling.temperature < 0.1
    assert np.isfinite(scaling.probabilities(logits)).all()


def test_a_vector_mends_a_class_of_which_too_much_is_said():
    logits, label = drawn(20_000)
    wrong = logits + np.array([0.0, 0, 0, 1.5])
    scaling = fit_vector(wrong, label)
    assert scaling.temperature is None
    assert scaling.shift[3] - scaling.shift[:3].mean() == pytest.approx(-1.5, abs=0.15)
    assert log_losses(scaling.probabilities(wrong), label).mean() == pytest.approx(
        log_losses(softmax(logits, 1), label).mean(), abs=2e-3
    )


def test_a_class_that_was_never_seen_keeps_a_finite_scale():
    logits, label = drawn(200)
    scaling = fit_vector(logits[label != 3], label[label != 3])
    assert np.isfinite(scaling.scale).all()
    assert np.abs(scaling.shift).max() < 20


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_true_class_as_often_as_was_asked(method, by_class, coverage):
    logits, label = drawn(20_000, num_classes=8, seed=1)
    probs, lot = softmax(1.7 * logits, 1), np.random.default_rng(2).random(20_000)
    half = slice(10_000), slice(10_000, None)
    limit = conformal.fit(probs[half[0]], label[half[0]], lot[half[0]], coverage, method, by_class)
    sets = limit.sets(probs[half[1]], lot[half[1]])
    is_in = sets[np.arange(10_000), label[half[1]]]
    assert is_in.mean() == pytest.approx(coverage, abs=0.01)
    if by_class:
        for c in range(8):
            assert is_in[label[half[1]] == c].mean() == pytest.approx(coverage, abs=0.05)


def test_the_limit_is_the_quantile_of_few_samples_by_hand():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    label = np.zeros(4, np.int64)
    # Scores .1, .2, .3, .6; the ceil(5 * 0.6) = 3rd smallest.
    assert conformal.fit(probs, label, np.zeros(4), 0.6).limit == pytest.approx([0.3, 0.3])
    # Of four samples none is beyond 90 %: every class is in every set.
    assert np.isinf(conformal.fit(probs, label, np.zeros(4), 0.9).limit).all()


def test_lac_makes_the_smallest_sets():
    logits, label = drawn(5000, num_classes=8)
    probs, lot = softmax(logits, 1), np.random.default_rng(2).random(5000)
    sizes = {m: conformal.fit(probs, label, lot, 0.9, m).sets(probs, lot).sum(1).mean() for m in ("lac", "aps", "raps")}
    assert sizes["lac"] < sizes["raps"] <= sizes["aps"]


def test_operating_points_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    truth = random.random(300) < 0.2
    score = np.round(random.normal(truth * 1.0, 1.0), 1)  # with ties
    points = operating_points(score, truth)
    assert points.auroc() == pytest.approx(roc_auc_score(truth, score))
    partial = points.auroc(0.1) * 0.1
    standard = 0.5 * (1 + (partial - 0.005) / (0.1 - 0.005))  # McClish's, which scikit-learn gives
    assert standard == pytest.approx(roc_auc_score(truth, score, max_fpr=0.1))
    for i in range(1, len(points.threshold)):
        called = score >= points.threshold[i]
        assert (points.hits[i], points.alarms[i]) == ((called & truth).sum(), (called & ~truth).sum())


def test_a_sample_that_counts_twice_is_two_samples():
    score, truth, times = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, False, True, False]), np.array([2, 0, 3, 1])
    once = operating_points(np.repeat(score, times), np.repeat(truth, times))
    found = operating_points(score, truth, times)
    assert (found.hits.tolist(), found.alarms.tolist()) == (once.hits.tolist(), once.alarms.tolist())
    assert found.auroc() == once.auroc()


def test_hits_without_a_false_alarm():
    points = operating_points([0.9, 0.8, 0.7, 0.6, 0.5], [True, True, False, True, False])
    assert points.tpr_at_alarms(0) == pytest.approx(2 / 3)
    assert points.tpr_at_alarms(1) == 1.0
    assert points.tpr_at_rate(0.5) == 1.0
    assert points.tpr_at_rate(0.1) is None, "of two negatives, none may be wrong"
    worst = operating_points([0.1, 0.9], [True, False])
    assert worst.tpr_at_alarms(0) == 0.0


def test_a_tie_of_a_positive_and_a_negative_is_no_hit_without_alarm():
    assert operating_points([0.9, 0.9], [True, False]).tpr_at_alarms(0) == 0.0


@pytest.mark.parametrize(
    ("aim", "value", "threshold"),
    [
        ("f1", None, 0.6),
        ("youden", None, 0.8),
        ("precision", 1.0, 0.8),
        ("precision", 0.75, 0.6),
        ("recall", 0.6, 0.8),
        ("recall", 1.0, 0.6),
        ("fpr", 0.0, 0.8),
        ("fpr", 0.5, 0.6),
    ],
)
def test_thresholds_for_an_aim_by_hand(aim, value, threshold):
    points = operating_points([0.9, 0.8, 0.7, 0.6, 0.5], [True, True, False, True, False])
    assert points.best(aim, value) == threshold


def test_an_aim_that_nothing_fulfils():
    points = operating_points([0.9, 0.8], [False, True])
    assert points.best("precision", 0.9) is None
    assert points.best("fpr", 0.0) is None


def test_a_bootstrap_interval_is_as_wide_as_the_error_of_the_mean():
    values = np.random.default_rng(0).random(400)
    found = intervals(lambda ids: [values[ids].mean()], 400)[0]
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_groups_are_drawn_whole():
    """Ten copies of each sample tell no more than one."""
    values = np.repeat(np.random.default_rng(0).random(40), 10)
    groups = np.repeat([f"field {i}" for i in range(40)], 10)
    apart = intervals(lambda ids: [values[ids].mean()], 400)[0]
    together = intervals(lambda ids: [values[ids].mean()], 400, groups)[0]
    assert together.num_units == 40
    assert together.high - together.low == pytest.approx((apart.high - apart.low) * np.sqrt(10), rel=0.15)


def test_a_figure_that_few_draws_have_has_no_interval():
    is_rare = np.arange(100) == 0
    found = intervals(lambda ids: [1.0 if is_rare[ids].any() else float("nan")], 100)[0]
    assert (found.value, found.low, found.high) == (1.0, None, None)
