"""Evaluate a finished (or interrupted) run on one split of its data. Nothing is recorded, unless it is asked for.

The run's folder has all it takes: the recipe names the data, the checkpoint holds the network, the
manifest says which sample is in which split. The numbers equal those of the run's own evaluation, in
the same precision, but for what `litscope calibrate` has learned since of how the logits are read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import lightning.pytorch as L
import numpy as np
from lightning.fabric.plugins.environments import LightningEnvironment
from numpy.typing import NDArray
from torchmetrics import Metric

from litscope.config.calibration import Asked, Calibrate, Sets
from litscope.console import say, warn
from litscope.curation.run_data import RunData
from litscope.data.manifest import SPLITS
from litscope.data.reading.bands import Axis
from litscope.errors import ConfigError, DataError, did_you_mean
from litscope.evaluation.asides import keep_own, measure_ood, told_of
from litscope.evaluation.collect_answers import CollectAnswers
from litscope.evaluation.evaluation_data import EvaluationData, warn_of_unreadable
from litscope.evaluation.evaluation_data_module import EvaluationDataModule
from litscope.evaluation.judged import Judged
from litscope.evaluation.known_data import KnownData, with_decisions
from litscope.evaluation.network import drawn_alike
from litscope.evaluation.opened_run import OpenedRun, open_run
from litscope.evaluation.passes import passes
from litscope.evaluation.quality import draw, quality
from litscope.evaluation.tables import output_path, table_of, uncertainty_columns, write_table
from litscope.ledger.journal.actions import decisions
from litscope.models.given_metrics import GivenMetrics
from litscope.training.hardware import Plan
from litscope.training.quiet import quiet_lightning
from litscope.training.readouts import VERIFIED, Answers, learn, scaling_of
from litscope.training.threads import torch_threads

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
    calibrate: Calibrate | None = None,
    coverage: float | None = None,
    conformal: Sets = "lac",
    by_class: bool = False,
    threshold: str | None = None,
    raw: bool = False,
    mc_dropout: int | None = None,
    ood: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    output: str | os.PathLike[str] | None = None,
    record: bool = False,
    figures: str | os.PathLike[str] | None = None,
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
        calibrate: scale the logits by what is best on the validation split: a temperature, or a vector; in place of all
            that is kept with the weights.
        coverage: make conformal sets that hold the true class as often, with a limit set on the validation split.
        conformal: how: lac, aps or raps; see `uncertainty.conformal`.
        by_class: hold that promise in every class.
        threshold: of two classes, chosen on the validation split for an aim: f1, youden, precision:0.9, recall:0.95,
            fpr:0.001.
        raw: logits as they are, whatever `litscope calibrate` has kept with the weights.
        mc_dropout: passes with dropout on, 2 or more; what is measured is their mean.
        ood: data of no class of the run's, as `litscope.predict` takes paths: how well they are told from the samples.
        output: a .csv or .parquet file of what is said of each sample.
        record: keep how sure the network is of each sample with the run's scores, for `worst` and SQL.
        figures: a folder for a reliability diagram and a risk-coverage curve, as PNG.

    Returns:
        run, checkpoint, split, num_samples, metrics ({"test/accuracy": ...}), classes,
        confusion_matrix, whose rows are labels and columns predictions; num_decisions, by which these samples differ
        from the source's (or would); data: what is not as in the run; readout: how the logits were read; quality: what
        the probabilities are worth, see `quality.quality`; and ood, see `ood.ood`.

    Raises:
        ConfigError: for a wrong `calibrate`, `coverage`, `conformal`, `threshold` or `mc_dropout`; or one of the first
            for the validation split, by which it would be set.
        ModelError: for `mc_dropout` of a network without dropout.
        RunError: no such run or checkpoint.
        DataError: no such split, no samples in it, data not found, or other classes than the run's.
    """
    if split is not None and split not in get_args(Split):
        raise DataError(
            f"--split {split}: unknown. Known: {', '.join(get_args(Split))}." + did_you_mean(split, get_args(Split))
        )
    asked, num_passes = Asked(calibrate, coverage, conformal, by_class, threshold), passes(mc_dropout)
    target = output_path(output)
    if raw and calibrate is not None:
        raise ConfigError(f"--raw reads logits as they are, --calibrate {calibrate} scales them. Give one of the two.")
    opened = open_run(run_dir, checkpoint, accelerator=accelerator, precision=precision, kind=Judged)
    asked.check_classes(len(opened.classes))
    judged = opened.predictor
    assert isinstance(judged, Judged)
    judged.given = given = GivenMetrics(metrics)
    given.try_out(len(opened.classes))
    judged.num_passes = num_passes
    readout = None if raw else judged.readout
    data_now, data_then = opened.find_data(dataset=dataset, data_dir=data_dir, image_root=image_root, channels=channels)
    split = split or _usual_split(data_now)
    data_now, ids, num_decisions = with_decisions(data_now, data_then, data_now.ids(split), not source_labels)
    source = data_now.source
    if len(ids) == 0:
        counts = ", ".join(f"{name} {len(data_now.ids(name))}" for name in (*SPLITS, "all"))
        raise DataError(f"--split {split}: {source.name} has no labelled sample there. Labelled samples: {counts}.")
    if asked and split in ("val", "all") and not data_now.is_stranger:
        raise ConfigError(
            f"--split {split}: --calibrate, --coverage and --threshold are set by the validation split, so nothing is "
            "learned from measuring them there. Measure another split, or leave them out."
        )
    if record and data_now.is_stranger:
        raise ConfigError(f"--record keeps what is said of the run's own samples, and {source.name} has none of them.")
    unreached = None
    if asked:
        others = kept_aside(opened, data_now, data_then, source_labels, batch_size, num_workers)
        verified = decisions(opened.run).tags.get(VERIFIED, set())
        learned = learn(others, asked, base=readout, verified=verified, classes=opened.classes, is_kept=False)
        say(*learned.notes)
        readout, unreached = learned.readout, learned.unreached
        for caution in learned.cautions:
            warn(caution)
    elif readout is not None and not readout.is_plain:
        say(told_of(readout, None if data_now.is_stranger else split, opened.classes))
    judged.readout = readout
    data, measured, answers = measure(opened, data_now, ids, batch_size, num_workers)
    confusion = judged.confusion("test")
    assert confusion is not None
    warn_of_unreadable(data.unreadable)
    found: dict[str, Any] = {
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
        "readout": None if readout is None else readout.to_dict(),
    }
    if len(answers.label):
        found["quality"] = quality(answers, readout, opened.classes, unreached)
    if ood:
        found["ood"] = measure_ood(opened, ood, answers, readout, batch_size, num_workers, num_passes)
    if target is not None:
        more = uncertainty_columns(answers, readout, opened.classes)
        probs = scaling_of(readout, len(opened.classes)).probabilities(answers.logits)
        write_table(table_of(source, opened.classes, answers.sample_id, probs, readout=readout, more=more), target)
        found["output"] = str(target)
    if record:
        found["recorded"] = keep_own(opened, data_now, answers, readout, num_passes)
    if figures is not None and len(answers.label):
        title = f"{opened.run.path.name}, {split}"
        found["figures"] = draw(answers, readout, found["quality"], Path(figures), title=title)
    return found


def measure(
    opened: OpenedRun, known: KnownData, ids: NDArray[np.int64], batch_size: int | None, num_workers: int | None
) -> tuple[EvaluationData, dict[str, float], Answers]:
    """Test the network of a run, opened as `Judged`, on some samples: their data, metrics, and what it says of each."""
    data = opened.data_of(
        known.source, ids, batch_size=batch_size, num_workers=num_workers, cache=opened.recipe.data.cache
    )
    assert isinstance(opened.predictor, Judged)
    collected = CollectAnswers()
    with quiet_lightning(), torch_threads(None), drawn_alike(opened.device):
        trainer = one_device_trainer(opened.plan, collected)
        measured = trainer.test(opened.predictor, datamodule=EvaluationDataModule(data), verbose=False)[0]
    return data, dict(measured), collected.answers(known.source.manifest)


def kept_aside(
    opened: OpenedRun,
    data_now: KnownData,
    data_then: RunData,
    source_labels: bool,
    batch_size: int | None,
    num_workers: int | None,
) -> Answers:
    """What the network says of the run's own validation samples, by which it is calibrated.

    Args:
        data_now, data_then: of `OpenedRun.find_data`; of another data set, the run's own are looked for.
        source_labels: as of `evaluate`.

    Raises:
        ConfigError: if there are none.
    """
    others, then = (data_now, data_then) if not data_now.is_stranger else opened.find_data()
    others, ids, _ = with_decisions(others, then, others.ids("val"), not source_labels, is_told=False)
    answers = None if len(ids) == 0 else measure(opened, others, ids, batch_size, num_workers)[2]
    if answers is None or not len(answers.label):
        raise ConfigError(
            f"{opened.run.path} has no labelled validation sample, by which --calibrate, --coverage and "
            "--threshold are set. Leave them out, or train with --val-split."
        )
    return answers


def _usual_split(data: KnownData) -> str:
    """The split that is measured where nobody names one."""
    if data.is_stranger and not any(len(data.ids(name)) for name in SPLITS):
        return "all"
    if not len(data.ids("test")) and len(data.ids("val")):
        say(f"{data.source.name} has no test split: this is its validation split, by which the best epoch was chosen")
        return "val"
    return "test"


def one_device_trainer(plan: Plan, *callbacks: L.Callback) -> L.Trainer:
    """A Trainer for the first device of a plan, in its precision, that leaves no files behind."""
    return L.Trainer(
        callbacks=list(callbacks),
        accelerator=plan.accelerator,
        devices=plan.devices[:1] if isinstance(plan.devices, list) else 1,
        precision=plan.precision,  # type: ignore[arg-type]
        plugins=LightningEnvironment(),  # one process, whoever started it
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
