"""Extraction: the features of every readable image of a data set, from the cache folder or computed now.

Features are what the last layer of a network is given: (N, F) float16, row i of sample_id i, zeros where an image
cannot be read. What is computed is kept, under a name that says what it was computed from, unless the data module keeps
nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from litscope.console import track
from litscope.data.content import with_content
from litscope.data.datamodule import ClassificationData
from litscope.data.loaders import Loader
from litscope.features.file import FeatureFile, Features
from litscope.models.classifier import Classifier
from litscope.types import Batch


def extract(
    classifier: Classifier, data: ClassificationData, device: torch.device, views: Sequence[int | None] = (None,)
) -> list[Features]:
    """The features of a data set, once for each view.

    Args:
        classifier: with its network, whose mode and device are as before afterwards.
        data: opened, of images. Its settings say where features are kept; with `cache` False nowhere.
        device: where they are computed.
        views: None is the image as it is evaluated, j as epoch j shows it in training.

    Returns:
        (N, F) for each view; a memory map, copy-on-write, where the cache folder has them.

    Raises:
        ModelError: if the network does not end in a linear layer that is given one row for each image.
    """
    contents, weights = _contents(data), _weights_digest(classifier)
    is_kept = data.settings.cache is not False
    found: list[Features] = []
    for view in views:
        augmentation = None if view is None else [data.settings.augment, data.settings.seed, data.flips, view]
        facts = [weights, data.image_size, data.manifest.encoding.get("stored_size"), augmentation]
        file = FeatureFile(data.settings.cache_folder, contents, facts)
        rows = file.load() if is_kept else None
        if rows is None:
            rows = _compute(classifier, data, device, view)
            if is_kept:
                file.keep(rows)
        found.append(rows)
    return found


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
