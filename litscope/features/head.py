"""A head fitted to features: the last layer of a network, as a logistic regression finds it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from litscope.features.file import Features
from litscope.models.classifier import Classifier

PROBE_C = 1_000.0
"""Inverse strength of the head's L2 penalty, for features of norm 1."""

PROBE_STEPS = 1000
"""Most iterations of the fit of a head."""


def fit_head(
    classifier: Classifier,
    features: Features,
    labels: NDArray[np.int64],
    weights: NDArray[np.float32] | None = None,
) -> float:
    """Put a logistic regression into the head (Kumar et al. 2022, arXiv:2202.10054, "linear probing").

    Args:
        features: (n, F) of training samples.
        labels: (n,) class indices.
        weights: (n,) factor of each sample's loss; None: all alike.

    Returns:
        The share of these samples that it gets right.
    """
    from sklearn.linear_model import LogisticRegression

    head, settings = classifier.head, classifier.settings
    assert head is not None
    of_classes = settings.class_weights
    x = features.astype(np.float32)
    squared_norm = float((x.astype(np.float64) ** 2).sum(1).mean())
    # Not standardised: a feature that hardly varies here would count most where images are augmented.
    model = LogisticRegression(C=PROBE_C / max(squared_norm, 1e-12), max_iter=PROBE_STEPS)
    own = None if weights is None else weights.astype(np.float64)
    if of_classes is not None:
        own = np.asarray(of_classes)[labels] * (1.0 if own is None else own)
    model.fit(x, labels, sample_weight=own)
    coefficients, intercept = model.coef_, model.intercept_
    if head.out_features == 1:
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(coefficients))
            if head.bias is not None:
                head.bias.copy_(torch.from_numpy(intercept))
        return float(model.score(x, labels))
    if len(model.classes_) == 2:
        coefficients, intercept = (np.concatenate([-part / 2, part / 2]) for part in (coefficients, intercept))
    at = torch.from_numpy(model.classes_)
    with torch.no_grad():
        head.weight[at] = torch.from_numpy(coefficients).to(head.weight)
        if head.bias is not None:
            head.bias.fill_(float(intercept.min()))  # of classes without a sample
            head.bias[at] = torch.from_numpy(intercept).to(head.bias)
    return float(model.score(x, labels))
