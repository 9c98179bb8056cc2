"""The answer of `litscope whatif`: both arms seed by seed, their difference, and one sentence. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from litscope.console import number_of, table_lines
from litscope.ledger.journal.actions import Action

CONFIDENCE = 0.95

NO_DIFFERENCE = "No difference can be seen"


@dataclass(frozen=True)
class Question:
    """The question.

    Attributes:
        actions: requests about training samples.
        what: in words: `discarding these 27 samples`.
        num_samples: how many samples they change.
        num_held_out: number of validation and test samples that were asked for too, but are left as they are.
    """

    actions: list[Action]
    what: str
    num_samples: int
    num_held_out: int


@dataclass(frozen=True)
class WhatIf:
    """The answer.

    Attributes:
        run, checkpoint: where both arms started.
        question: what the second arm did.
        first_epoch: epochs before the start.
        epochs: epochs that each arm trained.
        metric: the metric that was compared, in the last epoch.
        num_val: number of validation samples; None if validation is cut short (--limit-val-batches).
        seeds: (n,) seeds of the trainings.
        as_is, changed: (n,) the metric of each arm.
        report: the file that keeps all this.
    """

    run: str
    checkpoint: str
    question: Question
    first_epoch: int
    epochs: int
    metric: str
    num_val: int | None
    seeds: list[int]
    as_is: list[float]
    changed: list[float]
    report: str

    @property
    def differences(self) -> list[float]:
        """(n,) changed minus as it is, seed by seed."""
        return [b - a for a, b in zip(self.as_is, self.changed, strict=True)]

    @property
    def interval(self) -> tuple[float, float]:
        """The mean difference's 95 % interval. Shares of few samples are coarse: equal ones spread as rounding does."""
        step = 0.0 if self.num_val is None or self._is_loss else 1 / self.num_val
        return t_interval(self.differences, step / math.sqrt(12))

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        low, high = self.interval
        return low > 0 or high < 0

    def verdict(self) -> str:
        """One sentence: what the decision changes, or that no difference can be seen."""
        mean, (low, high) = float(np.mean(self.differences)), self.interval
        values = f"{self._amount(mean)} ({self._plain(low)} to {self._plain(high)})"
        what = f"{self.question.what} changes {self.metric} by {values}."
        return what[0].upper() + what[1:] if self.is_clear else f"{NO_DIFFERENCE} with {len(self.seeds)} seeds: {what}"

    def _amount(self, value: float) -> str:
        return f"{self._plain(value, '+')}{'' if self._is_loss else ' points'}"

    def _plain(self, value: float, sign: str = "") -> str:
        value, digits = (value, 4) if self._is_loss else (100 * value, 1)
        return f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # + 0.0: no minus before a zero

    @property
    def _is_loss(self) -> bool:
        return self.metric.endswith("/loss")

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        rows = [
            [str(seed), f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}"]
            for seed, a, b in zip(self.seeds, self.as_is, self.changed, strict=True)
        ]
        columns = (self.as_is, self.changed, self.differences)
        means, spreads = ([float(f(c)) for c in columns] for f in (np.mean, lambda c: np.std(c, ddof=1)))
        rows.append(["mean", f"{means[0]:.4f}", f"{means[1]:.4f}", f"{means[2]:+.4f}"])
        rows.append(["deviation", *(f"{spread:.4f}" for spread in spreads)])
        head = ["seed", "as is", "changed", "difference"]
        num = "" if self.num_val is None else f", on {self.num_val:,} validation samples"
        one = f"; one of them is {100 / self.num_val:.2g} points" if self.num_val and "accuracy" in self.metric else ""
        return [
            f"{self.metric} after {number_of(self.epochs, 'more epoch')}{num}{one}",
            *table_lines(head, rows, right=head[1:]),
            self.verdict(),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json and the report."""
        arms = {
            name: {"values": values, "mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1))}
            for name, values in (("as_is", self.as_is), ("changed", self.changed), ("difference", self.differences))
        }
        arms["difference"]["interval"] = list(self.interval)
        return {
            "run": self.run,
            "checkpoint": self.checkpoint,
            "what": self.question.what,
            "num_samples": self.question.num_samples,
            "num_held_out": self.question.num_held_out,
            "actions": self.question.actions,
            "first_epoch": self.first_epoch,
            "epochs": self.epochs,
            "metric": self.metric,
            "num_val": self.num_val,
            "seeds": self.seeds,
            **arms,
            "is_clear": self.is_clear,
            "verdict": self.verdict(),
            "report": self.report,
        }


def t_interval(values: list[float], least_deviation: float = 0.0) -> tuple[float, float]:
    """The 95 % interval of the mean of n >= 2 values: Student (1908), Biometrika 6, 1; n - 1 degrees of freedom.

    Args:
        values: (n,).
        least_deviation: used if the values spread less; rounding to steps of q spreads by q / sqrt(12).
    """
    from scipy.stats import t

    num = len(values)
    deviation = max(least_deviation, float(np.std(values, ddof=1)))
    half = float(t.ppf((1 + CONFIDENCE) / 2, num - 1)) * deviation / math.sqrt(num)
    mean = float(np.mean(values))
    return mean - half, mean + half
