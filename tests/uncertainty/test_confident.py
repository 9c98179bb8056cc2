"""Confident learning: by hand, and beside cleanlab."""

from __future__ import annotations

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy.special import softmax

from litscope.uncertainty.confident import doubted, margins, thresholds


def test_margins_and_rivals_by_hand():
    probs = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1]])
    margin, rival = margins(probs, np.array([0, 0, 2]))
    np.testing.assert_allclose(margin, [0.5, -0.1, -0.7])
    assert rival.tolist() == [1, 2, 1]


def test_a_class_is_judged_by_what_is_usual_in_it():
    probs = np.array([[0.9, 0.1], [0.7, 0.3], [0.75, 0.25], [0.4, 0.6], [0.9, 0.1]])
    label = np.array([0, 0, 1, 1, 1])
    np.testing.assert_allclose(thresholds(probs, label), [0.8, (0.25 + 0.6 + 0.1) / 3])
    # The third does not reach 0.8, so nothing is said of it, though class 0 is more probable; the last one does.
    assert doubted(probs, label).tolist() == [False, False, False, False, True]


def test_a_class_without_a_sample_is_never_meant():
    probs = np.array([[0.1, 0.9], [0.6, 0.4]])
    assert thresholds(probs, np.zeros(2, np.int64))[1] == np.inf
    assert not doubted(probs, np.zeros(2, np.int64)).any()


def test_cleanlab_ranks_and_finds_the_same():
    random = np.random.default_rng(5)
    truth = random.integers(0, 4, 800)
    probs = softmax(2.5 * np.eye(4)[truth] + random.normal(0, 1.0, (800, 4)), 1)
    label = np.where(random.random(800) < 0.15, random.integers(0, 4, 800), truth).astype(np.int64)
    margin, _ = margins(probs, label)
    theirs = get_label_quality_scores(label, probs, method="normalized_margin")
    np.testing.assert_allclose((margin + 1) / 2, theirs, atol=1e-12)
    ours = doubted(probs, label)
    found = find_label_issues(label, probs, filter_by="confident_learning", min_examples_per_class=0)
    assert 50 < ours.sum() < 200
    # Theirs takes the most probable class even where it falls short of its threshold and two others do not.
    differ = np.flatnonzero(ours != found)
    assert not (ours & ~found).any()
    assert len(differ) <= 4
    at = probs[differ].argmax(1)
    assert (probs[differ, at] < thresholds(probs, label)[at]).all()
