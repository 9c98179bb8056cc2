"""summary.json: how a run ended, its metrics, where its files are. And the pictures beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from litscope.config.recipe import Recipe
from litscope.console import warn
from litscope.errors import LedgerError, RunError
from litscope.rundir import RunDir, read_lines, valid_lines
from litscope.training.job import Job, Outcome

NUM_PAIRS = 10
NUM_HARDEST = 10


def epoch_rows(run: RunDir) -> list[dict[str, Any]]:
    """The lines of metrics/epochs.jsonl that hold, by epoch: what a later attempt repeated is left out."""
    rows = valid_lines(read_lines(run.epoch_metrics), read_lines(run.attempts))
    return list({row["epoch"]: row for row in rows}.values())


def read_summary(run: RunDir) -> dict[str, Any] | None:
    """The summary of a run, or None if it has none (it is running, or was killed)."""
    if not run.summary.exists():
        return None
    summary: dict[str, Any] = json.loads(run.summary.read_text())
    return summary


def make_summary(job: Job, status: str, message: str, wall_s: float, outcome: Outcome | None) -> dict[str, Any]:
    """summary.json of a run that ended, well or not.

    Args:
        status: "finished", "interrupted" or "failed".
        message: why, where it did not finish.
        wall_s: seconds of this attempt, from the first step's preparation to the last evaluation.
        outcome: of the training; None if it did not come to its end.
    """
    recipe, data, run = job.recipe, job.data, job.run
    rows = epoch_rows(run)
    facts = metric_facts(rows, recipe.training.monitor, recipe.training.mode)
    confusion = None
    if outcome is not None:
        tested = {name: value for name, value in outcome.evaluation.items() if name.startswith("test/")}
        facts["metrics"]["best"] |= tested
        confusion = outcome.confusion
    return {
        "status": status,
        "message": message,
        "name": run.path.name,
        "run_dir": str(run.path),
        "dataset": recipe.data.dataset,
        "arch": recipe.model.arch,
        "num_parameters": outcome.num_parameters if outcome else None,
        "classes": list(data.classes),
        "num_samples": {"train": len(data.train_ids), "val": len(data.val_ids), "test": len(data.test_ids)},
        "epochs": outcome.epochs if outcome else len(rows),
        "global_step": outcome.global_step if outcome else (rows[-1]["step"] if rows else 0),
        "monitor": recipe.training.monitor,
        "mode": recipe.training.mode,
        **facts,
        "checkpoints": checkpoint_facts(checkpoint_folder(recipe, run), outcome.best if outcome else None),
        "device": job.plan.device_type,
        "num_devices": job.plan.world_size,
        "precision": job.plan.precision,
        "wall_s": round(wall_s, 3),
        "resume": f"litscope fit --resume {run.path}",
        "confused_pairs": confused_pairs(confusion, data.classes) if confusion is not None else [],
        "hardest": hardest_samples(run) if recipe.logging.ledger and rows else [],
    }


def metric_facts(rows: list[dict[str, Any]], monitor: str | None, mode: str | None) -> dict[str, Any]:
    """Final and best metrics from the epochs' lines.

    Returns:
        metrics {"final", "best"}, best_epoch (from 0; None without epochs), epoch_s, samples_per_s
        (mean over the epochs).
    """
    if not rows:
        return {"metrics": {"final": {}, "best": {}}, "best_epoch": None, "epoch_s": [], "samples_per_s": None}
    # Once samples of val or test were edited, metrics from before are of another data set.
    scored = [
        row
        for row in rows
        if monitor and row.get(monitor) is not None and row.get("num_edits", 0) == rows[-1].get("num_edits", 0)
    ]
    choose = min if mode == "min" else max
    best = choose(scored, key=lambda row: row[str(monitor)]) if scored else rows[-1]
    return {
        "metrics": {"final": _metrics(rows[-1]), "best": _metrics(best)},
        "best_epoch": best["epoch"],
        "epoch_s": [round(row["epoch_s"], 3) for row in rows],
        "samples_per_s": round(sum(row["samples_per_s"] for row in rows) / len(rows), 1),
    }


def _metrics(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if "/" in name}


def confused_pairs(counts: np.ndarray[Any, Any], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The most frequent mistakes.

    Args:
        counts: (C, C), row = label, column = prediction.

    Returns:
        label, prediction, count, and the share of the label's samples, most frequent first.
    """
    from litscope.ledger.queries import most_confused

    return [
        {
            "label": pair.label_name,
            "prediction": pair.pred_name,
            "count": pair.num_samples,
            "share": round(pair.share, 4),
        }
        for pair in most_confused(counts, classes, NUM_PAIRS)
    ]


def hardest_samples(run: RunDir) -> list[dict[str, Any]]:
    """The training samples with the highest mean loss over the last epochs; none if the ledger cannot be read."""
    from litscope.ledger.queries import worst

    try:
        return [dict(row) for row in worst(run, NUM_HARDEST, split="train", by="loss")]
    except (LedgerError, RunError) as error:
        warn(f"the hardest samples are left out of the summary: {error}")
        return []


def draw_figures(run: RunDir, counts: np.ndarray[Any, Any] | None, classes: tuple[str, ...]) -> None:
    """figures/curves.png, and figures/confusion.png where there is something to count."""
    from litscope import pictures

    rows = epoch_rows(run)
    if rows:
        pictures.curves(rows, run.figures / "curves.png")
    if counts is not None and counts.sum():
        pictures.confusion_matrix(counts, classes, run.figures / "confusion.png")


def checkpoint_folder(recipe: Recipe, run: RunDir) -> Path:
    """Where the checkpoints of a run lie."""
    folder = recipe.training.checkpoint_dir
    return Path(folder).absolute() if folder else run.checkpoints.absolute()


def checkpoint_facts(folder: Path, best: str | None) -> dict[str, Any]:
    """Paths of the checkpoints: last, best, and all that are kept."""
    last = folder / "last.ckpt"
    kept = sorted(str(path) for path in folder.glob("*.ckpt") if path != last)
    return {"last": str(last) if last.exists() else None, "best": best or None, "kept": kept}


def closing_lines(summary: dict[str, Any]) -> list[str]:
    """What is said at the end of a finished run."""
    best, monitor, run = summary["metrics"]["best"], summary["monitor"], summary["run_dir"]
    shown = [name for name in (monitor, "test/accuracy", "test/loss") if name in best]
    lines = []
    if shown:
        numbers = ", ".join(f"{name} {best[name]:.4f}" for name in shown)
        lines.append(f"best: {numbers} (epoch {summary['best_epoch'] + 1})")
    if summary["confused_pairs"]:
        pairs = [f"{p['label']} as {p['prediction']} ({p['count']})" for p in summary["confused_pairs"][:3]]
        lines.append(f"most confused: {', '.join(pairs)}")
    if summary["checkpoints"]["best"]:
        lines.append(f"checkpoint: {summary['checkpoints']['best']}")
    lines.append(f"figures: {Path(run) / 'figures'}")
    if summary["hardest"]:  # there is a ledger to read
        lines.append(f"next: litscope suspects {run}    (labels that may be wrong)")
        lines.append(f"      litscope worst {run}       (the samples that the model finds hardest)")
    return lines
