"""Extraction: the features of every readable image of a data set, from the cache folder or computed now.

Features are what the last layer of a network is given: (N, F) float16, row i of sample_id i, zeros where an image
cannot be read. What is computed is kept, under a name that says what it was computed from, unless the data module keeps
nothing. So a training, the table of features and whatever else asks for them share one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from litscope.console import track
from litscope.data.content import with_content
from litscope.data.datamodule import ClassificationData
from litscope.data.loader import Loader
from litscope.data.manifest import Manifest
from litscope.data.reading.images import DECODE_VERSION
from litscope.features.batches import features_of_batches
from litscope.features.file import FeatureFile, Features
from litscope.models.forward import Forward
from litscope.models.networks.architectures import resolve
from litscope.types import Batch


def extract(
    network: Forward,
    data: ClassificationData,
    device: torch.device,
    views: Sequence[int | None] = (None,),
    ids: NDArray[np.int64] | None = None,
) -> list[Features]:
    """The features of a data set that a network is to be trained on, once for each view.

    Args:
        network: whose mode and device are as before afterwards.
        data: opened, of images. Its settings say where features are kept; with `cache` False nowhere.
        device: where they are computed.
        views: None is the image as it is evaluated, j as epoch j shows it in training.
        ids: of the samples whose features are wanted, (n,); default: all.

    Returns:
        (N, F) for each view, zeros for samples that are not wanted; a memory map, copy-on-write, where the cache folder
        has them.

    Raises:
        ModelError: if the network does not end in a linear layer that is given one row for each image.
    """
    settings, manifest = data.settings, data.manifest
    contents = _digests(manifest if manifest.has_content else with_content(data.source))
    weights, seen = _weights_digest(network), data.readable(manifest.sample_ids if ids is None else ids)
    found: list[Features] = []
    for view in views:
        augmentation = None if view is None else [settings.augment, settings.seed, data.flips, view]
        facts = [*_how(weights, manifest.encoding), augmentation]
        file: FeatureFile | None = None
        if settings.cache is not False and contents is not None:
            file = FeatureFile(settings.cache_folder, contents, facts)
            if ids is not None and len(ids) < len(contents) and not file.path.exists():
                file = FeatureFile(settings.cache_folder, _only(contents, ids), facts)
        batches = _seen(data, seen, view, device)
        found.append(_of_batches(network, batches, len(manifest), device, file))
    return found


def extract_known(
    network: Forward,
    manifest: Manifest,
    encoding: Mapping[str, Any],
    batches: Iterable[Batch],
    device: torch.device,
    cache_folder: Path | None,
    is_kept: bool = True,
) -> Features:
    """The features of samples as a trained network is shown them, outside a training; errors as `extract`.

    Args:
        manifest: of all N samples, with their contents.
        encoding: how images are seen, as `Manifest.encoding` of the training.
        batches: the images of every readable sample, on the device, as the network sees them; drawn from only if the
            cache folder does not have the features.
        cache_folder: None: the usual place.
        is_kept: whether features are looked for there, and kept.

    Returns:
        (N, F), as `extract`: of the same network and images the same file of the cache folder.
    """
    facts = [*_how(_weights_digest(network), encoding), None]
    contents = _digests(manifest)
    file = FeatureFile(cache_folder, contents, facts) if is_kept and contents is not None else None
    return _of_batches(network, batches, len(manifest), device, file)


def _how(weights: str, encoding: Mapping[str, Any]) -> list[Any]:
    """What features depend on besides the contents of the files: the network, and how it sees an image."""
    seen = ("image_size", "stored_size", "crop_pct", "interpolation")
    return [DECODE_VERSION, weights, *(encoding.get(name) for name in seen)]


def _of_batches(
    network: Forward, batches: Iterable[Batch], num_samples: int, device: torch.device, file: FeatureFile | None
) -> Features:
    """(N, F), from the file if it is there, else from the images."""
    rows = None if file is None else file.load()
    if rows is not None:
        return rows
    was_training, home = network.training, network.mean.device
    network.eval().to(device)
    try:
        for ids, features in features_of_batches(network, batches, device):
            if rows is None:
                rows = np.zeros((num_samples, features.shape[1]), np.float16)
            rows[ids] = features
    finally:
        network.train(was_training).to(home)
    assert rows is not None  # an opened data set has a readable sample
    if file is not None:
        file.keep(rows)
    return rows


def _seen(data: ClassificationData, ids: NDArray[np.int64], view: int | None, device: torch.device) -> Iterator[Batch]:
    """Batches of samples on the device, as the network sees them in a view."""
    loader = data.dataloader_of(ids)
    assert isinstance(loader, Loader)
    what = "features" if view is None else f"features, view {view + 1}"
    try:
        for batch in track(loader, what, total=len(loader)):
            yield data.view_batch(data.transfer_batch_to_device(batch, device, 0), view)
    finally:
        data.release(loader)


def _digests(manifest: Manifest) -> list[bytes | None] | None:
    """A digest of each sample's content; None where nobody has read the bytes, as of shards that others wrote."""
    if not manifest.has_content:
        return None
    digests: pa.ChunkedArray = manifest.table["digest"]
    return digests.to_pylist()  # type: ignore[no-any-return]


def _only(contents: list[bytes | None], ids: NDArray[np.int64]) -> list[bytes | None]:
    """The digests of some samples, None for the others."""
    wanted = set(ids.tolist())
    return [content if at in wanted else None for at, content in enumerate(contents)]


def _weights_digest(network: Forward) -> str:
    """What the features depend on besides the images: the body and its weights, and the normalisation.

    Weights alone do not tell what is done with them: `mixnet_s` and `tf_mixnet_s` pad otherwise, and
    a stem for small images may differ in its stride alone.
    """
    digest = hashlib.blake2b(digest_size=16)
    network.check_features()
    assert network.settings.arch is not None  # it is built
    origin, name = resolve(network.settings.arch)
    digest.update(f"{origin}/{name.partition('.')[0]} {network.settings.stem} ".encode())
    head = {id(parameter) for parameter in network.head.parameters()} if network.head is not None else set()
    assert network.net is not None
    for name, tensor in network.net.state_dict(keep_vars=True).items():
        if id(tensor) not in head:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for tensor in (network.mean, network.std):
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
