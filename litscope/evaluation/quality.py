"""What a network's probabilities are worth on labelled samples: figures with their intervals, and what can be set by
samples kept aside (a temperature, the limit of conformal sets, a threshold). No Lightning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from litscope.data.sampler import fold, hash_ids
from litscope.errors import ConfigError
from litscope.pictures import charts
from litscope.uncertainty.bootstrap import Interval, intervals
from litscope.uncertainty.calibration import classwise_error, reliability_of
from litscope.uncertainty.conformal import Method, fit
from litscope.uncertainty.operating import Aim, operating_points
from litscope.uncertainty.proper import brier_scores, log_losses
from litscope.uncertainty.selective import risk_coverage
from litscope.uncertainty.temperature import Scaling, fit_temperature, fit_vector

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Calibrate = Literal["temperature", "vector"]

ALARMS = (0, 10)
"""False positives at which the true positive rate is told; TPR_0 and TPR_10 of the lens-finding challenge."""

RATE = 0.001
"""The false positive rate at which it is told, too."""

PARTIAL = 0.1
"""The false positive rate up to which the partial AUROC goes."""

_LOT = 0x6C6F74
_AIM = re.compile(r"(f1|youden)|(precision|recall|fpr):(\d*\.?\d+)")


@dataclass(frozen=True)
class Answers:
    """What a network says of N labelled samples.

    Attributes:
        sample_id: (N,) in the run.
        logits: (N, C); log-probabilities will do.
        label: (N,).
        groups: (N,) what belongs together; None where nothing is known of it.
    """

    sample_id: Ids
    logits: Floats
    label: Ids
    groups: npt.NDArray[np.object_] | None = None

    @property
    def lot(self) -> Floats:
        """(N,) in [0, 1), a number drawn for each sample by its id, the same each time."""
        return np.asarray((hash_ids(self.sample_id, fold(_LOT)) >> np.uint64(11)) * 2.0**-53)


@dataclass(frozen=True)
class Asked:
    """What is to be set by samples kept aside.

    Attributes:
        calibrate: scale the logits first.
        coverage: of conformal sets; None: none are made.
        conformal: the kind of these sets.
        by_class: hold their promise in every class.
        threshold: an aim for two classes: f1, youden, precision:0.9, recall:0.95, fpr:0.001.
    """

    calibrate: Calibrate | None = None
    coverage: float | None = None
    conformal: Method = "lac"
    by_class: bool = False
    threshold: str | None = None

    def __post_init__(self) -> None:
        if self.calibrate is not None and self.calibrate not in get_args(Calibrate):
            raise ConfigError(f"--calibrate {self.calibrate}: it is temperature or vector.")
        if self.conformal not in get_args(Method):
            raise ConfigError(f"--conformal {self.conformal}: it is {', '.join(get_args(Method))}.")
        if self.coverage is not None and not 0.0 < self.coverage < 1.0:
            raise ConfigError(f"--coverage {self.coverage:g}: it is a share between 0 and 1, such as 0.9.")
        if self.threshold is not None:
            aim_of(self.threshold)

    @property
    def needs_others(self) -> bool:
        """Whether anything is set by other samples."""
        return self.calibrate is not None or self.coverage is not None or self.threshold is not None


def aim_of(text: str) -> tuple[Aim, float | None]:
    """What `--threshold` asks for.

    Raises:
        ConfigError: for anything that is no aim.
    """
    found = _AIM.fullmatch(text)
    value = None if found is None or found[3] is None else float(found[3])
    if found is None or (value is not None and not 0.0 <= value <= 1.0):
        raise ConfigError(
            f"--threshold {text}: it is f1, youden, or precision, recall or fpr with a share, such as precision:0.9, "
            "recall:0.95 or fpr:0.001."
        )
    return cast(Aim, found[1] or found[2]), value


def quality(answers: Answers, asked: Asked, kept_aside: Answers | None, classes: Sequence[str]) -> dict[str, Any]:
    """All figures, as plain values for JSON.

    Args:
        answers: at least one.
        asked: what is to be set by `kept_aside`.
        kept_aside: other samples that the network was not trained on; needed where something is asked.
        classes: names of the C classes; of two, the second is the positive one, and only then a threshold is asked.

    Returns:
        figures: {name: {value, low, high}}; low and high are None where no interval is to be had, and where the samples
            do not allow the figure itself, value is, with the `reason`.
        calibration, conformal, threshold: what was set and what came of it, where it was asked.

    """
    found: dict[str, Any] = {}
    scaling = unit = _scaling(None, answers)
    if kept_aside is not None and asked.calibrate is not None:
        learn = fit_temperature if asked.calibrate == "temperature" else fit_vector
        scaling = learn(kept_aside.logits, kept_aside.label)
        found["calibration"] = {
            "method": asked.calibrate,
            "temperature": scaling.temperature,
            "scale": scaling.scale.tolist(),
            "shift": scaling.shift.tolist(),
            "num_samples": len(kept_aside.label),
            "before": {
                name: _plain(each, answers)["value"]
                for name, each in figures(unit.probabilities(answers.logits), answers, with_intervals=False).items()
            },
        }
    probs = scaling.probabilities(answers.logits)
    found["figures"] = {name: _plain(each, answers) for name, each in figures(probs, answers).items()}
    if kept_aside is not None and asked.coverage is not None:
        others = scaling.probabilities(kept_aside.logits)
        found["conformal"] = _conformal(asked, asked.coverage, probs, answers, others, kept_aside, classes)
    if kept_aside is not None and asked.threshold is not None:
        others = scaling.probabilities(kept_aside.logits)
        found["threshold"] = _threshold(asked.threshold, probs, answers, others, kept_aside)
    return found


def draw(answers: Answers, found: dict[str, Any], folder: Path, *, title: str) -> list[str]:
    """Draw what `quality` found, as reliability.png and risk_coverage.png in a folder; returns their paths."""
    scaling = _scaling(found.get("calibration"), answers)
    probs = scaling.probabilities(answers.logits)
    bins, curve = reliability_of(probs, answers.label), risk_coverage(probs.max(1), probs.argmax(1) == answers.label)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "reliability.png", folder / "risk_coverage.png"
    error = found["figures"]["ece"]["value"]
    charts.reliability_diagram(
        bins.confidence, bins.accuracy, bins.count, files[0], title=f"{title}: calibration error {error:.4f}"
    )
    charts.risk_coverage_curve(curve.coverage, curve.risk, curve.area, files[1], title=title)
    return [str(file) for file in files]


def _scaling(calibration: dict[str, Any] | None, answers: Answers) -> Scaling:
    if calibration is not None:
        return Scaling(np.array(calibration["scale"]), np.array(calibration["shift"]))
    num_classes = answers.logits.shape[1]
    return Scaling(np.ones(num_classes), np.zeros(num_classes))


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
    asked: Asked,
    coverage: float,
    probs: Floats,
    answers: Answers,
    others: Floats,
    kept_aside: Answers,
    classes: Sequence[str],
) -> dict[str, Any]:
    limit = fit(others, kept_aside.label, kept_aside.lot, coverage, asked.conformal, asked.by_class)
    sets = limit.sets(probs, answers.lot)
    is_in = sets[np.arange(len(probs)), answers.label]
    size = sets.sum(1)
    return {
        "method": asked.conformal,
        "by_class": asked.by_class,
        "asked": coverage,
        "coverage": asdict(intervals(lambda ids: [is_in[ids].mean()], len(is_in), answers.groups)[0]),
        "mean_set_size": float(size.mean()),
        "empty": int((size == 0).sum()),
        "coverage_of_class": {
            name: float(is_in[answers.label == c].mean()) if (answers.label == c).any() else None
            for c, name in enumerate(classes)
        },
        "num_samples": len(kept_aside.label),
        "classes_without_limit": [name for c, name in enumerate(classes) if np.isinf(limit.limit[c])],
    }


def _threshold(text: str, probs: Floats, answers: Answers, others: Floats, kept_aside: Answers) -> dict[str, Any]:
    aim, value = aim_of(text)
    chosen = operating_points(others[:, 1], kept_aside.label == 1).best(aim, value)
    found: dict[str, Any] = {"aim": text, "threshold": chosen, "num_samples": len(kept_aside.label)}
    if chosen is None:
        return found
    called, truth = probs[:, 1] >= chosen, answers.label == 1
    hits, alarms, missed = int((called & truth).sum()), int((called & ~truth).sum()), int((~called & truth).sum())
    quiet = int((~called & ~truth).sum())
    return found | {
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
