"""`litscope cv`: cross-validation. Every sample is predicted by a network that was not trained on it.

The samples that are not for testing are divided into K folds, stratified by class, with groups kept together
(`data.splits`). For each fold a network trains on the others, with the recipe's own seed, and predicts the fold with
its last weights: choosing the best epoch by the fold would flatter the numbers. If the network is an MLP or a head
on features, the K networks train in one run as its members, each leaving its fold out (`models.networks.members`).
"""

from __future__ import annotations

import copy
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from litscope.config.recipe import Recipe
from litscope.config.yamlfile import dump
from litscope.console import say, shell_word, table_lines
from litscope.curation.recipe_source import make_source
from litscope.data.manifest import Manifest
from litscope.data.sources.source import Source
from litscope.defaults import METRICS
from litscope.errors import ConfigError, Interrupted
from litscope.evaluation.featured import known_features
from litscope.evaluation.opened_run import OpenedRun, open_run
from litscope.evaluation.predict import table_of
from litscope.experiments.fresh import check_fresh
from litscope.experiments.many_runs import as_members, folder_for, prepared, why_apart
from litscope.experiments.reruns import EpochLines, train_aside
from litscope.live.records import defined, read_summary
from litscope.live.stop_requests import catch_stop_requests
from litscope.models.metrics import PhaseCounts
from litscope.rundir import RunDir, whole_file, write_json, write_text
from litscope.starter import refuse_company

RECIPE = "cv.yaml"
LEAST_FOLDS = 2
NUM_DIGITS = 4
NUM_NAMES = 5


Figures = dict[str, float | None]
"""Metrics by name; None where one is undefined."""


@dataclass(frozen=True)
class CvResult:
    """What `cross_validate` found.

    Attributes:
        folds: num_samples and the metrics of each fold, by name; None where a metric is undefined.
        pooled: the metrics of all out-of-fold predictions together.
        absent: the classes that each fold holds no sample of.
        table: the file of the out-of-fold predictions.
        is_at_once: whether the networks trained in one run.
    """

    dataset: str
    folds: tuple[Figures, ...]
    pooled: Figures
    table: Path
    is_at_once: bool
    wall_s: float
    absent: tuple[tuple[str, ...], ...] = ()

    def __repr__(self) -> str:
        accuracy = _shown(self.pooled["accuracy"])
        return f"CvResult({self.dataset!r}: {len(self.folds)} folds, accuracy {accuracy} pooled, {str(self.table)!r})"

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        names = list(METRICS)
        rows = [
            [str(number), f"{int(fold['num_samples'] or 0):,}", *(_shown(fold[name]) for name in names)]
            for number, fold in enumerate(self.folds)
        ]
        mean, deviation = self._over_folds(statistics.fmean), self._over_folds(statistics.stdev)
        rows.append(["mean", "", *(_shown(mean[name]) for name in names)])
        rows.append(["sd", "", *(_shown(deviation[name]) for name in names)])
        num_pooled = int(self.pooled["num_samples"] or 0)
        rows.append(["pooled", f"{num_pooled:,}", *(_shown(self.pooled[name]) for name in names)])
        how = "in one run" if self.is_at_once else "one after the other"
        return [
            f"{self.dataset}: {len(self.folds)} folds, trained {how}, {self.wall_s:.0f} s",
            *table_lines(["fold", "samples", *names], rows, right=["samples", *names]),
            *self._notes(),
            f"out-of-fold predictions: {self.table}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {
            "dataset": self.dataset,
            "num_folds": len(self.folds),
            "folds": list(self.folds),
            "mean": self._over_folds(statistics.fmean),
            "sd": self._over_folds(statistics.stdev),
            "pooled": self.pooled,
            "absent": [list(names) for names in self.absent],
            "predictions": str(self.table),
            "is_at_once": self.is_at_once,
            "wall_s": self.wall_s,
        }

    def _over_folds(self, statistic: Callable[[list[float]], float]) -> Figures:
        """A statistic of the folds in which a metric is defined; None for fewer than two of them."""
        found = {name: [value for fold in self.folds if (value := fold[name]) is not None] for name in METRICS}
        return {name: float(statistic(values)) if len(values) > 1 else None for name, values in found.items()}

    def _notes(self) -> list[str]:
        """Why the mean over the folds and the figure of all predictions can differ much."""
        lacking = [number for number, names in enumerate(self.absent) if names]
        if not lacking:
            return []
        names = sorted({name for absent in self.absent for name in absent})
        some = ", ".join(names[:NUM_NAMES]) + (f" and {len(names) - NUM_NAMES} more" if len(names) > NUM_NAMES else "")
        which = f"fold{'s' if len(lacking) > 1 else ''} {', '.join(map(str, lacking))}"
        why = (
            f"{which}: no sample of {some}. Metrics that are means over classes (precision, recall, f1, auroc, ap) "
            "are there over other classes than in the rest, so their mean over the folds is not that of the whole. "
            "Pooled is over all classes, and compares probabilities of different networks."
        )
        return [
            why,
            *(["A metric is - where it is undefined; its mean is over the other folds."] if self._is_gappy else []),
        ]

    @property
    def _is_gappy(self) -> bool:
        return any(value is None for fold in self.folds for value in fold.values())


def cross_validate(recipe: Recipe, num_folds: int = 5) -> CvResult:
    """Train a network for each fold, and predict each sample with the network that has not seen it.

    Args:
        recipe: as for `fit`; its run_dir is the folder for everything (default: runs/cv-N). Given the folder of an
            interrupted cross-validation, that one goes on, and folds that are trained are kept.
        num_folds: at least 2.

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
    training = recipe.training
    if training.early_stopping or training.scheduler_type == "plateau":
        flag = "--early-stopping" if training.early_stopping else "--scheduler plateau"
        raise ConfigError(f"{flag}: it looks at the validation data, and those are the fold to be predicted.")
    recipe = copy.deepcopy(recipe)
    recipe.data.num_folds, recipe.data.fold = num_folds, 0
    chosen = prepared(recipe).recipe
    together = _together(recipe, chosen, num_folds)
    reason = why_apart(chosen) or ("--mixup would blend a fold into the others" if training.mixup else None)
    with folder_for(recipe, "cv", RECIPE) as folder:
        _keep_recipe(recipe, folder)
        say(f"cv: {num_folds} folds, {f'one after the other: {reason}' if reason else 'in one run'}")
        return _cross_validate(recipe, None if reason else together, num_folds, folder, began)


def _together(recipe: Recipe, chosen: Recipe, num_folds: int) -> Recipe:
    """The recipe of one run whose members are the networks of all folds.

    Args:
        chosen: the recipe of one fold, resolved.
    """
    own = copy.deepcopy(recipe)
    as_members(own, chosen, num_folds)
    own.data.fold = None
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
                source, fold, probs = _train_at_once(together, folder)
            else:
                source, fold, probs = _train_in_turn(recipe, num_folds, folder)
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(f"Interrupted. To go on: the same command with --run-dir {shell_word(folder)}") from None
    names = source.manifest.classes
    ids = np.flatnonzero(fold >= 0)
    label = source.manifest.labels[ids]
    table = table_of(source, names, ids, probs[ids])
    log_p = np.log(np.maximum(probs[ids], np.finfo(np.float32).tiny))
    loss = -log_p[np.arange(len(ids)), label]
    table = table.add_column(0, "sample_id", pa.array(ids)).add_column(2, "fold", pa.array(fold[ids]))
    table = table.append_column("loss", pa.array(loss, pa.float32()))
    file = folder / "out-of-fold.parquet"
    with whole_file(file) as out:
        pq.write_table(table, out)
    folds = tuple(
        _metrics(log_p[is_in], label[is_in], loss[is_in]) for is_in in (fold[ids] == k for k in range(num_folds))
    )
    absent = tuple(
        tuple(name for index, name in enumerate(names) if index not in label[fold[ids] == k]) for k in range(num_folds)
    )
    wall_s, pooled = round(time.monotonic() - began, 3), _metrics(log_p, label, loss)
    result = CvResult(str(recipe.data.origin), folds, pooled, file, together is not None, wall_s, absent)
    write_json(folder / "cv.json", result.to_dict())
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
    return train_aside(recipe, folder, keeps_last=True, on_epoch=lines)


def _train_in_turn(
    recipe: Recipe, num_folds: int, folder: Path
) -> tuple[Source, NDArray[np.int64], NDArray[np.float32]]:
    """The data, the fold of each sample, (N,), and the probabilities that its network gives it, (N, C)."""
    found: tuple[Source, NDArray[np.int64], NDArray[np.float32]] | None = None
    for number in range(num_folds):
        began = time.monotonic()
        own = copy.deepcopy(recipe)
        own.data.fold = number
        opened = _open(_trained(own, folder / f"fold-{number}", f"fold {number}"), recipe)
        data, then = opened.find_data()
        source = data.source
        ids, probs = _probabilities(opened, source, then.manifest, data.ids("val"))
        if found is None:
            count = len(source.manifest)
            found = source, np.full(count, -1, np.int64), np.zeros((count, probs.shape[1]), np.float32)
        _, fold, all_probs = found
        fold[ids], all_probs[ids] = number, probs
        right = float((probs.argmax(1) == source.manifest.labels[ids]).mean())
        say(f"fold {number}: {len(ids):,} samples, accuracy {right:.4f} ({time.monotonic() - began:.1f} s)")
    assert found is not None
    return found


def _train_at_once(together: Recipe, folder: Path) -> tuple[Source, NDArray[np.int64], NDArray[np.float32]]:
    """Do the same as `_train_in_turn`, with the networks as members of one run."""
    opened = _open(_trained(together, folder / "folds", "cv"), together)
    data, then = opened.find_data()
    source, fold = data.source, make_source(opened.recipe).folds
    assert fold is not None
    ids, probs = _probabilities(opened, source, then.manifest, np.flatnonzero(fold >= 0), fold)
    all_probs = np.zeros((len(source.manifest), probs.shape[1]), np.float32)
    all_probs[ids] = probs
    return source, fold, all_probs


def _open(run: RunDir, recipe: Recipe) -> OpenedRun:
    return open_run(run.path, "last", accelerator=recipe.hardware.accelerator)


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
    if settings.finetune == "head" and (settings.tta == "none" or member is not None):
        return _of_features(opened, source, then, ids, member)
    data = opened.data_of(source, ids, cache=opened.recipe.data.cache)
    if member is None:
        return opened.probabilities(data)
    found_ids, found = [], []
    with torch.inference_mode():
        for batch in data.batches():
            logits = opened.predictor.eval().own_logits(batch["features"])  # (M, B, C)
            asked = torch.from_numpy(member[batch["sample_id"].numpy()])
            found_ids.append(batch["sample_id"].numpy())
            found.append(logits[asked, torch.arange(len(asked))].float().softmax(1).numpy())
    return np.concatenate(found_ids), np.concatenate(found)


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


def _metrics(log_p: NDArray[np.float32], label: NDArray[np.int64], loss: NDArray[np.float32]) -> Figures:
    scores = PhaseCounts(log_p.shape[1], exact=True, device=torch.device("cpu"))
    scores.update(*(torch.from_numpy(np.ascontiguousarray(x)) for x in (log_p, label, loss)))
    found = scores.compute()
    return {"num_samples": len(label), **{name: defined(float(found[name])) for name in METRICS}}


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.{NUM_DIGITS}f}"
