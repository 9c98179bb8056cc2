"""The features of a run's own samples, by its network; or those of a data set on which nobody has trained."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from litscope.config.recipe import Recipe
from litscope.console import number_of, say, track
from litscope.data.content import with_content
from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import SPLITS, Manifest
from litscope.data.reading.bands import Axis
from litscope.data.sources.source import Source
from litscope.errors import ConfigError, DataError, did_you_mean
from litscope.evaluation.evaluation_data import EvaluationData, on_device
from litscope.evaluation.known_data import with_decisions
from litscope.evaluation.opened_run import OpenedRun, open_run
from litscope.features.duplicates import NearDuplicates, near_duplicates
from litscope.features.extraction import extract, extract_known
from litscope.features.file import Features
from litscope.features.neighbours import find_neighbours
from litscope.training.prepare import Prepared, prepare, seeded_classifier
from litscope.training.threads import torch_threads
from litscope.training.tuning.finetune import device_of
from litscope.types import Batch


@dataclass(frozen=True)
class Featured:
    """A data set of images with their features.

    Attributes:
        source: where the images are; row i is row i of the manifest.
        manifest: N samples; labels as they are decided.
        rows: (N, F); zeros for a sample that is not among `ids`.
        ids: (n,) int64, ascending: the samples that count: readable, in the run where there is one, not discarded.
        by: the network that made them, in words.
    """

    source: Source
    manifest: Manifest
    rows: Features
    ids: NDArray[np.int64]
    by: str


def features_of_source(recipe: Recipe, is_told: bool = True, split: str | None = None) -> Featured:
    """The features of a data set by a network that somebody else trained, as `fit --finetune head` computes them.

    Args:
        recipe: which data, which network and weights; without `weights` the pretrained ones.
        is_told: say what the data set holds.
        split: in which labelled images are looked for before any features are computed.

    Raises:
        UserError: whatever `fit` would refuse of these data, or if no weights can be had.
        DataError: if `split` has no labelled image that can be read.
    """
    start = _prepared(recipe)
    data = start.data
    if split is not None:
        _check_split(data, split)
    if is_told:
        say(*data.report.lines())
    with torch_threads(start.recipe.hardware.num_threads):
        began = time.monotonic()
        classifier = seeded_classifier(start)
        (rows,) = extract(classifier, data, device_of(start.plan))
    model = start.recipe.model
    weights = "ImageNet" if model.weights is None else model.weights
    found = Featured(
        data.source,
        data.manifest,
        rows,
        data.readable(data.manifest.sample_ids),
        f"{model.arch} (weights: {weights}) at {data.image_size} pixels",
    )
    _tell(found, time.monotonic() - began)
    return found


def _check_split(data: ClassificationData, split: str) -> None:
    """Refuse a split without a readable image that has a label."""
    known = [name for name in SPLITS if len(data.readable(data.manifest.ids(name)))]
    if split not in known:
        raise DataError(
            f"--split {split}: {data.source.name} has no labelled image there; it has {', '.join(known) or 'no split'}."
            + did_you_mean(split, known)
        )


def near_duplicates_of(recipe: Recipe) -> NearDuplicates:
    """The near-duplicates of a data set, by the weights of a recipe that names some, else by pretrained ones.

    Args:
        recipe: its other choices of network and training do not count.

    Raises:
        UserError: as `features_of_source`, or for too many images.
    """
    asked = Recipe(data=copy.deepcopy(recipe.data), hardware=copy.deepcopy(recipe.hardware))
    asked.training.seed = recipe.training.seed
    if recipe.model.weights is not None:
        asked.model.arch, asked.model.weights = recipe.model.arch, recipe.model.weights
    made = features_of_source(asked, is_told=False)
    return near_duplicates(find_neighbours(made.rows, made.ids), made.manifest, made.source.reader.read)


def _prepared(recipe: Recipe) -> Prepared:
    """A run that would train the head of this network; it never begins."""
    recipe = copy.deepcopy(recipe)
    model = recipe.model
    model.pretrained, model.finetune = model.weights is None, "head"
    recipe.hardware.devices = "1"
    start = prepare(recipe)
    if start.data.kind != "image":
        raise ConfigError(f"{start.data.source.name} is a table: features are what a network makes of images.")
    return start


def features_of_run(
    run_dir: str | os.PathLike[str],
    checkpoint: str = "best",
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    channels: Axis | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    accelerator: str | None = None,
) -> Featured:
    """The features of a run's samples by its own network; labels and discards as its journal has decided.

    Args:
        run_dir, checkpoint, dataset, data_dir, image_root, channels, batch_size, num_workers, accelerator: as
            `evaluate`.

    Raises:
        RunError: no such run or checkpoint.
        ConfigError: a run on a table, which has no features.
        DataError: the data are not there.
        ModelError: a network that does not end in a linear layer.
    """
    opened = open_run(run_dir, checkpoint, accelerator=accelerator, precision="32")
    if opened.predictor.settings.num_features is not None:
        raise ConfigError(f"{opened.run.path} was trained on a table: features are what a network makes of images.")
    now, then = opened.find_data(dataset=dataset, data_dir=data_dir, image_root=image_root, channels=channels)
    if now.is_stranger:
        raise DataError(f"{now.source.name} shares no sample with {opened.run.path}, whose features are asked for.")
    known = np.flatnonzero(now.sample_id >= 0).astype(np.int64)
    began = time.monotonic()
    rows = known_features(opened, now.source, then.manifest, known, batch_size=batch_size, num_workers=num_workers)
    decided, ids, _ = with_decisions(now, then, known, holds=True, is_told=False)
    is_readable = (rows[ids] != 0).any(1)
    by = f"{opened.predictor.settings.name} of {opened.checkpoint} at {opened.facts.encoding['image_size']} pixels"
    found = Featured(decided.source, decided.source.manifest, rows, ids[is_readable], by)
    _tell(found, time.monotonic() - began)
    return found


def known_features(
    opened: OpenedRun,
    source: Source,
    then: Manifest,
    ids: NDArray[np.int64] | None = None,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
) -> Features:
    """(N, F) what a run's network makes of its samples; zeros for one that cannot be read, or is not asked for.

    From the cache folder where it has them: those of a run that trained a head on features are there.

    Args:
        source: the run's data as they are now, in its order.
        then: the run's manifest.
        ids: of the source; None: all.
        batch_size, num_workers: default: as in training.
    """
    asked = source.manifest.sample_ids if ids is None else ids
    is_kept = opened.recipe.data.cache
    with torch_threads(None):
        data = opened.data_of(source, asked, batch_size=batch_size, num_workers=num_workers, cache=is_kept)
        return extract_known(
            opened.predictor,
            with_content(source, then),
            opened.facts.encoding,
            _seen(opened, data),
            opened.device,
            opened.cache_dir,
            is_kept is not False,
        )


def _seen(opened: OpenedRun, data: EvaluationData) -> Iterator[Batch]:
    """The batches of a run's samples on its device, as its network sees them."""
    loader = data.batches()
    try:
        for batch in track(loader, "features", total=len(loader)):
            yield data.seen(on_device(batch, opened.device))
    finally:
        data.close()


def _tell(found: Featured, took_s: float) -> None:
    left = len(found.manifest) - len(found.ids)
    left_out = f"; {number_of(left, 'image')} {'is' if left == 1 else 'are'} left out" if left else ""
    what = f"{found.rows.shape[1]:,} of each of {number_of(len(found.ids), 'image')}"
    say(f"features: {what} by {found.by}, in {took_s:.0f} s{left_out}")
