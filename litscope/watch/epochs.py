"""WatchedEpochs: the line of each epoch of a watched run, also of one in which the script was killed.

A line is written when its epoch is over. A checkpoint may come before that: in the epoch, after its validation, or at
the end of a loop's body. What the epoch had by then, and no row tells, is noted in `metrics/saves.jsonl` first; from it
and from the rows, a run that goes on from the checkpoint makes the line that an uninterrupted one would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from litscope.attempts import valid_lines
from litscope.ledger.reader import LedgerReader
from litscope.live.epoch_clock import EpochClock
from litscope.live.records import epoch_rows, write_epoch
from litscope.rundir import RunDir, append_line, read_lines


class WatchedEpochs:
    """What the epoch that runs has had, and the lines of those that are over. The first rank reads and writes.

    Attributes:
        clock: of the epoch that runs.
        metrics: for its line.
        rate: learning rate of its last step; None where it is not known.
        is_taken_up: whether it is one in which the run went on from a checkpoint.
    """

    def __init__(self) -> None:
        self.clock = EpochClock()
        self.metrics: dict[str, float] = {}
        self.rate: float | None = None
        self.is_taken_up = False
        self._noted: dict[str, Any] = {}

    def open(self, run: RunDir, attempt: int, start_step: int, is_first_rank: bool) -> None:
        """Write to this run from now on, which begins or goes on at `start_step`."""
        self._run, self._attempt, self._start_step = run, attempt, start_step
        self._is_first_rank, self._is_to_be_taken_up = is_first_rank, start_step > 0

    def note(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Keep what the epoch has had so far, for a run that goes on from here."""
        noted = {"epoch": epoch, "step": step, "lr": self.rate, "metrics": self.metrics | dict(metrics)}
        if self._is_first_rank and noted != self._noted:  # a callback may save several checkpoints at once
            append_line(self._run.saves, {**noted, "attempt": self._attempt, "clock": self.clock.state()})
            self._noted = noted

    def take_up(self, epoch: int, num_edits: int) -> None:
        """Go on in this epoch where the run goes on from a checkpoint. The one before it gets its line if it has none.

        Args:
            epoch: from 0; those before it are over.
            num_edits: of validation or test samples so far.
        """
        if not self._is_to_be_taken_up:
            return
        self._is_to_be_taken_up, self.is_taken_up = False, True
        if not self._is_first_rank:
            return
        before = epoch - 1
        if before not in {row["epoch"] for row in epoch_rows(self._run)} and self._restore(before):
            self.clock.training_ends()
            self._write(before, self._start_step, self.clock.num_samples, num_edits)
        self._restore(epoch)

    def end(self, epoch: int, step: int, num_samples: int, num_edits: int) -> None:
        """Write the line of an epoch that is over, unless it is on record or has nothing.

        Lightning ends an epoch once more where a fit goes on from a checkpoint that it wrote after the validation.

        Args:
            epoch: from 0.
            step: optimizer steps done.
            num_samples: samples trained on, on all ranks.
            num_edits: of validation or test samples so far.
        """
        is_old = self.is_taken_up and step == self._start_step
        if self._is_first_rank and not (is_old and (num_samples == 0 or self._has_line(epoch))):
            self._write(epoch, step, num_samples, num_edits)
        self.metrics, self.is_taken_up = {}, False

    def of_a_pass(self, splits: Iterable[str], epoch: int) -> int:
        """The epoch of an evaluation beside a training that stands in `epoch`: that one, or the one after the last in
        which any of its splits was recorded, so that it is a pass of its own."""
        if not self._is_first_rank:
            return epoch
        reader = LedgerReader(self._run)
        last = [found for split in set(splits) if (found := reader.last_epoch(split)) is not None]
        return max([epoch, *last]) + 1 if last else epoch

    def _write(self, epoch: int, step: int, num_samples: int, num_edits: int) -> None:
        write_epoch(
            self._run,
            epoch=epoch,
            step=step,
            attempt=self._attempt,
            clock=self.clock,
            num_samples=num_samples,
            lr=self.rate,
            num_edits=num_edits,
            metrics=self.metrics,
        )

    def _has_line(self, epoch: int) -> bool:
        return any((row["epoch"], row["step"]) == (epoch, self._start_step) for row in epoch_rows(self._run))

    def _restore(self, epoch: int) -> bool:
        """Stand where the epoch stood at the checkpoint; returns whether any sample had been trained on by then."""
        rows = LedgerReader(self._run).table(["step"], split="train", phase="train", min_epoch=epoch, max_epoch=epoch)
        saves = valid_lines(read_lines(self._run.saves), read_lines(self._run.attempts))
        saved = next((line for line in saves if (line["epoch"], line["step"]) == (epoch, self._start_step)), {})
        self.clock.start({**saved.get("clock", {}), "num_samples": rows.num_rows})
        self.metrics = {name: math.nan if value is None else value for name, value in saved.get("metrics", {}).items()}
        self.rate = saved.get("lr")
        return self.clock.num_samples > 0
