"""Features are a table: what a frozen body makes of each image, computed once, so that a head trains on rows.

The head of such a run is a part of the whole network, which is what checkpoints hold, so evaluation, prediction and
whoever loads it take images as ever.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from litscope.config.recipe import Recipe
from litscope.console import say, track
from litscope.data.content import with_content
from litscope.data.datamodule import ClassificationData
from litscope.data.loaders import Loader
from litscope.data.reading.features import FeatureFile, Features
from litscope.launch.workers import rank_of_process
from litscope.models.classifier import Classifier
from litscope.training.hardware import Plan
from litscope.training.loop.checkpoints import load_checkpoint
from litscope.training.prepare import Prepared
from litscope.types import Batch

PROBE_C = 1_000.0
"""Inverse strength of the head's L2 penalty, for features of norm 1."""

PROBE_STEPS = 200
"""Most iterations of the fit of a head."""


def begin_tuning(start: Prepared, classifier: Classifier) -> None:
    """Before the first step: compute the features that the run trains its head on, first or alone.

    Args:
        start: the prepared run; its data then hand over features where only the head is trained.
        classifier: with its network and weights. The head of a new `lp-ft` run is fitted.
    """
    finetune, data = start.recipe.model.finetune, start.data
    if finetune == "full" or (finetune == "lp-ft" and start.checkpoint is not None):
        return
    if start.checkpoint is not None:  # the weights of the body
        classifier.load_state_dict(load_checkpoint(start.checkpoint)["state_dict"])
    num_views = start.recipe.model.feature_views if finetune == "head" else 0
    began = time.monotonic()
    views = _views(start.recipe, classifier, data, start.plan, [None, *range(num_views)])
    took_s, plain = time.monotonic() - began, views[0]
    if finetune == "head":
        data.use_features(views)
        more = f" in {len(views)} views" if num_views else ""
        what = f"the head trains on them{more}"
    else:
        ids = data.train_ids
        accuracy = fit_head(classifier, plain[ids], data.manifest.labels[ids])
        what = f"the head is fitted to them, {accuracy:.1%} right on the training images"
    if rank_of_process() == 0:
        say(f"features: {plain.shape[1]:,} of each of {len(plain):,} images, in {took_s:.0f} s; {what}")


def fit_head(classifier: Classifier, features: Features, labels: NDArray[np.int64]) -> float:
    """Put a logistic regression into the head (Kumar et al. 2022, arXiv:2202.10054, "linear probing").

    Args:
        features: (n, F) of training samples.
        labels: (n,) class indices.

    Returns:
        The share of these samples that it gets right.
    """
    from sklearn.linear_model import LogisticRegression

    head, settings = classifier.head, classifier.settings
    assert head is not None
    weights = settings.class_weights
    x = features.astype(np.float32)
    squared_norm = float((x.astype(np.float64) ** 2).sum(1).mean())
    # Not standardised: a feature that hardly varies here would count most where images are augmented.
    model = LogisticRegression(C=PROBE_C / max(squared_norm, 1e-12), max_iter=PROBE_STEPS)
    model.fit(x, labels, sample_weight=None if weights is None else np.asarray(weights)[labels])
    coefficients, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients, intercept = (np.concatenate([-part / 2, part / 2]) for part in (coefficients, intercept))
    at = torch.from_numpy(model.classes_)
    with torch.no_grad():
        head.weight[at] = torch.from_numpy(coefficients).to(head.weight)
        if head.bias is not None:
            head.bias.fill_(float(intercept.min()))  # of classes without a sample
            head.bias[at] = torch.from_numpy(intercept).to(head.bias)
    return float(model.score(x, labels))


def _views(
    recipe: Recipe, classifier: Classifier, data: ClassificationData, plan: Plan, views: Sequence[int | None]
) -> list[Features]:
    """(N, F) of each view: None is the image as it is evaluated, j as epoch j shows it in training."""
    contents, weights = _contents(data), _weights_digest(classifier)
    is_kept = recipe.data.cache is not False
    cache_dir = None if recipe.data.cache_dir is None else Path(recipe.data.cache_dir)
    found: list[Features] = []
    for view in views:
        augmentation = None if view is None else [data.settings.augment, data.settings.seed, data.flips, view]
        facts = [weights, data.image_size, data.manifest.encoding.get("stored_size"), augmentation]
        file = FeatureFile(cache_dir, contents, facts)
        rows = file.load() if is_kept else None
        if rows is None:
            rows = _compute(classifier, data, _device(plan), view)
            if is_kept:
                file.keep(rows)
        found.append(rows)
    return found


def _device(plan: Plan) -> torch.device:
    if plan.device_type != "cuda":
        return torch.device(plan.device_type)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def _compute(classifier: Classifier, data: ClassificationData, device: torch.device, view: int | None) -> Features:
    ids = data.readable(data.manifest.sample_ids)
    rows: Features | None = None
    was_training, home = classifier.training, classifier.device
    classifier.eval().to(device)
    try:
        for batch in _batches(data, ids, view):
            batch = data.view_batch(data.transfer_batch_to_device(batch, device, 0), view)
            features = classifier.features(batch["image"]).float().cpu().numpy().astype(np.float16)
            if rows is None:
                rows = np.zeros((len(data.manifest), features.shape[1]), np.float16)
            rows[batch["sample_id"].cpu().numpy()] = features
    finally:
        classifier.train(was_training).to(home)
    assert rows is not None  # an opened data set has a readable sample
    return rows


def _batches(data: ClassificationData, ids: NDArray[np.int64], view: int | None) -> Iterator[Batch]:
    loader = data.dataloader_of(ids)
    assert isinstance(loader, Loader)
    what = "features" if view is None else f"features, view {view + 1}"
    try:
        yield from track(loader, what, total=len(loader))
    finally:
        data.release(loader)


def _contents(data: ClassificationData) -> list[bytes | None]:
    """A digest of each sample."""
    manifest = data.manifest if data.manifest.has_content else with_content(data.source)
    digests: pa.ChunkedArray = manifest.table["digest"]
    return digests.to_pylist()  # type: ignore[no-any-return]


def _weights_digest(classifier: Classifier) -> str:
    """What the features depend on besides the images: the body's weights, and the normalisation."""
    digest = hashlib.blake2b(digest_size=16)
    head = {id(parameter) for parameter in classifier.head.parameters()} if classifier.head is not None else set()
    assert classifier.net is not None
    for name, tensor in classifier.net.state_dict(keep_vars=True).items():
        if id(tensor) not in head:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for tensor in (classifier.mean, classifier.std):
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
