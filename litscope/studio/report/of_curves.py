"""Curves of a run in a report: training beside validation, one panel for each metric, with the journal's events."""

from __future__ import annotations

from collections.abc import Sequence

from litscope.studio.report.markup import Html, element, figure, folded, joined, missing, table
from litscope.studio.report.plots import Curve, Frame, axis, legend, number
from litscope.studio.runs.curves import Curves, Mark
from litscope.studio.runs.pages import RunPage
from litscope.studio.service import Studio

MOST_POINTS = 600
MOST_ROWS = 40
MOST_MARKS = 40
MOST_PANELS = 24
NUM_FIRST = 4
"""Panels that are seen at once; the others unfold."""

_FIRST = ("loss", "accuracy")
_LAST = ("lr", "samples_per_s", "epoch_s", "wall_s")
_NOT_DRAWN = ("num_samples", "num_edits", "num_visits")
_PHASES = ("train", "val", "test")


def curve_figures(studio: Studio, run: str, page: RunPage) -> Html:
    """A panel for each metric that was logged; its phases are curves of it."""
    panels: dict[str, list[str]] = {}
    for name in page.metrics:
        phase, _, metric = name.rpartition("/")
        if metric in _NOT_DRAWN:
            continue
        panels.setdefault(metric if phase in _PHASES else name, []).append(name)
    if not panels:
        return missing("nothing has been logged yet.")
    watched = (page.line.metric or "").rpartition("/")[2]
    first = [metric for metric in dict.fromkeys((*_FIRST, watched)) if metric in panels]
    last = [metric for metric in _LAST if metric in panels]
    order = [*first, *(metric for metric in panels if metric not in (*first, *last)), *last]
    found = studio.curves(run, [name for metric in order for name in panels[metric]], "epoch", MOST_POINTS)
    shown = [
        drawn for metric in order[:MOST_PANELS] if (drawn := _panel(metric, panels[metric], found, page)) is not None
    ]
    more = len(order) - MOST_PANELS
    return joined(
        _marks(found.marks),
        element("div", shown[:NUM_FIRST], class_="grid"),
        folded(f"{len(shown) - NUM_FIRST} more curves", element("div", shown[NUM_FIRST:], class_="grid"))
        if len(shown) > NUM_FIRST else None,
        element("p", f"{more} more were logged, and are not drawn.", class_="soft") if more > 0 else None,
    )  # fmt: skip


def _marks(marks: Sequence[Mark]) -> Html | None:
    applied = [mark for mark in marks if mark.status in ("applied", "undone")]
    if not applied:
        return None
    cut = f"; the last {MOST_MARKS} are drawn" if len(applied) > MOST_MARKS else ""
    what = "action was" if len(applied) == 1 else "actions were"
    return element(
        "p", f"{len(applied)} {what} applied while it trained, each a dashed line with a flag{cut}. The ",
        element("a", "journal", href="#journal"), " says what they were.", class_="soft",
    )  # fmt: skip


def _panel(metric: str, names: Sequence[str], found: Curves, page: RunPage) -> Html | None:
    names = sorted(names, key=lambda name: (*_PHASES, "").index(name.partition("/")[0]) if "/" in name else 0)
    ranks = [name.partition("/")[0] for name in names]
    curves = [
        Curve(rank if rank in _PHASES else name, found.series[name].x, found.series[name].y,
              _PHASES.index(rank) if rank in _PHASES else i)
        for i, (name, rank) in enumerate(zip(names, ranks, strict=True))
        if any(value is not None for value in found.series[name].y)
    ]  # fmt: skip
    if not curves:
        return None
    x = axis("epoch", [0.0, *(value for one in curves for value in one.x)])
    values = [value for one in curves for value in one.y]
    frame = Frame(x, axis("", values))
    marks = [mark for mark in found.marks if mark.status in ("applied", "undone") and mark.x <= x.high][-MOST_MARKS:]
    ends = [frame.upright(mark.x, f"{mark.text} (epoch {mark.epoch + 1})") for mark in marks]
    said = _said(curves, metric, page)
    return figure(
        metric,
        said,
        joined(legend(curves) if len(curves) > 1 else None, frame.drawn(f"{metric} by epoch. {said}", ends,
               [frame.curve(one, f"plain {'' if len(one.x) < 200 else 'dense'}".strip()) for one in curves])),
        folded("The numbers", _numbers(metric, curves)),
    )  # fmt: skip


def _said(curves: Sequence[Curve], metric: str, page: RunPage) -> str:
    """What the curves say, in a sentence."""
    parts = []
    for one in curves:
        known = [(x, y) for x, y in zip(one.x, one.y, strict=True) if y is not None]
        first, last = known[0], known[-1]
        of = f"{one.name} " if len(curves) > 1 or one.name in _PHASES else ""
        if len(known) == 1:
            parts.append(f"{of}{number(last[1])}")
            continue
        told = f"{of}{number(first[1])} → {number(last[1])}"
        if page.line.metric in (f"{one.name}/{metric}", one.name):
            best = (max if page.line.mode == "max" else min)(known, key=lambda pair: pair[1])
            told += f", best {number(best[1])} after epoch {best[0]:.0f}"
        parts.append(told)
    return "; ".join(parts)


def _numbers(metric: str, curves: Sequence[Curve]) -> Html:
    """The curves as a table, at the places of the one with the fewest values; of each the last value until there."""
    places = min((one.x for one in curves), key=len)
    if len(places) > MOST_ROWS:
        places = [places[round(i * (len(places) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]
    rows = [(f"{place:.4g}", *(number(_until(one, place)) for one in curves)) for place in places]
    return table(("epoch", *(one.name for one in curves)), rows, f"{metric} by epoch", range(1, 1 + len(curves)))


def _until(curve: Curve, place: float) -> float | None:
    found = None
    for x, y in zip(curve.x, curve.y, strict=True):
        if x > place + 1e-9:
            break
        found = y if y is not None else found
    return found
