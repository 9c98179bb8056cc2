"""Plots as SVG that is part of a page: curves, points, densities, bars. Colours come from the page's style.

What differs by colour differs by a dash or a shape, too. A plot has a name for screen readers; its numbers stand in a
table beside it (`markup.figure`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litscope.studio.report.markup import Html, element, joined

WIDTH, HEIGHT = 520, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 26, 40
_DASHES = ("", "dash", "dot")
MOST_NAME = 26
"""Characters of a name on an axis."""


@dataclass(frozen=True)
class Curve:
    """One curve. `x`, `y`: (n,), y with None in gaps; `kind`: number of its colour and dash."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    kind: int = 0


@dataclass(frozen=True)
class Points:
    """Points of one kind. `x`, `y`: (n,); `mark`: dot, speck or cross."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: int = 0
    mark: str = "dot"


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        title: what stands along it.
        low, high: its ends.
        is_log: whether it is logarithmic; both ends are above 0 then.
        names: of whole numbers from 0, in place of numbers.
        is_whole: only whole numbers get a tick.
    """

    title: str
    low: float
    high: float
    is_log: bool = False
    names: Sequence[str] = field(default=())
    is_whole: bool = False

    def share(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Values, and what is written at them."""
        if self.names:
            return [(float(i), shortened(name, 12)) for i, name in enumerate(self.names)]
        if self.is_log:
            exponents = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            found = [10.0**e for e in exponents]
            if len(found) < 2:
                found = [self.low, self.high]
            return [(value, number(value)) for value in found]
        step = _step((self.high - self.low) / 5)
        step = max(1.0, step) if self.is_whole else step
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(i * step, number(round(i * step, 12))) for i in range(first, last + 1)]


def axis(title: str, values: Sequence[float | None], *, is_log: bool = False, is_whole: bool = False) -> Axis:
    """An axis for some values, with a little room at its ends; those that are missing or not finite are left out."""
    known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not is_log)]
    low, high = (min(known), max(known)) if known else (1.0, 2.0)
    if is_log:
        return Axis(title, low / 1.15, high * 1.15, is_log=True)
    room = 0.04 * (high - low) or 0.5 * (abs(high) or 1.0)
    return Axis(title, low - room, high + room, is_whole=is_whole)


def _step(wanted: float) -> float:
    """1, 2 or 5 times a power of ten, about as large as wanted."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= wanted * 0.999)


def number(value: float | int | None) -> str:
    """A number for people; a dash where there is none."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}"
    return f"{value:.4g}"


def shortened(name: str, most: int = MOST_NAME) -> str:
    """A name that fits."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


class Frame:
    """A plot with two axes.

    Args:
        x, y: the axes.
        width, height: in units of the drawing.
    """

    def __init__(self, x: Axis, y: Axis, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A place of the drawing."""
        across = _LEFT + self.x.share(x) * (self.width - _LEFT - _RIGHT)
        up = self.height - _BOTTOM - self.y.share(y) * (self.height - _TOP - _BOTTOM)
        return round(across, 1), round(up, 1)

    def drawn(self, label: str, *content: object, before: object = None) -> Html:
        """The plot: `before`, axes, and what is in it."""
        return element(
            "svg",
            before,
            self._axes(),
            content,
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_label=label,
        )

    def _axes(self) -> Html:
        left, bottom = _LEFT, self.height - _BOTTOM
        found = []
        for value, text in self.y.ticks():
            _, y = self.at(self.x.low, value)
            found.append(element("path", class_="rule", d=f"M{left} {y}H{self.width - _RIGHT}"))
            found.append(element("text", text, x=left - 6, y=y + 4, text_anchor="end"))
        for value, text in self.x.ticks():
            x, _ = self.at(value, self.y.low)
            found.append(element("path", class_="axis", d=f"M{x} {bottom}v4"))
            found.append(element("text", text, x=x, y=bottom + 16, text_anchor="middle"))
        found.append(element("path", class_="axis", d=f"M{left} {bottom}H{self.width - _RIGHT}"))
        middle = (left + self.width - _RIGHT) / 2
        found.append(element("text", self.x.title, x=middle, y=self.height - 6, text_anchor="middle"))
        if self.y.title:
            found.append(element("text", self.y.title, x=_LEFT, y=12))
        return joined(found)

    def curve(self, curve: Curve, name: str = "plain") -> Html:
        """A line with gaps where values are missing or off a logarithmic axis; single values as dots."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(curve.x, curve.y, strict=True):
            if y is None or not math.isfinite(y) or (self.y.is_log and y <= 0):
                pieces.append([])
            else:
                pieces[-1].append(self.at(x, y))
        lines = "".join(f"M{_path(piece)}" for piece in pieces if len(piece) > 1)
        dots = "".join(f"M{piece[0][0]} {piece[0][1]}h0" for piece in pieces if len(piece) == 1)
        found = [element("path", class_=f"{name} {stroke(curve.kind)}", d=lines)] if lines else []
        return joined(found, [element("path", class_=f"dots k{curve.kind % 7}", d=dots)] if dots else [])

    def points(self, points: Points) -> Html:
        """Points as one path."""
        places = (self.at(x, y) for x, y in zip(points.x, points.y, strict=True))
        if points.mark == "cross":
            d = "".join(f"M{x - 3:.1f} {y - 3:.1f}l6 6m0-6l-6 6" for x, y in places)
        else:
            d = "".join(f"M{x} {y}h0" for x, y in places)
        name = {"cross": "cross", "dot": "dots", "speck": "specks"}[points.mark]
        return element("path", class_=f"{name} k{points.kind}", d=d) if d else Html("")

    def density(self, count: NDArray[Any], kind: NDArray[Any], x: Axis, y: Axis) -> Html:
        """Bins (h, w), the lowest y first, in five shades of the colour that `kind` names; empty ones stay empty."""
        height, width = count.shape
        x0, y0 = self.at(x.low, y.low)
        x1, y1 = self.at(x.high, y.high)
        across, up = (x1 - x0) / width, (y0 - y1) / height
        most = max(1, int(count.max(initial=0)))
        shade = np.where(count > 0, 1 + np.floor(3.999 * np.log1p(count) / math.log1p(most) + 0.5), 0).astype(int)
        found = []
        for colour in sorted(set(kind[count > 0].tolist())):
            for level in range(1, 6):
                cells = np.argwhere((shade == level) & (kind == colour))
                d = "".join(
                    f"M{x0 + column * across:.1f} {y0 - row * up:.1f}h{across:.2f}v{-up:.2f}h{-across:.2f}z"
                    for row, column in cells.tolist()
                )
                if d:
                    found.append(element("path", class_=f"b{colour} d{level}", d=d))
        return joined(found)

    def upright(self, x: float, title: str) -> Html:
        """A mark at a place of the x axis, with a small flag."""
        across, _ = self.at(x, self.y.low)
        line = element("path", class_="mark", d=f"M{across} {_TOP - 4}V{self.height - _BOTTOM}")
        flag = element("path", class_="flag", d=f"M{across} {_TOP - 12}l5 8h-10z")
        return element("g", element("title", title), line, flag)


def _path(piece: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x} {y}" for x, y in piece)


def stroke(kind: int) -> str:
    """The classes of a line of a kind: its colour and its dash."""
    return f"k{kind % 6} {_DASHES[kind % 3]}".rstrip()


def legend(curves: Sequence[Curve], *more: Html) -> Html:
    """What each line is, in words beside a piece of it."""
    items = [
        element(
            "li",
            element(
                "svg", element("path", class_=f"plain {stroke(one.kind)}", d="M1 5H29"), viewBox="0 0 30 10",
                aria_hidden="true",
            ),
            one.name,
        )
        for one in curves
    ]  # fmt: skip
    return element("ul", items, [element("li", one) for one in more], class_="legend")


def bars(label: str, names: Sequence[str], values: Sequence[float], shown: Callable[[float], str] = number) -> Html:
    """Bars that lie, each with its name before it and its value behind it."""
    most = max([*values, 1e-12])
    found, left, room = [], 170, WIDTH - 170 - 60
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        y = 6 + 26 * place
        width = round(room * max(0.0, value) / most, 1)
        found.append(element("text", shortened(name), class_="name", x=left - 8, y=y + 14, text_anchor="end"))
        found.append(element("rect", class_="b0", x=left, y=y + 3, width=width, height=15))
        found.append(element("text", shown(value), x=left + width + 6, y=y + 14))
    return element("svg", found, viewBox=f"0 0 {WIDTH} {12 + 26 * len(names)}", role="img", aria_label=label)


def parallel(label: str, axes: Sequence[Axis], lines: Sequence[Sequence[float]], best: int) -> Html:
    """A line for each of `lines` across upright axes; the best one stands out."""
    width, height, top, bottom = max(WIDTH, 130 * len(axes)), 300, 34, 22
    gap = (width - 150) / max(1, len(axes) - 1)

    def at(place: int, value: float) -> tuple[float, float]:
        return round(60 + gap * place, 1), round(
            height - bottom - axes[place].share(value) * (height - top - bottom), 1
        )

    drawn = []
    order = [i for i in range(len(lines)) if i != best] + [best] if lines else []
    for i in order:
        name = "thick k1" if i == best else "thin k0"
        drawn.append(element("path", class_=name, d=f"M{_path([at(p, v) for p, v in enumerate(lines[i])])}"))
    for place, one in enumerate(axes):
        x, _ = at(place, one.low)
        drawn.append(element("path", class_="axis", d=f"M{x} {top}V{height - bottom}"))
        drawn.append(element("text", shortened(one.title, 18), class_="name", x=x, y=16, text_anchor="middle"))
        for value, text in one.ticks():
            _, y = at(place, value)
            drawn.append(element("text", text, x=x + 6, y=y + 4))
    box = f"0 0 {width} {height}"
    return element("svg", drawn, viewBox=box, class_="broad", role="img", aria_label=label)
