"""What a report says of a run's samples as a whole: confusion, classes, calibration, the data map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from litscope.console import number_of
from litscope.errors import LitscopeError
from litscope.studio.report.markup import Html, element, figure, folded, joined, table
from litscope.studio.report.plots import Axis, Frame, Points, number, shortened
from litscope.studio.samples.maps import Looked
from litscope.studio.samples.tables import Calibration, ClassTable, ConfusionTable
from litscope.studio.service import Studio

MOST_IN_MATRIX = 26
"""With more classes the matrix is left out, and the pairs that are confused most are listed alone."""
MOST_PAIRS = 20
MOST_CLASSES = 60
MAP_BINS = 96
_SOURCE = "Confidence is the mean of p(label) over the epochs (Swayamdipta et al. 2020, Dataset Cartography)."
MOST_POINTS = 4000
_BANDS = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))

T = TypeVar("T")


def _of_splits(splits: Sequence[str], ask: Callable[[str], T]) -> list[T]:
    """The answers for those splits that were recorded.

    Raises:
        LitscopeError: that of the last one, if none was.
    """
    found, why = [], None
    for split in splits:
        try:
            found.append(ask(split))
        except LitscopeError as error:
            why = error
    if why is not None and not found:
        raise why
    return found


def confusion_figures(studio: Studio, run: str, splits: Sequence[str]) -> Html:
    """The confusion matrix of each split that was evaluated."""
    found = _of_splits(splits, lambda split: studio.confusion(run, split))
    return element("div", [confusion_figure(one) for one in found], class_="grid")


def confusion_figure(found: ConfusionTable) -> Html:
    """A matrix of few classes, of many the pairs alone."""
    wrong = sorted((cell for cell in found.cells if cell[0] != cell[1]), key=lambda cell: (-cell[2], cell[:2]))
    right = "" if found.accuracy is None else f", {100 * found.accuracy:.2f} % right"
    said = f"{found.num_samples:,} samples{right}."
    if wrong:
        label, pred, count = wrong[0]
        said += f" Most often {found.classes[label]} is taken for {found.classes[pred]}: {number_of(count, 'time')}."
    rows = [(found.classes[i], found.classes[j], f"{count:,}") for i, j, count in wrong[:MOST_PAIRS]]
    pairs = table(("label", "taken for", "times"), rows, f"Pairs that are confused, {found.split}", (2,))
    if len(found.classes) > MOST_IN_MATRIX:
        title = f"{found.split}: the {len(rows)} pairs that are confused most, of {len(found.classes):,} classes"
        return figure(title, said, pairs)
    return figure(found.split, said, _matrix(found), folded("The pairs that are confused", pairs) if rows else Html(""))


def _matrix(found: ConfusionTable) -> Html:
    counts = {(i, j): count for i, j, count in found.cells}
    sums = [sum(counts.get((i, j), 0) for j in range(len(found.classes))) for i in range(len(found.classes))]
    names = [element("span", shortened(name, 14), title=name) for name in found.classes]
    rows = []
    for i, name in enumerate(names):
        cells: list[Html] = []
        for j in range(len(names)):
            count = counts.get((i, j), 0)
            share = count / sums[i] if sums[i] else 0.0
            strength = share if i == j else share**0.4
            level = 0 if not count else min(4, 1 + int(4 * strength))
            shade = f"{'r' if i == j else 'w'}{level}" if level else None
            cells.append(element("td", f"{count:,}" if count else "·", class_=shade))
        rows.append(element("tr", element("th", name, scope="row"), cells))
    head = element("tr", element("th", "label ↓ said →", scope="col"), [element("th", n, scope="col") for n in names])
    caption = f"Confusion matrix of {found.split}: rows are labels, columns what the network says"
    whole = element(
        "table", element("caption", caption, class_="unseen"), element("thead", head), element("tbody", rows),
        class_="matrix",
    )  # fmt: skip
    return element("div", whole, class_="wide", role="region", tabindex="0", aria_label=caption)


def class_figures(studio: Studio, run: str, splits: Sequence[str]) -> Html:
    """The classes in a table, the least recalled first."""
    found = _of_splits(splits, lambda split: studio.classes(run, split))
    return element("div", [_classes(one) for one in found], class_="grid pairs")


def _classes(found: ClassTable) -> Html:
    ranked = sorted(found.rows, key=lambda row: (row.recall is None, row.recall or 0.0, row.name))
    shown = ranked[:MOST_CLASSES]
    cut = f", the worst {len(shown)} of {len(ranked):,}" if len(shown) < len(ranked) else ""
    rows = [
        (row.name, f"{row.num_train:,}", f"{row.num_samples:,}", number(row.recall), number(row.precision),
         number(row.f1), number(row.mean_loss),
         "–" if row.most_taken_for is None else f"{row.most_taken_for} ({row.num_taken_for:,})")
        for row in shown
    ]  # fmt: skip
    heads = ("class", "in training", "here", "recall", "precision", "F1", "mean loss", "most taken for")
    caption = f"{found.split}: classes by recall, the lowest first{cut}"
    return figure(found.split, f"By recall, the lowest first{cut}.", table(heads, rows, caption, range(1, 7)))


def calibration_figures(studio: Studio, run: str, splits: Sequence[str]) -> Html:
    """The reliability diagram of each split that was evaluated."""
    found = _of_splits(splits, lambda split: studio.calibration(run, split))
    return element("div", [calibration_figure(one) for one in found], class_="grid")


def calibration_figure(found: Calibration) -> Html:
    """A reliability diagram: confidence against the share that is right."""
    if not found.bins:
        return figure(found.split, found.sentence, Html(""))
    unit = Axis("confidence", 0.0, 1.0), Axis("share right", 0.0, 1.0)
    frame = Frame(*unit, height=320)
    (x0, y0), (x1, y1) = frame.at(0, 0), frame.at(1, 1)
    ideal = element("path", class_="ideal", d=f"M{x0} {y0}L{x1} {y1}")
    ends = [(frame.at(one.confidence, one.confidence), frame.at(0, one.accuracy)[1]) for one in found.bins]
    gaps = "".join(f"M{x} {y}V{end}" for (x, y), end in ends)
    points = Points("bins", [one.confidence for one in found.bins], [one.accuracy for one in found.bins])
    rows = [(f"{one.confidence:.3f}", f"{one.accuracy:.3f}", f"{one.count:,}") for one in found.bins]
    numbers = table(("confidence", "share right", "samples"), rows, f"Bins of confidence, {found.split}", (0, 1, 2))
    corrected = (
        "" if found.corrected_error is None else f"; without the scatter of few samples {found.corrected_error:.4f}"
    )
    error = "" if found.error is None else f" Expected calibration error {found.error:.4f}{corrected}."
    return figure(
        found.split,
        found.sentence + error,
        frame.drawn(
            f"Reliability diagram of {found.split}. {found.sentence}",
            ideal, element("path", class_="plain k1", d=gaps), frame.points(points),
        ),
        folded("The numbers", numbers),
    )  # fmt: skip


def map_figure(studio: Studio, run: str) -> Html:
    """Confidence against variability of the training samples."""
    look = Looked("variability", "confidence", "split = train", width=MAP_BINS, height=MAP_BINS,
                  max_points=MOST_POINTS)  # fmt: skip
    block = studio.map(run, look)
    facts, columns = block.facts, block.columns
    x = Axis("variability of p(label)", min(0.0, facts["x"]["low"]), max(0.05, facts["x"]["high"]) * 1.02)
    y = Axis("confidence", 0.0, 1.0)
    frame = Frame(x, y, height=400)
    names = facts["color"]["names"]
    said = f"{facts['total']:,} training samples"
    if facts["mode"] == "points":
        colour = columns["color"]
        kinds = [
            (0, "speck", np.flatnonzero(~(colour == 1))), (1, "cross", np.flatnonzero(colour == 1)),
        ]  # fmt: skip
        drawn = joined(
            [frame.points(Points("", columns["x"][at].tolist(), columns["y"][at].tolist(), kind, mark))
             for kind, mark, at in kinds]
        )  # fmt: skip
        said += ": a blue dot where the last prediction is the label, an orange cross where it is not."
    else:
        shape = (MAP_BINS, MAP_BINS)
        kind = np.where(np.nan_to_num(columns["color"], nan=0.0) == 1, 1, 0).reshape(shape)
        across = Axis("", facts["x"]["low"], facts["x"]["high"])
        drawn = frame.density(
            columns["count"].reshape(shape), kind, across, Axis("", facts["y"]["low"], facts["y"]["high"])
        )
        said += ", counted in cells: the more, the darker; blue where most are predicted as labelled, orange where not."
    assert not names or names[0] == "right"
    said += (
        " Above, samples that it learns easily; to the right, those it wavers about; below, those it does not learn."
    )
    plot = frame.drawn("The data map of the training samples. The table beside it has the numbers.", drawn)
    title = "Confidence against variability of p(label) over the epochs"
    return element(
        "div", figure(title, said, plot), figure("In numbers", _SOURCE, _bands(studio, run)), class_="grid pairs"
    )


def _bands(studio: Studio, run: str) -> Html:
    """How many samples lie in which band of confidence."""
    rows = []
    for low, high in _BANDS:
        end = "<=" if high == 1.0 else "<"
        among = f"split = train and confidence >= {low} and confidence {end} {high}"
        num, wrong = studio.count(run, among), studio.count(run, f"{among} and label_name != pred_name")
        wavering = studio.count(run, f"{among} and variability > 0.25")
        rows.append((f"{low:g} to {high:g}", f"{num:,}", f"{wrong:,}", f"{wavering:,}"))
    heads = ("confidence", "samples", "not predicted as labelled", "variability above 0.25")
    return table(heads, rows, "Training samples by confidence", (1, 2, 3))
