"""Evaluate a finished (or interrupted) run on one split of its data. Nothing is recorded.

The run's folder has all it takes: the recipe names the data, the checkpoint holds the network, the
manifest says which sample is in which split. The numbers equal those of the run's own evaluation,
because the same `test_step` computes them in the same precision.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import lightning.pytorch as L
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from litscope.config.flags import build
from litscope.config.recipe import Recipe
from litscope.config.resume import find_checkpoint, run_settings
from litscope.console import warn
from litscope.data.manifest import SPLITS, UNLABELLED, Manifest
from litscope.data.sources.source import Source, open_paths
from litscope.errors import ConfigError, DataError, RunError, did_you_mean
from litscope.evaluation.evaluation_data import EvaluationData
from litscope.evaluation.trained import load_classifier
from litscope.limits import num_cores
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir
from litscope.training.build import make_source
from litscope.training.hardware import Plan, plan
from litscope.training.probes.speed_probe import torch_threads
from litscope.training.quiet import quiet_lightning

Split = Literal["train", "val", "test", "all"]

_ONLY_FOR_TRAINING = ("model.weights", "training.class_weights")


def evaluate(
    run_dir: str | os.PathLike[str],
    split: str = "test",
    checkpoint: str = "best",
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    accelerator: str | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Measure a run on one split.

    Args:
        run_dir: the run's folder.
        split: train (without augmentation), val, test, or all labelled samples.
        checkpoint: "best", "last", or the path of a checkpoint file.
        dataset, data_dir: where the data are now; default: where they were.
        batch_size, num_workers, accelerator, precision: default: as in training.

    Returns:
        run, checkpoint, split, num_samples, metrics ({"test/accuracy": ...}), classes, and
        confusion_matrix, whose rows are labels and columns predictions.

    Raises:
        RunError: no such run or checkpoint.
        DataError: no such split, no samples in it, data not found, or other classes than the run's.
    """
    if split not in get_args(Split):
        raise DataError(
            f"--split {split}: unknown. Known: {', '.join(get_args(Split))}." + did_you_mean(split, get_args(Split))
        )
    opened = open_run(run_dir, checkpoint, accelerator=accelerator, precision=precision)
    source = opened.open_source(dataset=dataset, data_dir=data_dir)
    ids = ids_of(source.manifest, split)
    if len(ids) == 0:
        counts = ", ".join(f"{name} {len(source.manifest.ids(name))}" for name in SPLITS)
        raise DataError(f"--split {split}: {source.name} has no labelled sample there. Labelled samples: {counts}.")
    data = opened.data_of(source, ids, batch_size=batch_size, num_workers=num_workers, cache=opened.recipe.data.cache)
    with quiet_lightning(), torch_threads(None):
        metrics = opened.trainer().test(opened.classifier, datamodule=data, verbose=False)[0]
    confusion = opened.classifier.confusion("test")
    assert confusion is not None
    return {
        "run": str(opened.run.path),
        "checkpoint": str(opened.checkpoint),
        "split": split,
        "num_samples": int(confusion.sum()),
        "metrics": {name.replace("test/", f"{split}/", 1): float(value) for name, value in metrics.items()},
        "classes": list(source.manifest.classes),
        "confusion_matrix": confusion.tolist(),
        "unreadable": [{"key": key, "reason": reason} for key, reason in data.unreadable],
    }


@dataclass
class OpenedRun:
    """A run, its recipe, and its network with the weights of one checkpoint."""

    run: RunDir
    recipe: Recipe
    manifest: Manifest
    checkpoint: Path
    classifier: Classifier
    plan: Plan

    def open_source(self, dataset: str | None = None, data_dir: str | None = None) -> Source:
        """The run's data, wherever they are now, each sample in the split that it had in the run.

        Raises:
            DataError: if they are not there, or have other classes.
        """
        recipe = copy.deepcopy(self.recipe)
        recipe.data.dataset = dataset or recipe.data.dataset
        recipe.data.data_dir = data_dir or recipe.data.data_dir
        try:
            source = make_source(recipe)
        except DataError as error:
            if dataset is not None:
                raise
            raise DataError(f"{error} If the data have moved, say where they are: --dataset PATH.") from error
        return _with_splits_of(_as_trained(source, self.manifest, recipe.data.dataset), self.manifest)

    def data_of(
        self,
        source: Source,
        ids: NDArray[np.int64],
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        cache: bool | None = False,
    ) -> EvaluationData:
        """A loader for some samples of a source, at the sizes that the run was trained on.

        Raises:
            ConfigError: if the batch size or the number of workers is too small.
        """
        for flag, given, least in (("--batch-size", batch_size, 1), ("--num-workers", num_workers, 0)):
            if given is not None and given < least:
                raise ConfigError(f"{flag} {given}: it is {least} or more.")
        recipe, encoding = self.recipe.data, self.manifest.encoding
        workers = recipe.num_workers if num_workers is None else num_workers
        return EvaluationData(
            source,
            ids,
            image_size=encoding.get("image_size"),
            stored_size=encoding.get("stored_size"),
            batch_size=batch_size or recipe.batch_size or 64,
            num_workers=num_cores() if workers is None else workers,
            pin_memory=self.plan.device_type == "cuda",
            cache=cache,
            cache_dir=Path(recipe.cache_dir) if recipe.cache_dir else None,
        )

    def trainer(self) -> L.Trainer:
        """A Trainer for one device that leaves no files behind."""
        devices = self.plan.devices[:1] if isinstance(self.plan.devices, list) else 1
        return L.Trainer(
            accelerator=self.plan.accelerator,
            devices=devices,
            precision=self.plan.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def open_run(
    run_dir: str | os.PathLike[str],
    checkpoint: str = "best",
    *,
    accelerator: str | None = None,
    precision: str | None = None,
) -> OpenedRun:
    """Open a run with the weights of one checkpoint, on any machine, whatever the run was trained on.

    Args:
        accelerator: default: the best device here.
        precision: default: as in training.

    Raises:
        RunError: no such run or checkpoint, or one that does not fit its recipe.
    """
    run = RunDir.open(run_dir)
    recipe = _recipe_of(run)
    path = checkpoint_of(run, checkpoint)
    hardware = copy.deepcopy(recipe.hardware)
    hardware.accelerator = accelerator or "auto"
    hardware.devices, hardware.num_nodes, hardware.strategy, hardware.sync_batchnorm = "auto", 1, "auto", False
    hardware.precision = precision or hardware.precision  # type: ignore[assignment]  # `plan` checks it
    return OpenedRun(
        run=run,
        recipe=recipe,
        manifest=Manifest.read(run.manifest),
        checkpoint=path,
        classifier=load_classifier(path),
        plan=plan(hardware),
    )


def checkpoint_of(run: RunDir, which: str) -> Path:
    """The file that "best", "last" or a path means for a run.

    Raises:
        RunError: if there is none.
    """
    if which in ("best", "last"):
        return find_checkpoint(which, run_dir=str(run.path))[0]
    path = Path(which)
    if not path.is_file():
        raise RunError(f"--checkpoint {which}: not `best`, `last` or a file.{did_you_mean(which, ['best', 'last'])}")
    return path


def _recipe_of(run: RunDir) -> Recipe:
    """The run's recipe, without the files that only its training needed."""
    settings = run_settings(run.path).sections
    return build({key: value for key, value in settings.items() if key not in _ONLY_FOR_TRAINING})


def ids_of(manifest: Manifest, split: str) -> NDArray[np.int64]:
    """The labelled samples of a split or of all three, or the unlabelled ones of all, in ascending order."""
    if split == "unlabelled":
        return np.flatnonzero(manifest.labels == UNLABELLED).astype(np.int64)
    if split == "all":
        return np.sort(np.concatenate([manifest.ids(name) for name in SPLITS]))
    return manifest.ids(split)


def _as_trained(source: Source, known: Manifest, dataset: str | None) -> Source:
    """The source with the class indices and the encoding that the network was trained with.

    Raises:
        DataError: for a class that the run did not know, or data of another kind.
    """
    manifest, reader = source.manifest, source.reader
    if source.kind != known.encoding["kind"]:
        raise DataError(
            f"{source.name} is of kind {source.kind}; the run was trained on {known.encoding['kind']} data."
        )
    unknown = [name for name in manifest.classes if name not in known.classes]
    if unknown:
        raise DataError(
            f"{source.name} has the class {unknown[0]!r}, which the run does not know. "
            f"It was trained on: {_some(known.classes)}."
        )
    if source.kind == "table" and manifest.encoding["columns"] != known.encoding["columns"]:
        reader = open_paths([dataset or ""], like=known).reader
    if source.kind == "image" and reader.channels != known.encoding["channels"]:
        raise DataError(
            f"{source.name} has images with {reader.channels} channels; "
            f"the run was trained on {known.encoding['channels']}."
        )
    if manifest.classes != known.classes:
        index = np.array([known.classes.index(name) for name in manifest.classes] + [UNLABELLED])
        column = manifest.table.column_names.index("label")
        labels = pa.array(index[manifest.labels])  # -1 takes the last entry
        manifest = Manifest(manifest.table.set_column(column, "label", labels), known.classes, manifest.encoding)
    return dataclasses.replace(source, manifest=manifest, reader=reader)


def _some(names: tuple[str, ...], limit: int = 10) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _with_splits_of(source: Source, known: Manifest) -> Source:
    """The source with each sample in the split that it had in the run, by its key.

    Samples that the run did not know are in no split. A source that shares no key with the run is
    another data set: it keeps its own splits.
    """
    keys = source.manifest.keys
    if np.array_equal(keys, known.keys):
        return dataclasses.replace(source, manifest=source.manifest.with_splits(known.splits))
    split_of = dict(zip(known.keys, known.splits, strict=True))
    num_new = sum(key not in split_of for key in keys)
    if num_new == len(keys):
        warn(
            f"{source.name} shares no sample with the run's data; it is taken as another data set, with its own splits."
        )
        return source
    num_gone = len(known) - (len(keys) - num_new)
    warn(f"the data have changed since the run: {num_new} new samples are left out, {num_gone} are gone.")
    splits = np.array([split_of.get(key, "") for key in keys], dtype=object)
    return dataclasses.replace(source, manifest=source.manifest.with_splits(splits))
