"""Tables of a run: which classes are taken for which, each class in a row, whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from litscope.studio.samples.evaluations import Evaluations
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Mask
from litscope.uncertainty.calibration import reliability


@dataclass(frozen=True)
class ConfusionTable:
    """The confusion matrix of the last evaluation of a split.

    Attributes:
        split: of the samples.
        classes: their names.
        cells: [label, pred, count], all that are not zero.
        num_samples: in all cells.
        accuracy: the share on the diagonal; None without samples.
    """

    split: str
    classes: list[str]
    cells: list[tuple[int, int, int]]
    num_samples: int
    accuracy: float | None


@dataclass(frozen=True)
class ClassRow:
    """One class.

    Attributes:
        label, name: of it.
        num_samples: with that label in the last evaluation.
        num_train: training samples with that label now.
        recall, precision, f1: shares; None where nothing can be said.
        mean_suspicion, mean_loss: over the samples of the split.
        num_discarded, num_relabelled: decisions about samples of the class, as the data set has it.
        most_taken_for: the class that is predicted most often in its place.
        num_taken_for: how often.
    """

    label: int
    name: str
    num_samples: int
    num_train: int
    recall: float | None
    precision: float | None
    f1: float | None
    mean_suspicion: float | None
    mean_loss: float | None
    num_discarded: int
    num_relabelled: int
    most_taken_for: str | None
    num_taken_for: int


@dataclass(frozen=True)
class ClassTable:
    """All classes."""

    split: str
    rows: list[ClassRow]


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same confidence: how many, their mean confidence, the share that is right."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Whether of what is said with probability p the share p is right; fields as docs/studio.md has them."""

    split: str
    bins: list[Bin]
    error: float | None
    corrected_error: float | None
    num_samples: int
    sentence: str


def _pairs(
    samples: Samples, evaluations: Evaluations, split: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Label, prediction and confidence of the last evaluation of a split, without canaries and discarded samples."""
    found = evaluations.of(split)
    is_there = found.sample_id < samples.count
    is_there[is_there] &= samples.shown[found.sample_id[is_there]]
    label, pred, p_max = (column[is_there] for column in (found.label, found.pred, found.p_max))
    return label.astype(np.int64), pred.astype(np.int64), p_max.astype(np.float64)


def confusion_table(samples: Samples, evaluations: Evaluations, split: str) -> ConfusionTable:
    """The confusion matrix of the last evaluation of a split.

    Raises:
        RunError: if the split was never recorded.
    """
    label, pred, _ = _pairs(samples, evaluations, split)
    matrix = _matrix(label, pred, len(samples.base.classes))
    rows, columns = np.nonzero(matrix)
    cells = [(int(i), int(j), int(matrix[i, j])) for i, j in zip(rows, columns, strict=True)]
    total = int(matrix.sum())
    accuracy = float(np.trace(matrix) / total) if total else None
    return ConfusionTable(split, list(samples.base.classes), cells, total, accuracy)


def _matrix(label: NDArray[np.int64], pred: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.bincount(label * count + pred, minlength=count * count).reshape(count, count)


def class_table(samples: Samples, evaluations: Evaluations, split: str) -> ClassTable:
    """Each class in a row; errors as `confusion_table`."""
    base, decided = samples.base, samples.decided
    label, pred, _ = _pairs(samples, evaluations, split)
    matrix = _matrix(label, pred, len(base.classes))
    right, given, said = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    wrong = matrix - np.diag(right)
    in_split, in_train = _of_split(samples, split), _of_split(samples, "train")
    current = samples.values("current_name").codes  # type: ignore[union-attr]
    train = np.bincount(current[in_train & (current >= 0)], minlength=len(base.classes))
    discarded = _count(base.label[decided.discarded], len(base.classes))
    relabelled = _count(base.label[list(decided.labels)], len(base.classes))
    means = {
        name: _means(base.label, samples.scored.scores.get(name), in_split, len(base.classes))
        for name in ("suspicion", "mean_loss")
    }
    rows = []
    for i, name in enumerate(base.classes):
        recall, precision = _share(right[i], given[i]), _share(right[i], said[i])
        most = int(wrong[i].argmax()) if wrong[i].any() else None
        rows.append(
            ClassRow(
                label=i,
                name=name,
                num_samples=int(given[i]),
                num_train=int(train[i]),
                recall=recall,
                precision=precision,
                f1=_share(2 * right[i], given[i] + said[i]),
                mean_suspicion=means["suspicion"][i],
                mean_loss=means["mean_loss"][i],
                num_discarded=int(discarded[i]),
                num_relabelled=int(relabelled[i]),
                most_taken_for=None if most is None else base.classes[most],
                num_taken_for=0 if most is None else int(wrong[i, most]),
            )
        )
    return ClassTable(split, rows)


def _count(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    return np.bincount(labels[labels >= 0], minlength=count)


def _share(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None


def _of_split(samples: Samples, split: str) -> Mask:
    names = samples.base.split.names
    code = names.index(split) if split in names else -2
    found: Mask = samples.shown & (samples.base.split.codes == code)
    return found


def _means(label: NDArray[np.int32], values: NDArray[np.float32] | None, among: Mask, count: int) -> list[float | None]:
    if values is None:
        return [None] * count
    known = among & ~np.isnan(values) & (label >= 0)
    sums = np.bincount(label[known], values[known], count)
    nums = np.bincount(label[known], minlength=count)
    return [float(total / num) if num else None for total, num in zip(sums, nums, strict=True)]


def calibration(samples: Samples, evaluations: Evaluations, split: str, num_bins: int) -> Calibration:
    """How well probabilities are calibrated in the last evaluation of a split; errors as `confusion_table`."""
    label, pred, p_max = _pairs(samples, evaluations, split)
    known = np.isfinite(p_max)
    found = reliability(p_max[known], (label == pred)[known], num_bins)
    parts = zip(found.count.tolist(), found.confidence.tolist(), found.accuracy.tolist(), strict=True)
    bins = [Bin(*part) for part in parts]
    if not bins:
        return Calibration(split, [], None, None, 0, "Nothing was evaluated yet.")
    confidence = float((found.count * found.confidence).sum() / found.count.sum())
    accuracy = float((found.count * found.accuracy).sum() / found.count.sum())
    how = "about as sure as it is right"
    if abs(confidence - accuracy) > 0.01:
        how = "surer than it is right" if confidence > accuracy else "less sure than it is right"
    sentence = (
        f"It is {100 * confidence:.1f} % sure on average and {100 * accuracy:.1f} % right, so {how}; "
        f"its probabilities are off by {100 * found.error:.1f} points on average."
    )
    return Calibration(split, bins, found.error, found.corrected_error, int(found.count.sum()), sentence)
