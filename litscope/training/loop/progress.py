"""What a person sees while a run trains: a bar on a terminal, and a plain line for each epoch everywhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from litscope.console import is_terminal, one_line, say, say_fields
from litscope.defaults import monitored

REDRAW_S = 0.1
SHOWN = ("train/loss", "val/loss", "val/accuracy")
"""Metrics of the epoch's line, before the monitored one, which is always there."""


class Progress:
    """The bar and the lines of one run.

    Args:
        show: False prints nothing at all (other ranks, and `--no-progress` for the bar).
        bar: draw a bar when standard error is a terminal.
        monitor: metric that the epoch's line always shows.
    """

    def __init__(self, *, show: bool, bar: bool, monitor: str | None = None) -> None:
        self._show = show
        self._has_bar = show and bar and is_terminal()
        self._monitor = monitor
        self._bar: Any = None
        self._task: Any = None
        self._done = 0
        self._drawn_at = 0.0

    def start(self, what: str, total: int, done: int = 0) -> None:
        """Begin a bar named `what`."""
        self.stop()
        self._done = done
        if not self._has_bar:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(what, total=total, completed=done)
        self._bar.start()

    def advance(self, count: int = 1) -> None:
        """Advance by some batches. This costs a comparison, unless the bar must be redrawn."""
        self._done += count
        if self._bar is not None and time.monotonic() - self._drawn_at > REDRAW_S:
            self._drawn_at = time.monotonic()
            self._bar.update(self._task, completed=self._done)

    def stop(self) -> None:
        """Remove the bar; a later `start` draws another."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, line: str) -> None:
        """Print one line for the person, on the first rank only."""
        if self._show:
            self.stop()
            say(line)

    def note(self, line: str) -> None:
        """As `say`, above the bar, which stays."""
        if self._bar is None:
            self.say(line)
        else:
            self._bar.console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)

    def epoch_line(self, row: Mapping[str, Any], max_epochs: int | None) -> None:
        """Print the line of an epoch that is over.

        Args:
            row: what `metrics/epochs.jsonl` holds of it.
            max_epochs: how many there will be, if known.
        """
        of = f"/{max_epochs}" if max_epochs and max_epochs > 0 else ""
        shown = {name: row[name] for name in SHOWN if row.get(name) is not None} | monitored(row, self._monitor)
        numbers = [f"{name} {value:.4f}" for name, value in shown.items()]
        results = [f"epoch {row['epoch'] + 1}{of}", *numbers]
        if self._show:
            self.stop()
            rate = row["samples_per_s"]
            speed = [f"{row['epoch_s']:.1f} s", f"{rate:,.{0 if rate >= 10 else 1}f} samples/s"]
            say_fields([*results, *speed], num_kept=len(results))
