"""`litscope cv`: cross-validation. Every sample is predicted by a network that was not trained on it.

The samples that are not for testing are divided into K folds, stratified by class, with groups kept together
(`data.splits`). For each fold a network trains on the others, with the recipe's own seed, and predicts the fold with
its last weights: choosing the best epoch by the fold would flatter the numbers. With `is_nested` the others give a part
to validate on, by which the best epoch, early stopping and the plateau may choose. If the network is an MLP or a head
on features, the K networks train in one run as its members, each leaving its fold out (`models.networks.members`).
"""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from litscope.config.recipe import Recipe
from litscope.config.yamlfile import dump
from litscope.console import number_of, say, shell_word, warn
from litscope.curation.recipe_source import make_source
from litscope.data.manifest import Manifest
from litscope.data.sources.source import Source
from litscope.defaults import METRICS
from litscope.errors import ConfigError, Interrupted
from litscope.evaluation.featured import known_features
from litscope.evaluation.opened_run import OpenedRun, open_run
from litscope.evaluation.out_of_fold import RECIPE, OutOfFold, calibration, out_of_fold, write_out_of_fold
from litscope.evaluation.quality import quality
from litscope.experiments.cv_result import CvResult, Figures
from litscope.experiments.fresh import check_fresh
from litscope.experiments.many_runs import as_members, folder_for, prepared, why_apart
from litscope.experiments.reruns import EpochLines, train_aside
from litscope.fusions import LEARNED
from litscope.live.records import defined, read_summary
from litscope.live.stop_requests import catch_stop_requests
from litscope.models.metrics import PhaseCounts
from litscope.rundir import RunDir, write_json, write_text
from litscope.runs import FOLDS
from litscope.starter import refuse_company

LEAST_FOLDS = 2

_LEARNS = (
    "it is learned on validation samples, and those are the fold to be predicted. Leave it out, or give --nested; "
    "`litscope calibrate` learns it for a run that is kept."
)


def cross_validate(recipe: Recipe, num_folds: int = 5, is_nested: bool = False) -> CvResult:
    """Train a network for each fold, and predict each sample with the network that has not seen it.

    Args:
        recipe: as for `fit`; its run_dir is the folder for everything (default: runs/cv-N). Given the folder of an
            interrupted cross-validation, that one goes on, and folds that are trained are kept.
        num_folds: at least 2.
        is_nested: each network has validation data of its own, the recipe's share of the folds that it trains on, and
            predicts its fold with the weights of its best epoch.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; the folds so far are kept.
        ConfigError: for settings that would look at a fold before it is predicted.
        DataError: if there are fewer samples, or groups, than folds.
        UserError: whatever `fit` would refuse.
    """
    began = time.monotonic()
    if num_folds < LEAST_FOLDS:
        raise ConfigError(f"--folds {num_folds}: it is {LEAST_FOLDS} or more.")
    refuse_company("litscope cv")
    check_fresh(recipe, "cv")
    if recipe.data.actions is not None:
        raise ConfigError(
            "--actions: cross-validation predicts each sample as the source has it, so it follows no decisions. Write "
            "the data as they were decided, and cross-validate those: litscope export RUN --to parquet (or folder)."
        )
    _check_validation(recipe, is_nested)
    recipe = copy.deepcopy(recipe)
    recipe.data.num_folds, recipe.data.fold, recipe.data.fold_tests = num_folds, 0, is_nested
    chosen = prepared(recipe).recipe
    together = _together(recipe, chosen, num_folds)
    reason = "--nested: each network has validation data of its own" if is_nested else why_apart(chosen)
    reason = reason or _why_leaky(chosen, together)
    with folder_for(recipe, "cv", RECIPE) as folder:
        _keep_recipe(recipe, folder)
        say(f"cv: {num_folds} folds, {f'one after the other: {reason}' if reason else 'in one run'}")
        return _cross_validate(recipe, None if reason else together, num_folds, folder, began)


def _check_validation(recipe: Recipe, is_nested: bool) -> None:
    """Refuse what would look at a fold before it is predicted, or has nothing to look at."""
    training = recipe.training
    if recipe.data.fold_tests:
        raise ConfigError("--fold-tests: `litscope cv` takes it as --nested.")
    if is_nested:
        if recipe.data.val_split == 0.0:
            raise ConfigError("--nested: each network validates on a part of its folds, so give a --val-split above 0.")
        return
    if training.early_stopping or training.scheduler_type == "plateau":
        flag = "--early-stopping" if training.early_stopping else "--scheduler plateau"
        raise ConfigError(
            f"{flag}: it looks at the validation data, and those are the fold to be predicted. --nested sets others "
            "aside."
        )
    for flag, value in (("calibrate", training.calibrate), ("threshold", training.threshold)):
        if value not in (None, "none"):
            raise ConfigError(f"--{flag} {value}: {_LEARNS}")
    if training.coverage is not None:
        raise ConfigError(f"--coverage {training.coverage:g}: {_LEARNS}")
    if recipe.model.ensemble_strategy in LEARNED:
        raise ConfigError(f"--ensemble-strategy {recipe.model.ensemble_strategy}: {_LEARNS}")


def _why_leaky(chosen: Recipe, together: Recipe) -> str | None:
    """What of a fold would reach the network that leaves it out, if they trained in one run; None: nothing.

    Args:
        chosen: the recipe of one fold, resolved.
        together: of the one run.
    """
    if chosen.training.mixup or chosen.training.cutmix:
        return f"--{'mixup' if chosen.training.mixup else 'cutmix'} would blend a fold into the others"
    if chosen.training.class_weights != "none":
        return "--class-weights would count the fold"
    if chosen.data.sampler == "balanced":
        return "--sampler balanced would count the fold"
    if chosen.training.logit_adjustment:
        return "--logit-adjustment would count the fold"
    if chosen.training.prune != "none":
        return "--prune would ask networks about samples that they leave out"
    if uneven := make_source(together).uneven if chosen.model.finetune != "head" else ():
        return f"the column {uneven[0]!r} is other features without one of the folds"
    return None


def _together(recipe: Recipe, chosen: Recipe, num_folds: int) -> Recipe:
    """The recipe of one run whose members are the networks of all folds.

    Args:
        chosen: the recipe of one fold, resolved.
    """
    own = copy.deepcopy(recipe)
    as_members(own, chosen, num_folds)
    own.data.fold, own.data.fold_tests = None, False
    own.logging.ledger = False  # these would be about the mean of networks, most of which have seen the sample
    return own


def _cross_validate(recipe: Recipe, together: Recipe | None, num_folds: int, folder: Path, began: float) -> CvResult:
    """Train in a folder that is this process's, predict, and write down what came out.

    Args:
        together: of one run for all folds; None: they train in turn.
    """
    try:
        with catch_stop_requests():
            if together is not None:
                source, fold, probs, num_asked = _train_at_once(together, folder)
            else:
                source, fold, probs, num_asked = _train_in_turn(recipe, num_folds, folder)
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(f"Interrupted. To go on: the same command with --run-dir {shell_word(folder)}") from None
    found = out_of_fold(source, source.manifest.classes, fold, probs)
    file = write_out_of_fold(found, source, folder)
    answers, is_in = found.answers(), [found.fold == number for number in range(num_folds)]
    result = CvResult(
        dataset=str(recipe.data.origin),
        folds=tuple(_metrics(found, rows) for rows in is_in),
        pooled=_metrics(found, np.ones(len(found.label), bool)),
        table=file,
        is_at_once=together is not None,
        wall_s=round(time.monotonic() - began, 3),
        absent=tuple(
            tuple(name for index, name in enumerate(found.classes) if index not in found.label[rows]) for rows in is_in
        ),
        quality=quality(answers, None, found.classes),
        calibration=calibration(found),
        num_groups=None if answers.groups is None else len(np.unique(answers.groups.astype(str))),
        num_unreadable=num_asked - len(found.label),
        is_nested=recipe.data.fold_tests,
    )
    if result.num_unreadable:
        warn(f"{number_of(result.num_unreadable, 'sample')} cannot be read, and nobody predicts them.")
    write_json(folder / FOLDS, result.to_dict())
    return result


def _keep_recipe(recipe: Recipe, folder: Path) -> None:
    """Write it down, for by it a later call knows whether it may go on there."""
    kept = copy.deepcopy(recipe)
    kept.logging.run_dir = None
    text, file = dump(kept), folder / RECIPE
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise ConfigError(f"--run-dir {folder} holds a cross-validation of another recipe. Give another folder.")
    write_text(file, text)


def _trained(recipe: Recipe, folder: Path, title: str) -> RunDir:
    """A run with this recipe; one that an earlier call completed is kept, an interrupted one begins anew."""
    run = RunDir(folder)
    if folder.exists():
        done = read_summary(run)
        if done is not None and done["status"] == "finished":
            return run
        shutil.rmtree(folder)
    lines = EpochLines(title, "train/loss", recipe.training.epochs)  # the fold is not looked at before it is predicted
    return train_aside(recipe, folder, keeps_last=True, keeps_best=recipe.data.fold_tests, on_epoch=lines)


Predicted = tuple[Source, NDArray[np.int64], NDArray[np.float32], int]
"""The data; the fold of each sample, (N,), -1 for those that nobody predicts; the probabilities that its network gives
it, (N, C); and how many samples the folds have, those that cannot be read among them."""


def _train_in_turn(recipe: Recipe, num_folds: int, folder: Path) -> Predicted:
    """A network for each fold, one after the other."""
    found: tuple[Source, NDArray[np.int64], NDArray[np.float32]] | None = None
    num_asked = 0
    fold_of = make_source(_without_fold(recipe)).folds if recipe.data.fold_tests else None
    for number in range(num_folds):
        began = time.monotonic()
        own = copy.deepcopy(recipe)
        own.data.fold = number
        opened = _open(_trained(own, folder / f"fold-{number}", f"fold {number}"), recipe)
        data, then = opened.find_data()
        source = data.source
        asked = data.ids("val") if fold_of is None else np.flatnonzero(fold_of == number)
        ids, probs = _probabilities(opened, source, then.manifest, asked)
        num_asked += len(asked)
        if found is None:
            count = len(source.manifest)
            found = source, np.full(count, -1, np.int64), np.zeros((count, probs.shape[1]), np.float32)
        _, fold, all_probs = found
        fold[ids], all_probs[ids] = number, probs
        right = f"accuracy {(probs.argmax(1) == source.manifest.labels[ids]).mean():.4f}" if len(ids) else "unreadable"
        say(f"fold {number}: {len(ids):,} samples, {right} ({time.monotonic() - began:.1f} s)")
    assert found is not None
    return *found, num_asked


def _train_at_once(together: Recipe, folder: Path) -> Predicted:
    """Do the same as `_train_in_turn`, with the networks as members of one run."""
    opened = _open(_trained(together, folder / "folds", "cv"), together)
    data, then = opened.find_data()
    source, fold = data.source, make_source(opened.recipe).folds
    assert fold is not None
    asked = np.flatnonzero(fold >= 0)
    ids, probs = _probabilities(opened, source, then.manifest, asked, fold)
    all_probs, own = np.zeros((len(fold), probs.shape[1]), np.float32), np.full(len(fold), -1, np.int64)
    all_probs[ids], own[ids] = probs, fold[ids]
    return source, own, all_probs, len(asked)


def _without_fold(recipe: Recipe) -> Recipe:
    """The same data with no fold chosen: their folds are all known then."""
    own = copy.deepcopy(recipe)
    own.data.fold, own.data.fold_tests = None, False
    return own


def _open(run: RunDir, recipe: Recipe) -> OpenedRun:
    checkpoint = "best" if recipe.data.fold_tests else "last"
    return open_run(run.path, checkpoint, accelerator=recipe.hardware.accelerator)


def _probabilities(
    opened: OpenedRun,
    source: Source,
    then: Manifest,
    ids: NDArray[np.int64],
    member: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids (n,) of those that can be read, and their probabilities (n, C).

    Args:
        then: of the run.
        member: (N,) the one of several networks that predicts each sample of the source.
    """
    settings = opened.predictor.settings
    is_plain = settings.tta == "none" and settings.num_members == 1 and opened.predictor.readout is None
    if settings.finetune == "head" and (is_plain or member is not None):
        return _of_features(opened, source, then, ids, member)
    data = opened.data_of(source, ids, cache=opened.recipe.data.cache)
    if member is None:
        return opened.probabilities(data)
    found, logits = opened.without_dropout(data)  # (M, n, C)
    return found, softmax(logits[member[found], np.arange(len(found))], axis=1)


def _of_features(
    opened: OpenedRun, source: Source, then: Manifest, ids: NDArray[np.int64], member: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As `_probabilities`, by the features that the head was trained on: the images are not looked at again."""
    rows = known_features(opened, source, then)
    ids = ids[(rows[ids] != 0).any(1)]
    with torch.inference_mode():
        logits = opened.predictor.eval().own_logits(torch.from_numpy(rows[ids].astype(np.float32)))
        if member is not None:
            logits = logits[torch.from_numpy(member[ids]), torch.arange(len(ids))]
        return ids, logits.float().softmax(1).numpy()


def _metrics(found: OutOfFold, rows: NDArray[np.bool_]) -> Figures:
    """Metrics of some of the predictions, by a mask (N,)."""
    log_p, label, loss = found.log_probs[rows], found.label[rows], found.loss[rows]
    if not len(label):  # not one sample of the fold can be read
        return {"num_samples": 0, **dict.fromkeys(METRICS)}
    scores = PhaseCounts(log_p.shape[1], exact=True, device=torch.device("cpu"))
    scores.update(*(torch.from_numpy(np.ascontiguousarray(x)) for x in (log_p, label, loss)))
    measured = scores.compute()
    return {"num_samples": len(label), **{name: defined(float(measured[name])) for name in METRICS}}
