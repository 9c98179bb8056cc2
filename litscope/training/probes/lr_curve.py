"""From the losses of exponential learning-rate sweeps to one suggestion. Plain arithmetic, no torch.

A sweep raises the learning rate by the same factor at each step. Against log10(lr) the loss is
flat, falls, reaches a bottom and blows up. The rule: smooth the curve by local linear fits in
log10(lr), and take the point of steepest descent before the bottom (Smith 2017, "Cyclical
learning rates", section 3.3; the slope is taken in the logarithm, as the sweep is). The
suggestion is the median over the sweeps, on the logarithmic scale.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litscope.console import number_of
from litscope.pictures.charts import lr_curve

Floats = NDArray[np.float64]

BANDWIDTH = 0.2
"""Standard deviation of the smoothing kernel, in decades of the learning rate."""

LEAST_DROP = 4.0
"""A fall of the loss below this many standard errors of the smoothed curve counts as noise."""


@dataclass(frozen=True)
class Sweep:
    """One sweep, and what it says.

    Attributes:
        lr, loss: (S,) float64, as used and as seen; the sweep may have ended early.
        smooth: (S,) the smoothed loss, capped where it blows up.
        suggestion: learning rate of steepest descent; None if the loss did not fall.
        diverges_at: first learning rate past the bottom where the smoothed loss is back at its start, or None.
    """

    lr: Floats
    loss: Floats
    smooth: Floats
    suggestion: float | None
    diverges_at: float | None

    def __repr__(self) -> str:
        told = "no suggestion" if self.suggestion is None else f"suggestion {self.suggestion:.2g}"
        return f"Sweep({number_of(len(self.lr), 'step')}, {told})"


@dataclass(frozen=True)
class LrResult:
    """What several sweeps say together.

    Attributes:
        suggestion: median of the sweeps' suggestions (geometric for an even number), or None.
        low, high: the smallest and the largest of them.
        diverges_at: the smallest learning rate at which a sweep blew up, or None.
        given: the learning rate of the recipe, for comparison.
        figure: path of the PNG, or None.
    """

    suggestion: float | None
    low: float | None
    high: float | None
    diverges_at: float | None
    given: float | None
    sweeps: list[Sweep]
    figure: str | None = None

    def __repr__(self) -> str:
        told = "no suggestion" if self.suggestion is None else f"suggestion {self.suggestion:.2g}"
        spread = "" if self.low is None or self.high is None else f", {self.low:.2g} to {self.high:.2g}"
        return f"LrResult({told}{spread} in {number_of(len(self.sweeps), 'sweep')})"

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw the sweeps into a PNG file, and return its path."""
        spread = (self.low, self.high) if self.low is not None and self.high is not None else None
        lrs, losses, smooth = ([getattr(one, name) for one in self.sweeps] for name in ("lr", "loss", "smooth"))
        lr_curve(lrs, losses, self.suggestion, Path(path), smooth=smooth, spread=spread)
        return Path(path)

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        if self.suggestion is None:
            return ["No suggestion: the loss did not fall in any sweep. Try more --num-steps, or look at the data."]
        fell = sum(s.suggestion is not None for s in self.sweeps)
        lines = [
            f"suggested learning rate {self.suggestion:.2g} "
            f"(median of {fell} sweeps, which gave {self.low:.2g} to {self.high:.2g})"
        ]
        if fell < len(self.sweeps):
            lines.append(f"in {len(self.sweeps) - fell} of {len(self.sweeps)} sweeps the loss did not fall")
        if self.diverges_at is not None:
            lines.append(f"training diverges from about {self.diverges_at:.2g}")
        if self.given is not None:
            lines.append(f"the rule for this data would take {self.given:.2g} (docs/choices.md)")
        if self.figure is not None:
            lines.append(f"curve: {self.figure}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json, with the points of each sweep."""
        return {
            "suggestion": self.suggestion,
            "low": self.low,
            "high": self.high,
            "diverges_at": self.diverges_at,
            "given": self.given,
            "figure": self.figure,
            "sweeps": [
                {
                    "suggestion": s.suggestion,
                    "diverges_at": s.diverges_at,
                    "lr": s.lr.tolist(),
                    "loss": s.loss.tolist(),
                    "smooth": s.smooth.tolist(),
                }
                for s in self.sweeps
            ],
        }


def join(sweeps: list[Sweep], given: float | None = None) -> LrResult:
    """The median of several sweeps and their spread."""
    found = [s.suggestion for s in sweeps if s.suggestion is not None]
    diverged = [s.diverges_at for s in sweeps if s.diverges_at is not None]
    return LrResult(
        suggestion=float(10 ** np.median(np.log10(found))) if found else None,
        low=min(found, default=None),
        high=max(found, default=None),
        diverges_at=min(diverged, default=None),
        given=given,
        sweeps=sweeps,
    )


def read_sweep(lr: Floats, loss: Floats) -> Sweep:
    """Smooth one sweep and find its steepest descent.

    Args:
        lr: (S,) rising by a constant factor.
        loss: (S,); NaN and infinity count as blown up.
    """
    num_start = max(5, len(loss) // 10)
    start = float(np.median(loss[:num_start]))
    capped = np.minimum(np.where(np.isfinite(loss), loss, np.inf), 2 * start)
    smooth, slope, error = _local_linear(np.log10(lr), capped)
    bottom = int(np.argmin(smooth))
    past = np.flatnonzero(smooth[bottom:] >= start)
    diverges_at = float(lr[bottom + past[0]]) if len(past) and past[0] > 0 else None
    # The noise of one loss: from neighbours in the first half, where the loss does not yet move much.
    noise = float(np.diff(capped[: max(num_start, len(loss) // 2)]).std() / np.sqrt(2))
    doubt = noise * np.hypot(error[bottom], 1.25 / np.sqrt(num_start))
    fell = bottom > 0 and start - smooth[bottom] > LEAST_DROP * doubt
    suggestion = float(lr[int(np.argmin(slope[: bottom + 1]))]) if fell else None
    return Sweep(lr, loss, smooth, suggestion, diverges_at)


def _local_linear(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Straight lines fitted around each x with Gaussian weights.

    Returns:
        (S,) values, (S,) slopes, and (S,) the standard error of a value for noise of 1 in y.
    """
    distance = x[None, :] - x[:, None]  # (S, S)
    weight = np.exp(-0.5 * (distance / BANDWIDTH) ** 2)
    s0, s1, s2 = (a.sum(1, keepdims=True) for a in (weight, weight * distance, weight * distance**2))
    determinant = s0 * s2 - s1**2
    to_value = weight * (s2 - s1 * distance) / determinant  # (S, S): value = to_value @ y
    to_slope = weight * (s0 * distance - s1) / determinant
    return to_value @ y, to_slope @ y, np.sqrt((to_value**2).sum(1))
