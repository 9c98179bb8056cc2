"""What all charts share: a figure, how its axes look, and how it is written. No torch.

matplotlib is imported inside, used through its object interface only, so that pyplot's state and the caller's settings
stay as they are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from litscope.console import one_line, say
from litscope.pictures.colours import FAINT, GRID, INK
from litscope.pictures.lettering import wrapped
from litscope.rundir import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Sequence[float] | npt.NDArray[np.float64]

DPI = 130
_MISSING_SIGN = re.compile(r"Glyph \d+ .*missing from")
"""How matplotlib's warning about a sign begins that the font does not have."""


def figure(width: float, height: float) -> Figure:
    """An empty one, of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def style(axes: Axes, title: str, x_label: str) -> None:
    """How all axes look, with a title above and a label below."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel(x_label, color=INK)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=FAINT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def head(figure: Figure, title: str) -> None:
    """A title over the whole figure, in two lines at most."""
    lines = wrapped(one_line(title), lambda line: len(line) <= 52, 2) if title else []
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10, color=INK, parse_math=False)


def finite(values: Numbers) -> npt.NDArray[np.float64]:
    """The values, with NaN for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def save(figure: Figure, path: Path) -> None:
    """Write the figure. Signs that the font lacks are drawn as boxes: one line says so, not a warning for each."""
    with whole_file(path) as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(file, format="png", dpi=DPI)
    others = [warning for warning in caught if not _MISSING_SIGN.match(str(warning.message))]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if len(others) < len(caught):
        say(
            f"{path}: the font has no signs for some of the names, so they are boxes there; "
            "`font.family` in a matplotlibrc names another font"
        )
