"""What a network's probabilities are worth on labelled samples: figures with their intervals, and what came of what was
learned on samples kept aside (a scaling, the limit of conformal sets, a threshold). No Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litscope.models.readout import Readout, SetLimit
from litscope.pictures import charts
from litscope.training.readouts import Answers, limit_of, scaling_of
from litscope.uncertainty.bootstrap import Interval, intervals
from litscope.uncertainty.calibration import classwise_error, reliability_of
from litscope.uncertainty.operating import operating_points
from litscope.uncertainty.proper import brier_scores, log_losses
from litscope.uncertainty.selective import risk_coverage

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

ALARMS = (0, 10)
"""False positives at which the true positive rate is told; TPR_0 and TPR_10 of the lens-finding challenge."""

RATE = 0.001
"""The false positive rate at which it is told, too."""

PARTIAL = 0.1
"""The false positive rate up to which the partial AUROC goes."""


def quality(
    answers: Answers, readout: Readout | None, classes: Sequence[str], unreached: str | None = None
) -> dict[str, Any]:
    """All figures, as plain values for JSON.

    Args:
        answers: at least one, labelled; of other samples than the readout was learned on, to mean something.
        readout: how the logits are read; None: as they are.
        classes: names of the C classes; of two, the second is the positive one.
        unreached: the aim of a threshold that no threshold reaches.

    Returns:
        figures: {name: {value, low, high}}; low and high are None where no interval is to be had, and where the samples
            do not allow the figure itself, value is, with the `reason`.
        calibration, conformal, threshold: what was learned and what came of it, where there is one.
    """
    found: dict[str, Any] = {}
    num_classes = answers.logits.shape[1]
    probs = scaling_of(readout, num_classes).probabilities(answers.logits)
    if readout is not None and readout.method != "none":
        plain = scaling_of(None, num_classes).probabilities(answers.logits)
        found["calibration"] = {
            "method": readout.method,
            "temperature": readout.temperature,
            "scale": list(readout.scale),
            "shift": list(readout.shift),
            "num_samples": readout.fitted_on.num_samples,
            "learned_on": readout.fitted_on.what,
            "before": {
                name: _plain(each, answers)["value"]
                for name, each in figures(plain, answers, with_intervals=False).items()
            },
        }
    found["figures"] = {name: _plain(each, answers) for name, each in figures(probs, answers).items()}
    if readout is not None and readout.sets is not None:
        found["conformal"] = _conformal(readout.sets, readout, probs, answers, classes)
    if readout is not None and (readout.threshold is not None or unreached is not None):
        found["threshold"] = {
            "aim": unreached or readout.aim,
            "threshold": readout.threshold,
            "num_samples": readout.fitted_on.num_samples,
            "learned_on": readout.fitted_on.what,
            **({} if readout.threshold is None else _counted(readout.threshold, probs, answers)),
        }
    return found


def draw(answers: Answers, readout: Readout | None, found: dict[str, Any], folder: Path, *, title: str) -> list[str]:
    """Draw what `quality` found, as reliability.png and risk_coverage.png in a folder; returns their paths."""
    probs = scaling_of(readout, answers.logits.shape[1]).probabilities(answers.logits)
    bins, curve = reliability_of(probs, answers.label), risk_coverage(probs.max(1), probs.argmax(1) == answers.label)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "reliability.png", folder / "risk_coverage.png"
    error = found["figures"]["ece"]["value"]
    charts.reliability_diagram(
        bins.confidence, bins.accuracy, bins.count, files[0], title=f"{title}: calibration error {error:.4f}"
    )
    charts.risk_coverage_curve(curve.coverage, curve.risk, curve.area, files[1], title=title)
    return [str(file) for file in files]


def figures(probs: Floats, answers: Answers, with_intervals: bool = True) -> dict[str, Interval]:
    """Each figure of probabilities (N, C), with its interval by groups where one means something.

    No interval is given for calibration errors: in a bootstrap draw many samples come twice, which adds to them.
    """
    label = answers.label
    is_right = probs.argmax(1) == label
    of_each = np.stack([is_right, log_losses(probs, label), brier_scores(probs, label)], 1)

    def ranged(names: Sequence[str], figure: Callable[[Ids], Sequence[float]]) -> dict[str, Interval]:
        if with_intervals:
            return dict(zip(names, intervals(figure, len(label), answers.groups), strict=True))
        return {name: _plainly(value) for name, value in zip(names, figure(np.arange(len(label))), strict=True)}

    bins, curve = reliability_of(probs, label), risk_coverage(probs.max(1), is_right)
    found = ranged(("accuracy", "nll", "brier"), lambda ids: of_each[ids].mean(0).tolist())
    found |= {
        "ece": _plainly(bins.error),
        "ece_corrected": _plainly(bins.corrected_error),
        "ece_classwise": _plainly(classwise_error(probs, label)),
        "aurc": _plainly(curve.area),
        "aurc_excess": _plainly(curve.excess_area),
    }
    if probs.shape[1] != 2:
        return found
    order = np.argsort(-probs[:, 1], kind="stable")
    names = [f"tpr_at_{count}_false_positives" for count in ALARMS]
    names += [f"tpr_at_fpr_{RATE:g}", f"partial_auroc_to_fpr_{PARTIAL:g}", "auroc"]
    return found | ranged(names, partial(_rare_hits, probs[order, 1], label[order] == 1, order))


def _plainly(value: float) -> Interval:
    return Interval(value, None, None, 0)


def _rare_hits(score: Floats, truth: npt.NDArray[np.bool_], order: Ids, ids: Ids) -> list[float]:
    """What is found of the positives with few false ones; nan where the samples do not allow it.

    Args:
        score, truth: (N,) in descending order of the scores.
        order: (N,) the samples in that order.
        ids: (n,) the samples that count, each as often as it comes.
    """
    points = operating_points(score, truth, np.bincount(ids, minlength=len(order))[order])
    rate = points.tpr_at_rate(RATE)
    at_alarms = [points.tpr_at_alarms(count) for count in ALARMS]
    return [*at_alarms, float("nan") if rate is None else rate, points.auroc(PARTIAL), points.auroc()]


def _conformal(
    sets: SetLimit, readout: Readout, probs: Floats, answers: Answers, classes: Sequence[str]
) -> dict[str, Any]:
    limit = limit_of(sets)
    made = limit.sets(probs, answers.lot)
    is_in = made[np.arange(len(probs)), answers.label]
    size = made.sum(1)
    return {
        "method": sets.method,
        "by_class": sets.by_class,
        "asked": sets.coverage,
        "coverage": asdict(intervals(lambda ids: [is_in[ids].mean()], len(is_in), answers.groups)[0]),
        "mean_set_size": float(size.mean()),
        "empty": int((size == 0).sum()),
        "coverage_of_class": {
            name: float(is_in[answers.label == c].mean()) if (answers.label == c).any() else None
            for c, name in enumerate(classes)
        },
        "num_samples": readout.fitted_on.num_samples,
        "learned_on": readout.fitted_on.what,
        "classes_without_limit": [name for c, name in enumerate(classes) if np.isinf(limit.limit[c])],
    }


def _counted(threshold: float, probs: Floats, answers: Answers) -> dict[str, Any]:
    called, truth = probs[:, 1] >= threshold, answers.label == 1
    hits, alarms, missed = int((called & truth).sum()), int((called & ~truth).sum()), int((~called & truth).sum())
    quiet = int((~called & ~truth).sum())
    return {
        "true_positives": hits,
        "false_positives": alarms,
        "false_negatives": missed,
        "true_negatives": quiet,
        "precision": _ratio(hits, hits + alarms),
        "recall": _ratio(hits, hits + missed),
        "fpr": _ratio(alarms, alarms + quiet),
        "f1": _ratio(2 * hits, 2 * hits + alarms + missed),
    }


def _plain(each: Interval, answers: Answers) -> dict[str, Any]:
    """A figure for JSON; one that is not defined with the reason."""
    if each.value == each.value:
        return {"value": each.value, "low": each.low, "high": each.high}
    negatives, positives = (int((answers.label == c).sum()) for c in (0, 1))
    of_few = f"{negatives:,} negatives are too few for one false positive at this rate"
    reason = of_few if positives and negatives else f"{positives:,} positives and {negatives:,} negatives"
    return {"value": None, "low": None, "high": None, "reason": reason}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
