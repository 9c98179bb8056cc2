"""What the networks of a cross-validation say of a run's samples, each asked about the fold that it has not seen: to
learn from it how the run's logits are read, where its own validation split is small.

It stands for what the run's network would say of samples that it has not seen. So the two must be alike: trained with
the same settings, on about as many samples, each at its best epoch (`--nested`) or its last.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from litscope.config.flags import build
from litscope.console import number_of, warn
from litscope.curation.recipe_source import make_source
from litscope.curation.run_data import RunData
from litscope.data.content import match, with_content
from litscope.errors import ConfigError, DataError, RunError
from litscope.evaluation.known_data import KnownData, with_decisions
from litscope.evaluation.opened_run import OpenedRun
from litscope.evaluation.out_of_fold import RECIPE, read_out_of_fold
from litscope.rundir import LAST
from litscope.runs import find_folds
from litscope.training.readouts import Answers


def answers_of_folds(
    folds: str | os.PathLike[str], opened: OpenedRun, data: KnownData, then: RunData, source_labels: bool
) -> Answers:
    """The out-of-fold answers about samples of a run, under the run's ids, with the labels that count there.

    Args:
        folds: the folder of a `litscope cv`, or its name in runs/.
        data, then: of `OpenedRun.find_data`.
        source_labels: as of `evaluate`.

    Raises:
        RunError: if no cross-validation has ended there.
        ConfigError: if it predicts samples of the run's test split, which would no longer judge what is learned.
        DataError: for other classes, or where it predicts no sample of the run.
    """
    folder = find_folds(os.fspath(folds))
    if folder is None:
        raise RunError(f"--folds {folds}: no `litscope cv` was completed there.")
    found = read_out_of_fold(folder)
    if sorted(found.classes) != sorted(opened.classes):
        raise DataError(
            f"--folds {folder}: its classes are {', '.join(found.classes)}, those of {opened.run.path} "
            f"{', '.join(opened.classes)}. Give a cross-validation of the same data."
        )
    recipe = build({}, [folder / RECIPE])
    source = make_source(recipe)
    then_manifest = then.manifest
    same = match(with_content(source, then_manifest), then_manifest).sample_id[found.sample_id]
    if not (same >= 0).any():
        raise DataError(f"--folds {folder}: it predicts no sample of {opened.run.path}. Give one of the same data.")
    tested = int((then_manifest.splits[same[same >= 0]] == "test").sum())
    if tested:
        raise ConfigError(
            f"--folds {folder}: it predicts {number_of(tested, 'sample')} of the test split of {opened.run.path}, "
            "which could no longer judge what is learned. Give both one test split: a split column, or the same "
            "--test-split and --split-seed."
        )
    if data.is_stranger:
        data, then = opened.find_data()
    row_of = np.full(len(then_manifest), -1, np.int64)
    is_known = data.sample_id >= 0
    row_of[data.sample_id[is_known]] = np.flatnonzero(is_known)
    rows = np.where(same >= 0, row_of[same], -1)
    if missing := int((rows < 0).sum()):
        warn(f"{number_of(missing, 'out-of-fold prediction')} of no sample of {opened.run.path}: left out")
    decided, kept, _ = with_decisions(data, then, rows[rows >= 0], not source_labels, is_told=False)
    if not recipe.data.fold_tests and opened.checkpoint.name != LAST:
        warn(
            f"the networks of {folder} have their last weights, {opened.checkpoint.name} those of its best epoch, "
            "which are less sure: `litscope cv --nested` makes networks that are alike"
        )
    if not len(kept):
        raise DataError(f"--folds {folder}: none of the samples that it predicts is left in {opened.run.path}.")
    position = np.full(len(decided.sample_id), -1, np.int64)
    position[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    order = [found.classes.index(name) for name in opened.classes]
    answers = found.answers().of(position[kept])
    return replace(
        answers,
        sample_id=decided.sample_id[kept],
        logits=answers.logits[:, order],
        label=decided.source.manifest.labels[kept],
    )
