"""How well the ranking `suspicion` finds wrong labels, beside cleanlab, and what each costs.

    python bench/suspects.py [--quick] [--data digits mnist cifar10] [--seeds 3] [--keep FOLDER]

A *cell* is a data set with 10 or 20 % of its labels planted wrong, symmetrically or depending on the
class (`planted.py`). In each, `litscope fit` trains `convnet` once on all samples with the planted
labels; everything but the number of epochs is what it chooses by itself. That run's ledger gives

    suspicion               the score of `litscope suspects`, from the ledger alone
    AUM + EL2N              the average of their ranks over the epochs t*/4 to t*, which suspicion had to beat
    last loss               the loss in the last epoch
    cleanlab, recorded      cleanlab's scores from the recorded probabilities: p_label and p_max of each
                            visit are known, the rest is spread evenly; averaged over all epochs

and these cost nothing but the time to compute them. As it is usually used, cleanlab needs each sample's
probabilities from a network that has not seen it: five more trainings by the same command, recipe and
epochs, each on four fifths of the samples (folds stratified by the given label), with the last epoch's weights.

    cleanlab CV             its default score (self-confidence: 1 - p of the given label)
    cleanlab CV, margin     its normalized margin

Without any training of a network, `litscope suspects FOLDER` looks at the images through a network that others
trained: its features, and a linear head on them (`--rankings features` has these alone, in a few minutes):

    features                the suspicion that it prints
    features, AUM           the area under the head's margin alone
    cleanlab, features      cleanlab's scores on the same features as its tutorials have it: probabilities of a
                            logistic regression, 5-fold cross-validated (centred and of length 1 it does better
                            than on the features as they are, and takes a fifth of the time)

Figures are average precision and area under the ROC curve of "this label was planted": mean and, after
the sign, standard deviation over the seeds. A seed changes the subset, the planted labels and the training.
Subsets of MNIST and CIFAR-10 come from the end of a fixed order; suspicion was designed on the first 40 %
of it, with other noise (docs/scores.md). Sizes and epochs (`TASKS`) are smaller than a user's, so that everything
ends in an hour on two slow cores: the 300,000 images seen that `litscope fit` chooses on a CPU would be 50 epochs of
6,000 images. With --keep the runs stay and are not trained again, so that a new formula is judged in a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")

import litscope  # noqa: F401 - first: it mends a torchvision that does not fit torch

# ruff: isort: split
import numpy as np
from cleanlab.rank import get_label_quality_scores
from harness import machine
from numpy.typing import NDArray
from planted import PARTNER, Kind, Labels, load, plant
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from litscope.config.flags import recipe_from_keywords
from litscope.evaluation.featured import features_of_source
from litscope.evaluation.predict import predict
from litscope.features.label_errors import find_label_errors
from litscope.features.unit import Unit
from litscope.ledger.reader import LedgerReader
from litscope.ledger.scoring import scorekeeper
from litscope.rundir import RunDir
from litscope.training.fit import fit

NUM_CLASSES = 10
NUM_FOLDS = 5
SHARES = (0.1, 0.2)
RANKINGS = ("runs", "features")
METHODS = {"self_confidence": "", "normalized_margin": ", margin"}
"""cleanlab's scores -> what their name is followed by."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """A data set: how many of its samples (None: all), and for how many epochs."""

    num_samples: int | None
    epochs: int


TASKS = {"digits": Task(None, 30), "mnist": Task(6_000, 6), "cifar10": Task(6_000, 8)}


@dataclass(frozen=True)
class Cell:
    """One data set with planted labels. `str(cell)` names it and its folder."""

    data: str
    kind: Kind
    share: float
    seed: int

    def __str__(self) -> str:
        return f"{self.data}-{self.kind}-{self.share}-{self.seed}"


@dataclass(frozen=True)
class Trained:
    """What a cell's six trainings left.

    Attributes:
        is_wrong: (N,) whether the label was planted.
        label: (N,) the labels that were trained on.
        run: the run on all samples.
        held_out: (N, C) each sample's probabilities from the fold that did not see it.
        fit_s, cv_s: seconds of the run, and of the five folds with their predictions.
    """

    is_wrong: NDArray[np.bool_]
    label: Labels
    run: RunDir
    held_out: Values
    fit_s: float
    cv_s: float


def main() -> None:
    """Train what is not there yet, rank, and print a line per cell, the table, and a JSON line per figure."""
    options = _options()
    tasks = {name: _task(name, options) for name in options.data}
    found: dict[tuple[str, ...], list[dict[str, float]]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        keep = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for cell in _cells(options.data, range(options.seeds)):
            rankings: dict[str, dict[str, float]] = {}
            if "runs" in options.rankings:
                rankings |= judge(train(cell, tasks[cell.data], keep / str(cell)))
            if "features" in options.rankings:
                rankings |= judge_features(cell, tasks[cell.data], keep)
            for name, figures in rankings.items():
                found[cell.data, cell.kind, f"{cell.share:.0%}", name].append(figures)
                print(f"  {cell}  {name:<28}AP {figures['ap']:.3f}  AUROC {figures['auroc']:.3f}", file=sys.stderr)
    print(table(found))
    facts = {"threads": int(os.environ["OMP_NUM_THREADS"]), "cleanlab": version("cleanlab"), "machine": machine()}
    for (data, kind, share, name), figures in found.items():
        cell = {"bench": "suspects", "data": data, "noise": kind, "share": share, "ranking": name}
        per_seed = {key: [round(one[key], 4) for one in figures] for key in figures[0]}
        line = json.dumps({**cell, "epochs": tasks[data].epochs, **per_seed, **facts})
        print(line)
        if options.out:
            with options.out.open("a") as file:
                file.write(line + "\n")


def train(cell: Cell, task: Task, folder: Path) -> Trained:
    """Train on all samples and on each fold's, or take what an earlier call left in `folder`."""
    x, right = load(cell.data, task.num_samples, cell.seed)
    label = plant(right, cell.kind, cell.share, PARTNER[cell.data], cell.seed)
    kept = folder / "held_out.npz"
    if not kept.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = time.perf_counter()
        _fit(x, label, cell.seed, task.epochs, folder / "run")
        fit_s = time.perf_counter() - began
        held_out = cross_validate(x, label, cell.seed, task.epochs, folder / "fold")
        cv_s = time.perf_counter() - began - fit_s
        np.savez(kept, held_out=held_out, label=label, fit_s=fit_s, cv_s=cv_s)
    with np.load(kept) as stored:
        if not np.array_equal(stored["label"], label):
            sys.exit(f"{folder} holds another cell (its labels differ); give --keep another folder.")
        held_out, fit_s, cv_s = stored["held_out"], float(stored["fit_s"]), float(stored["cv_s"])
    return Trained(label != right, label, RunDir(folder / "run"), held_out, fit_s, cv_s)


def cross_validate(x: NDArray[np.uint8], label: Labels, seed: int, epochs: int, folder: Path) -> Values:
    """Probabilities (N, C) of each sample from a network trained on the other folds."""
    held_out = np.zeros((len(label), NUM_CLASSES))
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    for seen, unseen in folds.split(x, label):
        run = _fit(x[seen], label[seen], seed, epochs, folder)
        asked = folder.with_suffix(".npz")
        np.savez(asked, X=x[unseen])
        with _quiet(folder.with_suffix(".log")):
            probs = predict(run.path, asked, checkpoint="last").table
        held_out[unseen] = np.column_stack([probs[f"p_{k}"].to_numpy() for k in range(NUM_CLASSES)])
        asked.unlink()
        shutil.rmtree(folder)
    return held_out


def judge(trained: Trained) -> dict[str, dict[str, float]]:
    """Name of each ranking -> its average precision, AUROC, and the seconds that it takes beyond the run's own."""
    shutil.rmtree(trained.run.scores, ignore_errors=True)  # kept by the training: timed here, and by today's formula
    began = time.perf_counter()
    scores = scorekeeper.refresh(trained.run, save=False)
    suspicion = scores.table.sort_by("sample_id")["suspicion"].to_numpy()
    suspicion_s = time.perf_counter() - began
    signals = recorded(trained.run, len(trained.label))
    last = scores.clock.window[1]
    window = slice(last // 4, last + 1)
    aum, el2n = signals["margin"][window].mean(0), signals["el2n"][window].mean(0)
    probs = recorded_probs(signals, trained.label)
    rankings: dict[str, tuple[Values, float]] = {
        "suspicion": (suspicion, suspicion_s),
        "AUM + EL2N": (rankdata(-aum) + rankdata(el2n), suspicion_s),
        "last loss": (signals["loss"][-1], suspicion_s),
    }
    for method, word in METHODS.items():
        for name, pred_probs, seconds in (("recorded", probs, suspicion_s), ("CV", trained.held_out, trained.cv_s)):
            began = time.perf_counter()
            quality = get_label_quality_scores(trained.label, pred_probs, method=method)
            rankings[f"cleanlab {name}{word}"] = (-quality, seconds + time.perf_counter() - began)
    return _figures(trained.is_wrong, rankings, trained.fit_s)


def judge_features(cell: Cell, task: Task, folder: Path) -> dict[str, dict[str, float]]:
    """As `judge`, of the rankings that train no network; their seconds are those of the features and all else."""
    x, right = load(cell.data, task.num_samples, cell.seed)
    label = plant(right, cell.kind, cell.share, PARTNER[cell.data], cell.seed)
    arrays = folder / f"{cell}.npz"
    np.savez(arrays, X=x, y=label)
    began = time.perf_counter()
    with _quiet(arrays.with_suffix(".log")):
        found = features_of_source(
            recipe_from_keywords(
                dataset=str(arrays), val_split=0.0, cache_dir=str(folder / "features"), accelerator="cpu"
            )
        )
    features_s = time.perf_counter() - began
    arrays.unlink()
    began = time.perf_counter()
    ours = find_label_errors(found.rows, found.ids, label, NUM_CLASSES, cell.seed)
    ours_s = features_s + time.perf_counter() - began
    rankings = {"features": (ours.suspicion, ours_s), "features, AUM": (-ours.aum.astype(np.float64), ours_s)}
    began = time.perf_counter()
    model = LogisticRegression(max_iter=400)
    values = Unit.of(found.rows, found.ids)(found.ids)
    probs = cross_val_predict(model, values, label, cv=NUM_FOLDS, method="predict_proba")
    theirs_s = features_s + time.perf_counter() - began
    for method, word in METHODS.items():
        quality = get_label_quality_scores(label, probs, method=method)
        rankings[f"cleanlab, features{word}"] = (-quality, theirs_s)
    return _figures(label != right, rankings, 0.0)


def _figures(
    is_wrong: NDArray[np.bool_], rankings: dict[str, tuple[Values, float]], fit_s: float
) -> dict[str, dict[str, float]]:
    return {
        name: {
            "ap": float(average_precision_score(is_wrong, score)),
            "auroc": float(roc_auc_score(is_wrong, score)),
            "extra_s": seconds,
            "fit_s": fit_s,
        }
        for name, (score, seconds) in rankings.items()
    }


def recorded(run: RunDir, num_samples: int) -> dict[str, NDArray[np.float32]]:
    """name -> (epochs, N): the signals that the rankings need, of each training visit."""
    names = ["loss", "p_label", "p_max", "margin", "el2n", "pred"]
    rows = LedgerReader(run).table(["epoch", "sample_id", *names], split="train", phase="train")
    epoch, sample_id = rows["epoch"].to_numpy(), rows["sample_id"].to_numpy()
    grids = {name: np.full((epoch.max() + 1, num_samples), np.nan, np.float32) for name in names}
    for name, grid in grids.items():
        grid[epoch, sample_id] = rows[name].to_numpy()
    return grids


def recorded_probs(signals: dict[str, NDArray[np.float32]], label: Labels) -> Values:
    """(N, C) probabilities, mean over the epochs, as far as the ledger knows them.

    For each visit the probabilities of the label and of the predicted class are recorded; the rest is spread
    evenly over the other classes.
    """
    total = np.zeros((len(label), NUM_CLASSES))
    each = np.arange(len(label))
    for p_label, p_max, pred in zip(signals["p_label"], signals["p_max"], signals["pred"].astype(int), strict=True):
        known = np.where(pred == label, p_label, p_label + p_max)
        num_others = np.where(pred == label, NUM_CLASSES - 1, NUM_CLASSES - 2)
        probs = np.repeat((np.clip(1 - known, 0, None) / num_others)[:, None], NUM_CLASSES, axis=1)
        probs[each, pred], probs[each, label] = p_max, p_label
        total += probs
    return total / total.sum(1, keepdims=True)


def table(found: dict[tuple[str, ...], list[dict[str, float]]]) -> str:
    """Markdown tables of the average precision, of the AUROC and of the seconds, with a row per cell."""
    names = list(dict.fromkeys(key[-1] for key in found))
    cells = list(dict.fromkeys(key[:-1] for key in found))
    parts = []
    for figure, title in (("ap", "average precision"), ("auroc", "AUROC"), ("extra_s", "seconds beyond the run")):
        digits = 1 if figure.endswith("_s") else 3
        lines = [f"\n| {title} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for cell in cells:
            values = [_spread([one[figure] for one in found[*cell, name]], digits) for name in names]
            lines.append(f"| {', '.join(cell)} | {' | '.join(values)} |")
        parts.append("\n".join(lines))
    return "\n".join(parts)


def _spread(values: list[float], digits: int) -> str:
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def _fit(x: NDArray[np.uint8], label: Labels, seed: int, epochs: int, folder: Path) -> RunDir:
    """Run `litscope fit` on arrays, all of which train; what it says goes to a log."""
    arrays = folder.with_suffix(".npz")
    np.savez(arrays, X=x, y=label)
    with _quiet(folder.with_suffix(".log")):
        fit(
            arrays,
            arch="convnet",
            run_dir=str(folder),
            val_split=0.0,
            epochs=epochs,
            seed=seed,
            accelerator="cpu",
            logger=["none"],
            progress=False,
        )
    arrays.unlink()
    return RunDir(folder)


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def _cells(data: list[str], seeds: Iterable[int]) -> Iterator[Cell]:
    """All cells, seed by seed and data sets in turn, so that a machine whose speed drifts slows all alike."""
    for seed in seeds:
        for share in SHARES:
            for kind in get_args(Kind):
                for name in data:
                    yield Cell(name, kind, share, seed)


def _task(name: str, options: argparse.Namespace) -> Task:
    task = TASKS[name]
    return Task(options.num_samples or task.num_samples, options.epochs or task.epochs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits only, one seed")
    parser.add_argument("--data", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rankings", nargs="+", choices=RANKINGS, default=list(RANKINGS), help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--num-samples", type=int, help="samples of every data set, instead of its own number")
    parser.add_argument("--epochs", type=int, help="epochs on every data set, instead of its own number")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder, and use those that are there")
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file")
    options = parser.parse_args()
    if options.quick:
        options.data, options.seeds = ["digits"], 1
    return options


if __name__ == "__main__":
    main()
