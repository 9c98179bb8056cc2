"""Evaluate a finished (or interrupted) run on one split of its data. Nothing is recorded.

The run's folder has all it takes: the recipe names the data, the checkpoint holds the network, the
manifest says which sample is in which split. The numbers equal those of the run's own evaluation,
because the same `test_step` computes them in the same precision.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import lightning.pytorch as L
from torchmetrics import Metric

from litscope.config.flags import recipe_of_run
from litscope.config.recipe import Recipe
from litscope.config.resume import checkpoint_of, find_checkpoint
from litscope.console import say, shell_word
from litscope.curation.run_data import HAVE_MOVED, RunData, run_data
from litscope.data.manifest import SPLITS, Manifest
from litscope.data.reading.bands import Axis
from litscope.data.sample_facts import SampleFacts
from litscope.errors import ConfigError, DataError, RunError, did_you_mean
from litscope.evaluation.evaluation_data import warn_of_unreadable
from litscope.evaluation.known_data import KnownData, known_data, with_decisions
from litscope.evaluation.network import BATCH_SIZE, Network, open_checkpoint, plan_for, run_of_checkpoint
from litscope.evaluation.trained import load_classifier
from litscope.models.given_metrics import GivenMetrics
from litscope.rundir import RunDir
from litscope.training.probes.speed_probe import torch_threads
from litscope.training.quiet import quiet_lightning

Split = Literal["train", "val", "test", "all"]


def evaluate(
    run_dir: str | os.PathLike[str],
    split: str | None = None,
    checkpoint: str = "best",
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    channels: Axis | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    accelerator: str | None = None,
    precision: str | None = None,
    source_labels: bool = False,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, Any]:
    """Measure a run on one split.

    Args:
        run_dir: the run's folder, or a checkpoint in it.
        split: train (without augmentation), val, test, or all labelled samples; default: test, without one val, or
            all of another data set that has no splits.
        checkpoint: "best", "last", or the path of a checkpoint file.
        dataset, data_dir: where the data are now; default: where they were.
        image_root: the folder that relative paths in a list of images start from; default: as in training, or with
            `dataset` the list's own.
        channels: the axis of .npz and .npy files that is the channels; default: as in training.
        batch_size, num_workers, accelerator, precision: default: as in training.
        metrics: torchmetrics of your own, by name, as `litscope.fit` takes them.
        source_labels: labels and samples as the source has them, without what was decided in the run's journal.

    Returns:
        run, checkpoint, split, num_samples, metrics ({"test/accuracy": ...}), classes,
        confusion_matrix, whose rows are labels and columns predictions; num_decisions, by which these samples differ
        from the source's (or would); and data: what is not as in the run.

    Raises:
        RunError: no such run or checkpoint.
        DataError: no such split, no samples in it, data not found, or other classes than the run's.
    """
    if split is not None and split not in get_args(Split):
        raise DataError(
            f"--split {split}: unknown. Known: {', '.join(get_args(Split))}." + did_you_mean(split, get_args(Split))
        )
    opened = open_run(run_dir, checkpoint, accelerator=accelerator, precision=precision)
    opened.classifier.given = given = GivenMetrics(metrics)
    given.try_out(len(opened.classes))
    data_now, data_then = opened.find_data(dataset=dataset, data_dir=data_dir, image_root=image_root, channels=channels)
    split = split or _usual_split(data_now)
    data_now, ids, num_decisions = with_decisions(data_now, data_then, data_now.ids(split), not source_labels)
    source = data_now.source
    if len(ids) == 0:
        counts = ", ".join(f"{name} {len(data_now.ids(name))}" for name in (*SPLITS, "all"))
        raise DataError(f"--split {split}: {source.name} has no labelled sample there. Labelled samples: {counts}.")
    data = opened.data_of(source, ids, batch_size=batch_size, num_workers=num_workers, cache=opened.recipe.data.cache)
    with quiet_lightning(), torch_threads(None):
        measured = opened.trainer().test(opened.classifier, datamodule=data, verbose=False)[0]
    confusion = opened.classifier.confusion("test")
    assert confusion is not None
    warn_of_unreadable(data.unreadable)
    return {
        "run": str(opened.run.path),
        "checkpoint": str(opened.checkpoint),
        "split": split,
        "num_samples": int(confusion.sum()),
        "metrics": {name.replace("test/", f"{split}/", 1): float(value) for name, value in measured.items()},
        "classes": list(opened.classes),
        "confusion_matrix": confusion.tolist(),
        "num_decisions": num_decisions,
        "data": data_now.facts,
        "unreadable": [{"key": key, "reason": reason} for key, reason in data.unreadable],
    }


def _usual_split(data: KnownData) -> str:
    """The split that is measured where nobody names one."""
    if data.is_stranger and not any(len(data.ids(name)) for name in SPLITS):
        return "all"
    if not len(data.ids("test")) and len(data.ids("val")):
        say(f"{data.source.name} has no test split: this is its validation split, by which the best epoch was chosen")
        return "val"
    return "test"


@dataclass(kw_only=True)
class OpenedRun(Network):
    """A run, its recipe, and its network with the weights of one checkpoint."""

    run: RunDir
    recipe: Recipe

    def find_data(
        self,
        dataset: str | None = None,
        data_dir: str | None = None,
        image_root: str | os.PathLike[str] | None = None,
        channels: Axis | None = None,
    ) -> tuple[KnownData, RunData]:
        """The run's data, wherever they are now, each sample in the split that it had in the run.

        Raises:
            DataError: if they are not there, or have other classes.
        """
        try:
            found = run_data(
                self.run,
                dataset,
                data_dir,
                self.recipe.data.download,
                self.recipe.logging.progress,
                image_root,
                channels,
            )
        except DataError as error:
            if dataset is not None:
                raise
            raise DataError(f"{error} {HAVE_MOVED}") from error
        return known_data(found, is_named=dataset is not None or data_dir is not None), found

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
        run_dir: the run's folder, or one of its checkpoint files, which then counts instead of `checkpoint`.
        accelerator: default: the best device here.
        precision: default: as in training.

    Raises:
        RunError: no such run or checkpoint, or one that does not fit its recipe.
    """
    if Path(run_dir).is_file():
        run_dir, checkpoint = run_of_checkpoint(run_dir), os.fspath(run_dir)
    run = RunDir.open(run_dir)
    recipe = recipe_of_run(run.path)
    path = checkpoint_of(run, checkpoint)
    return OpenedRun(
        run=run,
        recipe=recipe,
        checkpoint=path,
        classifier=load_classifier(path),
        plan=plan_for(recipe.hardware, accelerator, precision),
        facts=SampleFacts.of(Manifest.read(run.manifest)),
        batch_size=recipe.data.batch_size or BATCH_SIZE,
        num_workers=recipe.data.num_workers,
        cache_dir=Path(recipe.data.cache_dir) if recipe.data.cache_dir else None,
    )


def open_network(
    where: str | os.PathLike[str],
    checkpoint: str = "best",
    *,
    accelerator: str | None = None,
    precision: str | None = None,
) -> Network:
    """A network to predict new samples with: that of a run, or of a checkpoint file, wherever it lies.

    Args:
        where: the run's folder, or a checkpoint file. One of an earlier version, which does not say how samples are
            read, must lie in its run.
        checkpoint, accelerator, precision: as `open_run`.

    Raises:
        RunError: as `open_run`.
    """
    path = Path(where)
    if path.is_file() and checkpoint not in ("best", os.fspath(where)):
        raise ConfigError(f"--checkpoint {checkpoint}: {path} is a checkpoint already. Give one of the two.")
    if path.is_file():
        found = open_checkpoint(path, accelerator=accelerator, precision=precision)
        if found is not None:
            return found
        if find_checkpoint(os.fspath(path))[1] is None:
            raise RunError(
                f"{path} does not say which classes its network knows and how samples are read: an earlier version, or "
                "a training on other data, wrote it. Give the run's folder instead, with --checkpoint "
                f"{shell_word(path)}."
            )
    return open_run(where, checkpoint, accelerator=accelerator, precision=precision)
