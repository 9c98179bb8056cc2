"""What a search found: its trials, and which are best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from litscope.console import number_of, shell_word, table_lines

NUM_SHOWN = 10
NUM_REASONS = 3
NO_VALUE = "a loss or metric that is not a number"
"""Why a trial failed whose training went to its end, or until the loss was not finite."""


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        number: counted from 1.
        settings: values by name.
        value: the metric of its best epoch; None if the loss became NaN or infinite, or the metric was never defined.
        run: the folder of the run that it was, or was a member of.
        wall_s: seconds of that run, divided by its members.
        stopped_after: epochs after which the pruner stopped it, its value being the best until then; else None.
        reason: why it failed; None if it did not.
    """

    number: int
    settings: dict[str, Any]
    value: float | None
    run: str
    wall_s: float
    stopped_after: int | None = None
    reason: str | None = None

    @property
    def state(self) -> Literal["complete", "pruned", "failed"]:
        """How it ended: by itself, stopped by the pruner, or without a value."""
        if self.value is None:
            return "failed"
        return "complete" if self.stopped_after is None else "pruned"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {**vars(self), "state": self.state}

    @property
    def words(self) -> str:
        """The settings in one line: `lr 0.0123, weight_decay 0.05`."""
        return ", ".join(f"{name} {shown(value)}" for name, value in self.settings.items())


@dataclass(frozen=True)
class TuneResult:
    """What `tune` found.

    Attributes:
        metric, mode: the metric that judges, and whether "min" or "max" is better.
        trials: in their order.
        folder: holds the runs, trials.jsonl, best.yaml, and the pictures and page of `search_report`.
        importance: share of the variance of the metric that each setting explains (fANOVA); None where too few trials
            are complete to tell.
        pictures: of the search, as PNG; none while it goes on.
        page: all of it on one page, as HTML; None while it goes on.
    """

    dataset: str
    metric: str
    mode: str
    trials: tuple[Trial, ...]
    folder: Path
    importance: dict[str, float] | None = None
    pictures: tuple[Path, ...] = ()
    page: Path | None = None

    def __repr__(self) -> str:
        best = next(iter(self.ranked), None)
        told = "none with a value" if best is None else f"best {self.metric} {best.value:.4g} with {best.words}"
        return f"TuneResult({self.dataset!r}: {number_of(len(self.trials), 'trial')}, {told}; {str(self.folder)!r})"

    @property
    def ranked(self) -> list[Trial]:
        """The trials that have a value, best first."""
        sign = -1 if self.mode == "max" else 1
        found = [(sign * trial.value, trial.number, trial) for trial in self.trials if trial.value is not None]
        return [trial for *_, trial in sorted(found, key=lambda item: item[:2])]

    @property
    def config(self) -> Path:
        """The recipe with the best settings."""
        return self.folder / "best.yaml"

    def lines(self) -> list[str]:
        """The best trials in lines for a terminal, and how to train with the best."""
        names = list(self.trials[0].settings)
        numbers = [name for name, value in self.trials[0].settings.items() if isinstance(value, int | float)]
        ranked = self.ranked
        rows = [
            [trial.number, f"{trial.value:.4f}", *(shown(trial.settings[name]) for name in names)]
            for trial in ranked[:NUM_SHOWN]
        ]
        without = [trial for trial in self.trials if trial.value is None]
        rows += [
            [trial.number, trial.state, *(shown(trial.settings[name]) for name in names)]
            for trial in without[: max(0, NUM_SHOWN - len(rows))]
        ]
        lines = [f"{self.dataset}: {len(self.trials)} trials, {sum(t.wall_s for t in self.trials):.0f} s"]
        if without:
            lines += [f"{len(without)} of them failed, without {self.metric}: {_some(t.reason for t in without)}"]
        stopped = sum(trial.stopped_after is not None for trial in self.trials)
        lines += [f"{stopped} of them were stopped early"] if stopped else []
        told = self._about_importance()
        return [
            *lines,
            *table_lines(["trial", self.metric, *names], rows, right=[self.metric, *numbers]),
            *told,
            f"litscope fit --config {shell_word(self.config)}",
        ]

    def _about_importance(self) -> list[str]:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in (self.importance or {}).items())
        lines = [f"importance, the share of {self.metric} that each explains: {shares}"] if shares else []
        return lines + ([f"page: {self.page}"] if self.page is not None else [])

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        best = self.ranked[0]
        return {
            "dataset": self.dataset,
            "metric": self.metric,
            "mode": self.mode,
            "best": best.to_dict(),
            "trials": [trial.to_dict() for trial in self.trials],
            "importance": self.importance,
            "folder": str(self.folder),
            "config": str(self.config),
            "command": f"litscope fit --config {shell_word(self.config)}",
            "pictures": [str(picture) for picture in self.pictures],
            "page": None if self.page is None else str(self.page),
        }


def shown(value: Any) -> str:
    """A setting's value for people; numbers with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _some(reasons: Iterable[str | None]) -> str:
    """The reasons, the most frequent first."""
    counted = Counter(reason or NO_VALUE for reason in reasons).most_common(NUM_REASONS + 1)
    shown = [reason if count == 1 else f"{reason} ({count})" for reason, count in counted[:NUM_REASONS]]
    return "; ".join(shown) + ("; ..." if len(counted) > NUM_REASONS else "")
