"""True positives at few false ones, and areas: recomputed by trying every threshold, and by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc, roc_auc_score, roc_curve

from litscope.uncertainty.operating import operating_points


def drawn(count: int, levels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and who is positive; a tenth of them."""
    random = np.random.default_rng(seed)
    truth = np.zeros(count, bool)
    truth[: max(1, count // 10)] = True
    return np.round((random.normal(size=count) + truth) * levels) / levels, truth


def most_found(score: np.ndarray, truth: np.ndarray, num_alarms: int) -> float:
    """The best true positive rate of all thresholds with at most so many negatives called positive."""
    shares = [0.0]
    for threshold in np.unique(score):
        called = score >= threshold
        if (called & ~truth).sum() <= num_alarms:
            shares.append((called & truth).sum() / truth.sum())
    return max(shares)


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_true_positives_at_few_alarms_by_trying_every_threshold(levels: int, seed: int) -> None:
    score, truth = drawn(400, levels, seed)
    points = operating_points(score, truth)
    for count in (0, 1, 10, 359):
        assert points.tpr_at_alarms(count) == pytest.approx(most_found(score, truth, count)), count
    for rate in (0.003, 0.01, 0.1):
        assert points.tpr_at_rate(rate) == pytest.approx(most_found(score, truth, int(360 * rate + 1e-9)))
    assert points.tpr_at_rate(0.001) is None, "360 negatives allow no alarm at one in a thousand"


@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("count", [100, 330, 1000])
def test_areas_are_those_of_scikit_learn(levels: int, count: int) -> None:
    """Also where the end lies at a rate that occurs, at which the curve may rise: that rise has no width."""
    for seed in range(5):
        score, truth = drawn(count, levels, seed)
        points = operating_points(score, truth)
        assert points.auroc() == pytest.approx(roc_auc_score(truth, score))
        fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
        for most in (0.1, 10 / (~truth).sum(), 0.037):
            stop = np.searchsorted(fpr, most, "right")
            end = np.interp(most, fpr[stop - 1 : stop + 1], tpr[stop - 1 : stop + 1])
            area = auc(np.append(fpr[:stop], most), np.append(tpr[:stop], end)) / most
            assert points.auroc(most) == pytest.approx(area), (count, levels, seed, most)


def test_repeated_samples_are_samples() -> None:
    """What a bootstrap draw counts twice, as twice the rows."""
    score, truth = drawn(60, 3, 0)
    times = np.random.default_rng(1).integers(0, 3, 60)
    one, other = operating_points(score, truth, times), operating_points(score.repeat(times), truth.repeat(times))
    assert one.tpr_at_alarms(3) == other.tpr_at_alarms(3)
    assert one.auroc(0.1) == pytest.approx(other.auroc(0.1))


def test_all_of_one_kind() -> None:
    scores = np.array([0.1, 0.9])
    assert np.isnan(operating_points(scores, [False, False]).tpr_at_alarms(0))
    assert operating_points(scores, [True, True]).tpr_at_alarms(0) == 1
    assert np.isnan(operating_points(scores, [True, True]).auroc())
    assert operating_points(scores, [True, True]).tpr_at_rate(0.1) is None
