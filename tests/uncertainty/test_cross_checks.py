"""What others compute under the same names: MAPIE, torch-uncertainty, torchmetrics, scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import multiclass_calibration_error

from litscope.config.calibration import Asked
from litscope.evaluation.ood import ood
from litscope.training.readouts import Answers, learn
from litscope.uncertainty import conformal
from litscope.uncertainty.calibration import classwise_error, reliability_of
from litscope.uncertainty.entropies import expected_entropy, mutual_information, predictive_entropy
from litscope.uncertainty.proper import brier_scores, log_losses
from litscope.uncertainty.selective import risk_coverage
from litscope.uncertainty.temperature import fit_temperature, fit_vector

NUM, CLASSES = 3000, 5


@pytest.fixture(scope="module")
def drawn():
    """Logits three times too large, labels that are drawn by what they should be."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (2 * NUM, CLASSES))
    label = (random.random(2 * NUM)[:, None] > softmax(logits, 1).cumsum(1)).sum(1).clip(max=CLASSES - 1)
    return 3 * logits, label.astype(np.int64)


class Given(ClassifierMixin, BaseEstimator):
    """A classifier that was trained elsewhere: it is shown its own probabilities, or logits."""

    def __init__(self):
        self.classes_ = np.arange(CLASSES)
        self.is_fitted_ = True

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return x

    def decision_function(self, x):
        return x

    def predict(self, x):
        return x.argmax(1)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_sets_are_those_of_mapie(drawn, method, coverage):
    from mapie.classification import SplitConformalClassifier

    logits, label = drawn
    probs = softmax(logits / 3, 1)
    theirs = SplitConformalClassifier(Given(), coverage, method, prefit=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.conformalize(probs[:NUM], label[:NUM])
        words = {"include_last_label": "randomized"} if method == "aps" else {}
        expected = theirs.predict_set(probs[NUM:], conformity_score_params=words)[1][:, :, 0]
    lot = np.random.RandomState(0).uniform(size=NUM)  # what MAPIE draws, each time
    found = conformal.fit(probs[:NUM], label[:NUM], lot, coverage, method).sets(probs[NUM:], lot)
    assert np.array_equal(found, expected)


def test_the_temperature_is_that_of_scikit_learn(drawn):
    logits, label = drawn
    theirs = CalibratedClassifierCV(FrozenEstimator(Given()), method="temperature").fit(logits, label)
    found = fit_temperature(logits, label)
    assert found.probabilities(logits) == pytest.approx(theirs.predict_proba(logits), abs=1e-3)


def test_the_ood_area_is_that_of_scikit_learn(drawn):
    logits, label = drawn
    own = Answers(np.arange(NUM), logits[:NUM], label[:NUM])
    other = Answers(np.arange(500), logits[NUM : NUM + 500] / 2, label[NUM : NUM + 500])
    readout = learn(own, Asked("temperature")).readout
    found = ood(own, other, readout)["auroc"]
    truth = np.repeat([0, 1], [NUM, 500])
    probs = softmax(np.concatenate([own.logits, other.logits]) / readout.temperature, 1)
    assert found["p_max"]["value"] == pytest.approx(roc_auc_score(truth, -probs.max(1)))
    assert found["entropy"]["value"] == pytest.approx(roc_auc_score(truth, predictive_entropy(probs)))
    assert "mutual_information" not in found


@pytest.mark.slow  # its import takes seconds
def test_figures_are_those_of_torch_uncertainty(drawn):
    from torch_uncertainty.metrics import (
        AURC,
        AdaptiveCalibrationError,
        BrierScore,
        CategoricalNLL,
        Entropy,
        MutualInformation,
    )

    logits, label = drawn
    probs = softmax(logits, 1)
    p, y = torch.from_numpy(probs), torch.from_numpy(label)

    def theirs(metric, *given):
        metric.update(*given)
        return float(metric.compute())

    adaptive = AdaptiveCalibrationError(task="multiclass", num_classes=CLASSES, num_bins=15)
    assert reliability_of(probs, label).error == pytest.approx(theirs(adaptive, p.float(), y), abs=2e-3)
    curve = risk_coverage(probs.max(1), probs.argmax(1) == label)
    assert curve.area == pytest.approx(theirs(AURC(), p, y), abs=1e-3)
    assert brier_scores(probs, label).mean() == pytest.approx(theirs(BrierScore(CLASSES), p, y), abs=1e-6)
    assert log_losses(probs, label).mean() == pytest.approx(theirs(CategoricalNLL(), p, y), abs=1e-6)
    parts = np.stack([softmax(logits[k * 1000 : (k + 1) * 1000], 1) for k in range(4)])  # (M, N, C)
    as_theirs = torch.from_numpy(parts.transpose(1, 0, 2).copy())
    assert mutual_information(parts).mean() == pytest.approx(theirs(MutualInformation(), as_theirs), abs=1e-6)
    assert expected_entropy(parts).mean() == pytest.approx(
        float(np.mean([theirs(Entropy(), torch.from_numpy(part)) for part in parts])), abs=1e-6
    )


@pytest.mark.slow
def test_scalings_are_those_of_torch_uncertainty(drawn):
    from torch_uncertainty.post_processing import TemperatureScaler, VectorScaler

    logits, label = drawn
    data = DataLoader(TensorDataset(torch.from_numpy(logits).float(), torch.from_numpy(label)), batch_size=2 * NUM)
    one = TemperatureScaler(model=nn.Identity(), lr=0.1, max_iter=200)
    one.fit(data, progress=False)
    assert fit_temperature(logits, label).temperature == pytest.approx(one.temperature[0].item(), rel=1e-2)
    many = VectorScaler(num_classes=CLASSES, model=nn.Identity(), lr=0.1, max_iter=200)
    many.fit(data, progress=False)
    with torch.no_grad():
        scaled = many(torch.from_numpy(logits).float()).numpy()
    found = log_losses(fit_vector(logits, label).probabilities(logits), label).mean()
    assert found == pytest.approx(-log_softmax(scaled, 1)[np.arange(len(label)), label].mean(), abs=3e-3)


def test_the_calibration_error_in_bins_of_one_width_is_that_of_torchmetrics(drawn):
    """Ours has bins of equal mass; of thousands of samples both say nearly the same."""
    logits, label = drawn
    probs = softmax(logits, 1)
    theirs = multiclass_calibration_error(torch.from_numpy(probs), torch.from_numpy(label), CLASSES, n_bins=15)
    assert reliability_of(probs, label).error == pytest.approx(float(theirs), abs=0.01)
    of_each = [
        float(multiclass_calibration_error(_one_against_all(probs, c), torch.from_numpy(label == c).long(), 2))
        for c in range(CLASSES)
    ]
    assert classwise_error(probs, label) == pytest.approx(np.mean(of_each), abs=0.05)


def _one_against_all(probs, c):
    return torch.from_numpy(np.stack([1 - probs[:, c], probs[:, c]], 1))
