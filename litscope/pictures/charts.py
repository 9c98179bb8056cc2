"""Charts: curves of a run, the confusion matrix, what probabilities are worth, learning-rate sweeps. No torch.

matplotlib is imported inside, used through its object interface only, so that pyplot's state and the caller's settings
stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from litscope.console import one_line
from litscope.pictures import canvas
from litscope.pictures.canvas import Numbers
from litscope.pictures.colours import BLUE, FAINT, GRID, INK, ORANGE, ORANGE_TEXT, rgb, text_on
from litscope.pictures.lettering import shortened, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_LINE = 24
"""Characters of a line of a class name on an axis."""
FEW_CLASSES = 20
"""Up to so many, the name of a class may take two lines."""
LONGEST_NAME = 32
"""Characters of a class name among more classes."""
_TITLES = {"f1": "F1", "auroc": "AUROC", "ap": "AP"}


def curves(
    epoch_rows: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    monitor: str | None = None,
    mode: str | None = None,
    title: str = "",
) -> None:
    """Loss, accuracy, the monitored metric and the learning rate against the epoch, those of them that were recorded.

    Args:
        epoch_rows: of `metrics/epochs.jsonl`: `epoch` from 0, `train/loss`, `val/loss`,
            `train/accuracy`, `val/accuracy`, `lr`, and so on; a missing or null value leaves a gap.
        path: the PNG file.
        monitor, mode: the metric by which the best epoch is chosen, such as `val/f1`, and "min" or "max" of it.
        title: a line above the curves.
    """
    modes = {"loss": "min", "accuracy": "max"}
    watched = "" if monitor is None else monitor.rpartition("/")[2]
    modes |= {watched: mode or modes.get(watched, "min")} if watched else {}
    panels = [(metric, f"train/{metric}", f"val/{metric}") for metric in modes]
    panels.append(("lr", "lr", ""))
    shown = [panel for panel in panels if any(_column(epoch_rows, name).size for name in panel[1:])]
    figure = canvas.figure(4.6 * max(1, len(shown)), 3.8 if title else 3.5)
    epochs = np.array([row["epoch"] + 1 for row in epoch_rows])
    for number, (metric, first, second) in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), number)
        canvas.style(axes, "Learning rate" if metric == "lr" else _TITLES.get(metric, metric.capitalize()), "epoch")
        _epoch_axis(axes, epochs)
        best_of = monitor if monitor in (first, second) else second
        for name, colour, text in ((first, BLUE, BLUE), (second, ORANGE, ORANGE_TEXT)):
            values = _column(epoch_rows, name)
            if not values.size:
                continue
            label = name.split("/")[0] if "/" in name else None
            axes.plot(epochs, values, color=colour, label=label, lw=1.8, marker="o" if len(epochs) < 12 else "", ms=3.5)
            if name == best_of:
                _mark_best(axes, epochs, values, modes[metric], colour, text)
        if second:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
        else:
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_ylim(bottom=0)
    if title:
        lines = wrapped(one_line(title), lambda line: len(line) <= 55 * max(1, len(shown)), 2)
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10, color=INK, parse_math=False)
    canvas.save(figure, path)


def confusion_matrix(matrix: npt.NDArray[Any], classes: Sequence[str], path: Path, *, title: str = "") -> None:
    """A confusion matrix, coloured by the share of each label; right answers blue, wrong ones orange.

    Args:
        matrix: (C, C) counts; rows are labels, columns predictions. Readable up to some 100 classes.
        classes: (C,) names.
        path: the PNG file.
        title: of which run and which samples it is.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    num_classes = len(classes)
    names = _axis_names(classes)
    longest = max(len(line) for name in names for line in name.split("\n"))
    cell = float(np.interp(num_classes, [2, 10, 20, 50, 100], [1.0, 0.62, 0.46, 0.24, 0.155]))  # inches
    margin = 0.35 + 0.075 * longest * (1.0 if num_classes <= FEW_CLASSES else 0.8)
    side = cell * num_classes
    width = max(side + margin + 0.9, 4.2)
    figure = canvas.figure(width, max(side + margin + (1.4 if title else 1.1), 3.6))
    axes = figure.add_subplot()
    colours = cell_colours(counts)
    axes.imshow(colours, aspect="equal", interpolation="nearest")
    size = float(np.interp(num_classes, [2, 10, 20, 50, 100], [10, 9, 8, 6.5, 5.5]))
    as_it_is: dict[str, Any] = {"fontsize": size, "color": INK, "parse_math": False}  # `$` begins no formula in a name
    fits_below = longest * 0.6 * size <= 72 * cell  # points
    axes.set_xticks(range(num_classes), names, rotation=0 if fits_below else 90, **as_it_is)
    axes.set_yticks(range(num_classes), names, **as_it_is)
    edges, line_width = np.arange(num_classes + 1) - 0.5, 0.8 if num_classes <= FEW_CLASSES else 0.3
    axes.hlines(edges, edges[0], edges[-1], color=GRID, lw=line_width)
    axes.vlines(edges, edges[0], edges[-1], color=GRID, lw=line_width)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if num_classes <= 25:
        _write_counts(axes, counts, colours, size * (1.0 if counts.max(initial=0) < 1000 else 0.85))
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("label", color=INK)
    right = counts.trace() / counts.sum() if counts.sum() else 0.0
    lines = [f"{int(counts.sum()):,} samples, {right:.2%} right"]
    if title:
        lines = [*wrapped(one_line(title), lambda line: len(line) <= 11 * width, 3), *lines]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10, color=INK, parse_math=False)
    canvas.save(figure, path)


def reliability_diagram(
    confidence: Numbers, accuracy: Numbers, count: Sequence[int] | npt.NDArray[np.int64], path: Path, *, title: str = ""
) -> None:
    """How much of what is said with a confidence is right: a bar to the share for each bin, beside the diagonal.

    Args:
        confidence, accuracy: (B,) means of each bin, ascending confidences.
        count: (B,) samples of each bin.
        path: the PNG file.
        title: of which run and which samples it is.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(accuracy, np.float64)
    low, high = _wilson(right, np.asarray(count))
    figure = canvas.figure(4.6, 4.6)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1, zorder=1)
    axes.vlines(sure, sure, right, color=ORANGE, lw=3, alpha=0.6, zorder=2)
    axes.errorbar(sure, right, yerr=[right - low, high - right], fmt="o", color=BLUE, ms=4, lw=1, zorder=3)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.grid(color=GRID, lw=0.6)
    axes.set_xlabel("confidence", color=INK)
    axes.set_ylabel("share right, with 95 % of its scatter", color=INK)
    canvas.head(figure, title)
    canvas.save(figure, path)


def _wilson(share: npt.NDArray[np.float64], count: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The range that holds 95 % of what a share of `count` could be (Wilson 1927); it stays between 0 and 1."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return np.minimum(share, middle - half), np.maximum(share, middle + half)


def risk_coverage_curve(coverage: Numbers, risk: Numbers, area: float, path: Path, *, title: str = "") -> None:
    """The error rate among the surest answers, by the share of answers that are given.

    Args:
        coverage, risk: (K,) each.
        area: under the curve.
        path: the PNG file.
        title: of which run and which samples it is.
    """
    figure = canvas.figure(4.6, 3.8)
    axes = figure.add_subplot()
    axes.plot(coverage, risk, color=BLUE, lw=1.6)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    axes.grid(color=GRID, lw=0.6)
    axes.set_xlabel(f"share of answers given, surest first (area {area:.4f})", color=INK)
    axes.set_ylabel("error rate among them", color=INK)
    canvas.head(figure, title)
    canvas.save(figure, path)


def cell_colours(counts: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The colours (C, C, 3) of the cells of a confusion matrix (C, C).

    White where there is nothing; the more of its row a cell holds, the more it is blue on the diagonal and orange off
    it. A power makes rare mistakes visible.
    """
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    is_right = np.eye(len(counts), dtype=bool)
    strength = np.where(is_right, share, share**0.4)[..., None]
    full = np.where(is_right[..., None], rgb(BLUE), rgb(ORANGE))
    colours: npt.NDArray[np.uint8] = np.rint(255 + (full - 255) * strength).astype(np.uint8)
    return colours


def lr_curve(
    lrs: Sequence[Numbers],
    losses: Sequence[Numbers],
    suggestion: float | None,
    path: Path,
    *,
    smooth: Sequence[Numbers] | None = None,
    spread: tuple[float, float] | None = None,
) -> None:
    """The losses of learning-rate sweeps, on a logarithmic axis, with the suggested rate.

    Args:
        lrs, losses: one (S,) sequence for each sweep; sweeps may differ in length.
        suggestion: the suggested learning rate, or None.
        path: the PNG file.
        smooth: the smoothed losses; then the raw ones are drawn faintly.
        spread: the least and the greatest suggestion of the single sweeps.
    """
    figure = canvas.figure(6.4, 4.0)
    axes = figure.add_subplot()
    canvas.style(axes, "Learning-rate sweep", "learning rate")
    axes.set_xscale("log")
    axes.set_ylabel("loss", color=INK)
    for lr, loss in zip(lrs, losses, strict=True):
        width, alpha = (1.6, 0.8) if smooth is None else (0.8, 0.35)
        axes.plot(lr, canvas.finite(loss), color=BLUE, lw=width, alpha=alpha)
    for lr, loss in zip(lrs, smooth or [], strict=smooth is not None):
        axes.plot(lr, canvas.finite(loss), color=BLUE, lw=1.8)
    _limit_blow_up(axes, losses)
    if spread is not None:
        axes.axvspan(*spread, color=ORANGE, alpha=0.15, lw=0)
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, lw=1.6)
        axes.annotate(
            f"{suggestion:.2g}", (suggestion, 1), xycoords=("data", "axes fraction"), xytext=(5, -12),
            textcoords="offset points", color=ORANGE_TEXT, fontweight="bold",
        )  # fmt: skip
    else:
        axes.set_title("no suggestion: the loss did not fall", loc="right", fontsize=9, color=ORANGE_TEXT)
    canvas.save(figure, path)


def _epoch_axis(axes: Axes, epochs: npt.NDArray[Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    if len(epochs) == 1:
        axes.set_xticks(epochs)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> npt.NDArray[np.float64]:
    """One value per row with NaN in the gaps; empty if no row has a finite value."""
    values = canvas.finite([np.nan if row.get(name) is None else row[name] for row in rows])
    return values if np.isfinite(values).any() else np.empty(0)


def _mark_best(
    axes: Axes, epochs: npt.NDArray[Any], values: npt.NDArray[np.float64], mode: str, colour: str, text: str
) -> None:
    at = int(np.nanargmin(values) if mode == "min" else np.nanargmax(values))
    axes.plot(epochs[at], values[at], "o", color=colour, ms=7, mec="white", mew=1.2, zorder=5)
    axes.set_title(f"best {values[at]:.4g}, epoch {epochs[at]}", loc="right", fontsize=9, color=text)


def _limit_blow_up(axes: Axes, losses: Sequence[Numbers]) -> None:
    """Where a sweep diverges its losses dwarf everything: show up to twice the height at which it began."""
    finite = [values[np.isfinite(values)] for values in map(canvas.finite, losses)]
    finite = [values for values in finite if values.size]
    if not finite:
        return
    start = max(float(np.median(values[: max(5, len(values) // 10)])) for values in finite)
    low, high = min(float(v.min()) for v in finite), max(float(v.max()) for v in finite)
    ceiling = start + max(0.6 * (start - low), 0.1 * abs(start))
    if high > ceiling:
        axes.set_ylim(low - 0.08 * (ceiling - low), ceiling)


def _axis_names(classes: Sequence[str]) -> list[str]:
    """The names of classes, in one or two lines."""
    lines = [one_line(str(name)) for name in classes]
    if len(lines) > FEW_CLASSES:
        return [shortened(name, LONGEST_NAME) for name in lines]
    return ["\n".join(wrapped(name, lambda line: len(line) <= LONGEST_LINE, 2)) for name in lines]


def _write_counts(axes: Axes, counts: npt.NDArray[np.float64], colours: npt.NDArray[np.uint8], size: float) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            red, green, blue = colours[row, column].tolist()
            on = text_on((red, green, blue))
            axes.text(column, row, f"{int(count)}", ha="center", va="center", fontsize=size, color=on)
