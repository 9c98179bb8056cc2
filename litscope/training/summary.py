"""What `litscope fit` knows of a run that ended: its share of summary.json, the pictures beside it, the last lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from litscope.config.recipe import Recipe
from litscope.console import from_here, number_of, shell_word, warn
from litscope.defaults import monitored
from litscope.errors import LedgerError, RunError
from litscope.live import records
from litscope.live.records import Ending, Status, best_row, epoch_rows
from litscope.rundir import BEST, LAST, PREVIOUS, RunDir
from litscope.training.choosing.global_batch import global_batch, rate_factor
from litscope.training.fusing import verdict_line
from litscope.training.job import Job, Outcome
from litscope.training.loop.checkpoints import epoch_of

NUM_PAIRS = 10
NUM_HARDEST = 10


def write_summary(
    job: Job, status: Status, message: str, wall_s: float, outcome: Outcome | None = None
) -> dict[str, Any]:
    """Write summary.json of a run that ended, well or not, and return what it holds.

    Args:
        message: why, where it did not finish.
        wall_s: seconds of this attempt, from the first step's preparation to the last evaluation.
        outcome: of the training; None if it did not come to its end.
    """
    recipe, data, run, plan = job.recipe, job.data, job.run, job.plan
    rows = epoch_rows(run)
    confusion = outcome.confusion if outcome else None
    ending = Ending(
        status=status,
        message=message,
        wall_s=wall_s,
        epochs=outcome.epochs if outcome else len(rows),
        global_step=outcome.global_step if outcome else (rows[-1]["step"] if rows else 0),
        classes=data.classes,
        num_samples={"train": len(data.train_ids), "val": len(data.val_ids), "test": len(data.test_ids)},
        num_devices=plan.world_size,
        checkpoints=checkpoint_facts(checkpoint_folder(recipe, run), outcome.best if outcome else None),
        monitor=recipe.training.monitor,
        mode=recipe.training.mode,
        best_epoch=epoch_of(Path(outcome.best)) if outcome and outcome.best else None,
        tested={
            name: value for name, value in (outcome.evaluation if outcome else {}).items() if name.startswith("test/")
        },
        facts={
            "dataset": recipe.data.origin,
            "arch": recipe.model.name,
            "num_parameters": outcome.num_parameters if outcome else None,
            "device": plan.device_type,
            "global_batch_size": global_batch(recipe, plan.world_size),
            "peak_lr": None if recipe.training.lr is None else recipe.training.lr * rate_factor(recipe),
            "precision": plan.precision,
            "resume": f"litscope fit --resume {shell_word(run.path)}",
            "confused_pairs": confused_pairs(confusion, data.classes) if confusion is not None else [],
            "hardest": hardest_samples(run) if recipe.logging.ledger and rows else [],
            "ensemble": outcome.ensemble if outcome else None,
            "near_duplicates": outcome.near_duplicates if outcome else None,
        },
    )
    return records.write_summary(run, ending)


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


def draw_figures(job: Job, outcome: Outcome | None = None) -> None:
    """figures/curves.png, and figures/confusion.png where there is something to count."""
    from litscope.pictures.charts import confusion_matrix, curves

    run, training = job.run, job.recipe.training
    rows = epoch_rows(run)
    if rows:
        title = f"{run.path.name}: {number_of(len(rows), 'epoch')}"
        curves(rows, run.figures / "curves.png", monitor=training.monitor, mode=training.mode, title=title)
    counts = None if outcome is None else outcome.confusion
    if outcome is not None and counts is not None and counts.sum():
        title = f"{run.path.name}: {outcome.evaluated} split, with the {'best' if outcome.best else 'last'} weights"
        confusion_matrix(counts, job.data.classes, run.figures / "confusion.png", title=title)


def checkpoint_folder(recipe: Recipe, run: RunDir) -> Path:
    """Where the checkpoints of a run lie."""
    folder = recipe.training.checkpoint_dir
    return Path(folder).absolute() if folder else run.checkpoints.absolute()


def checkpoint_facts(folder: Path, best: str | None) -> dict[str, Any]:
    """Paths of the checkpoints: last, best, and all that are kept."""
    last = folder / LAST
    kept = sorted(str(path) for path in folder.glob("*.ckpt") if path.name not in (LAST, PREVIOUS, BEST))
    return {"last": str(last) if last.exists() else None, "best": best or None, "kept": kept}


def _lost_best(summary: dict[str, Any]) -> list[str]:
    """A line about a better epoch, by the monitor, whose weights are gone: the run watched another metric then."""
    monitor = summary["monitor"]
    if monitor is None or not summary["checkpoints"]["best"]:
        return []
    row, best = (
        best_row(epoch_rows(RunDir(Path(summary["run_dir"]))), monitor, summary["mode"]),
        summary["metrics"]["best"],
    )
    if row.get(monitor) in (None, best.get(monitor)):
        return []
    return [f"{monitor} was {row[monitor]:.4f} after epoch {row['epoch'] + 1}, whose weights are not kept"]


def closing_lines(summary: dict[str, Any]) -> list[str]:
    """What is said at the end of a finished run."""
    best, monitor, run = summary["metrics"]["best"], summary["monitor"], summary["run_dir"]
    names = ("test/accuracy", "test/loss") if best.get("test/accuracy") is not None else ("val/accuracy",)
    others = {name: best[name] for name in names if best.get(name) is not None}
    lines = []
    if shown := monitored(best, monitor) | others:
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        lines.append(f"best: {numbers} (epoch {summary['best_epoch'] + 1})")
        lines += _lost_best(summary)
    if best and monitor is not None and best.get(monitor) is None:
        lines.append(f"{monitor} was undefined in every epoch: no epoch is the best, the metrics are those of the last")
    if summary["confused_pairs"]:
        pairs = [f"{p['label']} as {p['prediction']} ({p['count']})" for p in summary["confused_pairs"][:3]]
        lines.append(f"most confused: {', '.join(pairs)}")
    if summary["ensemble"] is not None:
        lines.append(verdict_line(summary["ensemble"]))
    if summary["near_duplicates"] is not None:
        lines += _near_duplicates(summary["near_duplicates"], best, monitor)
    if summary["checkpoints"]["best"]:
        lines.append(f"checkpoint: {from_here(summary['checkpoints']['best'])}")
    lines.append(f"figures: {Path(run) / 'figures'}")
    if summary["hardest"]:  # there is a ledger to read
        word = shell_word(run)
        lines.append(f"next: litscope suspects {word}    (labels that may be wrong)")
        lines.append(f"      litscope worst {word}       (the hardest samples)")
    return lines


def _near_duplicates(found: dict[str, Any], best: dict[str, Any], monitor: str | None) -> list[str]:
    """A line for the pairs across splits, if there are any, and one for the metrics without the samples that leak."""
    num, without = found["num_across_splits"], found["without"]
    if not num:
        return []
    first = " ~ ".join(sample["key"] for sample in found["across_splits"][0]["samples"])
    lines = [f"near-duplicates in more than one split: {number_of(num, 'pair')} ({first}{', ...' if num > 1 else ''})"]
    if without is not None:
        split = without["split"]
        names = dict.fromkeys([f"{split}/{(monitor or 'loss').rpartition('/')[2]}", f"{split}/accuracy"])
        shown = [
            f"{name} {without['metrics'][name]:.4f} (with them {best[name]:.4f})"
            for name in names
            if None not in (without["metrics"].get(name), best.get(name))
        ]
        whose = f"{number_of(without['num_left_out'], 'sample')} of {split}"
        lines.append(f"without the {whose} that training has a near-duplicate of: {', '.join(shown)}")
    return lines
