"""Charts of a search for settings: how it went, and what its settings are good for. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from litscope.console import one_line
from litscope.pictures import canvas
from litscope.pictures.colours import BLUE, FAINT, GRID, INK, ORANGE, rgb
from litscope.pictures.lettering import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
"""Slices in a row."""

FAR = 3.0
"""Trials that are worse than the quarter of the worst by more than so many times the spread of the middle half are
drawn at the edge: a rate that diverges would flatten all others."""

FEWEST_FAR = 8
"""Trials with a value of which that can be said."""

LONGEST_CHOICE = 14
"""Characters of a choice on an axis."""

_STATES = {"complete": ("o", BLUE), "pruned": ("v", FAINT), "failed": ("x", ORANGE)}


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes:
        number: counted from 1.
        value: of the metric; None if it failed.
        state: how it ended.
        settings: values by name.
    """

    number: int
    value: float | None
    state: Literal["complete", "pruned", "failed"]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """A setting that was searched.

    Attributes:
        name: of the setting.
        choices: the values, if it is not a range.
        is_log: whether it is drawn on a logarithmic scale.
    """

    name: str
    choices: tuple[Any, ...] = ()
    is_log: bool = False

    def places(self, values: Sequence[Any]) -> npt.NDArray[np.float64]:
        """(N,) where values lie on the axis: choices at 0, 1, 2, ..."""
        if self.choices:
            return np.array([self.choices.index(value) for value in values], np.float64)
        return np.array(values, np.float64)

    @property
    def words(self) -> list[str]:
        """The choices as they are shown."""
        return [shortened(one_line(str(choice)), LONGEST_CHOICE) for choice in self.choices]


def history(trials: Sequence[Tried], metric: str, mode: str, path: Path) -> None:
    """The value of each trial in their order, and the best complete one so far.

    Args:
        trials: at least one.
        metric, mode: by which they are judged, and "min" or "max" of it.
        path: the PNG file.
    """
    trials, told = _within(trials, mode)
    figure = canvas.figure(6.4, 3.8)
    axes = figure.add_subplot()
    canvas.style(axes, "History", "trial")
    axes.set_title(told, loc="right", fontsize=9, color=INK)
    axes.set_ylabel(metric, color=INK)
    values = np.array([np.nan if t.value is None or t.state != "complete" else t.value for t in trials])
    is_known = np.isfinite(values)
    if is_known.any():
        filled = np.where(is_known, values, np.inf if mode == "min" else -np.inf)
        best = np.minimum.accumulate(filled) if mode == "min" else np.maximum.accumulate(filled)
        axes.step(
            [t.number for t in trials], canvas.finite(best), where="post", color=BLUE, lw=1.6, label="best so far"
        )
    _scatter(axes, [(t, float(t.number)) for t in trials])
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    canvas.save(figure, path)


def importance(shares: Mapping[str, float], metric: str, path: Path) -> None:
    """A bar for the share of the metric's variance that each setting explains.

    Args:
        shares: by name, the greatest first.
        metric: whose variance it is.
        path: the PNG file.
    """
    figure = canvas.figure(6.4, 1.3 + 0.36 * len(shares))
    axes = figure.add_subplot()
    canvas.style(axes, "Importance", f"share of the variance of {metric} that is explained")
    axes.grid(visible=False)
    names, values = list(shares)[::-1], list(shares.values())[::-1]
    axes.barh(names, values, color=BLUE, height=0.6)
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:.2f}", va="center", fontsize=9, color=INK)
    axes.set_xlim(0, 1.1 * max(1e-9, *values))
    canvas.save(figure, path)


def slices(trials: Sequence[Tried], space: Sequence[Axis], metric: str, mode: str, path: Path) -> None:
    """The value of each trial against each of its settings.

    Args:
        trials: at least one with a value.
        space: at least one setting.
        metric, mode: on the upright axes, and "min" or "max" of it.
        path: the PNG file.
    """
    trials, told = _within(trials, mode)
    columns = min(COLUMNS, len(space))
    rows = -(-len(space) // columns)
    figure = canvas.figure(3.6 * columns + 0.6, 3.1 * rows)
    first: Axes | None = None
    for number, axis in enumerate(space, 1):
        axes = figure.add_subplot(rows, columns, number, sharey=first)
        first = first or axes
        canvas.style(axes, axis.name, "")
        _scatter(axes, list(zip(trials, axis.places([t.settings[axis.name] for t in trials]), strict=True)))
        if axis.is_log:
            axes.set_xscale("log")
        if axis.choices:
            axes.set_xticks(range(len(axis.choices)), axis.words, parse_math=False)
            axes.set_xlim(-0.5, len(axis.choices) - 0.5)
        if (number - 1) % columns == 0:
            axes.set_ylabel(metric, color=INK)
    assert first is not None
    first.set_title(told, loc="right", fontsize=9, color=INK)
    first.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best")
    canvas.save(figure, path)


def parallel(trials: Sequence[Tried], space: Sequence[Axis], metric: str, mode: str, path: Path) -> None:
    """A line for each trial across an axis for each setting and one for the metric; the better, the bluer.

    Args:
        trials: at least one with a value; those without are left out.
        space: the settings.
        metric, mode: by which they are judged, and "min" or "max" of it.
        path: the PNG file.
    """
    trials, told = _within(trials, mode)
    known = [trial for trial in trials if trial.value is not None]
    value = np.array([trial.value for trial in known], np.float64)
    axes_of = [*space, Axis(metric)]
    places = [axis.places([t.settings[axis.name] for t in known]) for axis in space] + [value]
    figure = canvas.figure(1.6 + 1.5 * len(axes_of), 4.0)
    axes = figure.add_subplot()
    heights = [
        _heights(axes, number, axis, place) for number, (axis, place) in enumerate(zip(axes_of, places, strict=True))
    ]
    merit = np.argsort(np.argsort(-value if mode == "min" else value, kind="stable")) / max(1, len(known) - 1)
    best = int(merit.argmax())
    for number in np.argsort(merit):
        is_best = number == best
        axes.plot(
            range(len(axes_of)), [height[number] for height in heights], zorder=2 + merit[number],
            color=ORANGE if is_best else _between(FAINT, BLUE, float(merit[number])), lw=2.2 if is_best else 1.2,
        )  # fmt: skip
    axes.set_xticks(range(len(axes_of)), [axis.name for axis in axes_of], color=INK, fontsize=9)
    axes.set_yticks([])
    axes.set_ylim(-0.06, 1.06)
    axes.set_xlim(-0.2, len(axes_of) - 0.6)
    axes.set_title("Parallel coordinates", loc="left", fontsize=11, color=INK, fontweight="bold")
    told = ", ".join(part for part in (f"best: trial {known[best].number}", told) if part)
    axes.set_title(told, loc="right", fontsize=9, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    canvas.save(figure, path)


def _within(trials: Sequence[Tried], mode: str) -> tuple[Sequence[Tried], str]:
    """The trials with values that are far worse than the others brought to an edge, and what is said of it."""
    values = np.array([trial.value for trial in trials if trial.value is not None], np.float64)
    if len(values) < FEWEST_FAR:
        return trials, ""
    low, high = np.quantile(values, (0.25, 0.75))
    reach = FAR * float(high - low)
    edge = float(high) + reach if mode == "min" else float(low) - reach
    is_far = values > edge if mode == "min" else values < edge
    if not is_far.any() or reach == 0.0:
        return trials, ""
    nearer = min if mode == "min" else max
    kept = [trial if trial.value is None else replace(trial, value=nearer(trial.value, edge)) for trial in trials]
    return kept, f"{is_far.sum()} far worse at the edge"


def _heights(axes: Axes, number: int, axis: Axis, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Draw one upright axis with the ends of its range, or its choices; where values lie on it, from 0 to 1."""
    axes.axvline(number, color=GRID, lw=1.2, zorder=1)

    def write(height: float, text: str) -> None:
        axes.text(
            number + 0.03, height, text, fontsize=8, color=INK, va="center", zorder=9, parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )  # fmt: skip

    if axis.choices:
        last = max(1, len(axis.choices) - 1)
        for at, word in enumerate(axis.words):
            write(at / last, word)
        return places / last
    scaled = np.log(places) if axis.is_log else places
    low, high = float(scaled.min()), float(scaled.max())
    write(0.0, f"{places.min():.3g}")
    if high > low:
        write(1.0, f"{places.max():.3g}")
    return np.asarray((scaled - low) / ((high - low) or 1.0))


def _scatter(axes: Axes, at: Sequence[tuple[Tried, float]]) -> None:
    """A point for each trial with a value, and a cross at the lower edge for each that failed."""
    for state, (mark, colour) in _STATES.items():
        own = [(x, np.nan if trial.value is None else trial.value) for trial, x in at if trial.state == state]
        if not own:
            continue
        x = [place for place, _ in own]
        if state == "failed":
            axes.plot(
                x, np.full(len(x), 0.02), mark, color=colour, ms=6, label=state,
                transform=axes.get_xaxis_transform(), zorder=4,
            )  # fmt: skip
        else:
            edge = colour if state == "complete" else INK
            axes.plot(
                x, [value for _, value in own], mark, color=colour, mec=edge, mew=0.5, ms=5, label=state, zorder=3
            )


def _between(one: str, other: str, share: float) -> str:
    """The colour so far from one to the other."""
    mixed = (round(a + (b - a) * share) for a, b in zip(rgb(one), rgb(other), strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
