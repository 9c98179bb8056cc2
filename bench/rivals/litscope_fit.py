"""`litscope fit` as an arm: the command itself, which waits for its turn before each epoch.

    litscope_fit.py [--compile-steps] [--sync-check] [--times N] [--turn N] [--first-turn N]
                    FLAGS OF litscope fit

The wait comes before the recorder's `on_train_epoch_start`, so that it costs nothing in a step, and the epoch's clock
starts after it. Speed is what the run itself writes into metrics/epochs.jsonl. The arm waits for scores that the run
brings up to date in the background, so that they fall into its own turn.
--compile-steps: compile the steps of a call, although so short a run would not. --sync-check: count the points of each
epoch's training at which the host waits for the GPU (torch.cuda.set_sync_debug_mode). --times: how often a sample
counts, which is once for each network that is trained on it. --turn, --first-turn: epochs in a turn (one), and in the
first one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import statistics
import sys
import tempfile
import threading
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import turns as protocol

WAKES_S = 0.02
"""Seconds after which a background thread that was woken has begun."""


class Arm:
    """Takes turns, and reports what the run's own files say about the epoch before."""

    def __init__(self, run: Path, sync_check: bool, times: int, turn_epochs: int, first_epochs: int) -> None:
        self.times = times
        self.turn_epochs, self.first_epochs = turn_epochs, first_epochs
        self.turns = protocol.Turns()
        self.epochs = run / "metrics" / "epochs.jsonl"
        self.sync_check = sync_check
        self.left = self.epochs_before = self.steps_before = 0
        self.caught: list[warnings.WarningMessage] | None = None
        self.syncs: list[int] = []
        self.catching = contextlib.ExitStack()
        self.refreshing = threading.Lock()

    def before_epoch(self, batch_size: int) -> None:
        """If a turn is over, report it and wait for the next."""
        if self.left:
            self.left -= 1
            return
        time.sleep(WAKES_S)
        with self.refreshing:
            pass
        lines = self.epochs.read_text().splitlines() if self.epochs.exists() else []
        self.left = (self.turn_epochs if lines else self.first_epochs) - 1
        if lines:
            turn, self.epochs_before = [json.loads(line) for line in lines[self.epochs_before :]], len(lines)
            steps, self.steps_before = turn[-1]["step"] - self.steps_before, turn[-1]["step"]
            samples_per_s = statistics.harmonic_mean([row["samples_per_s"] for row in turn])
            self.turns.report(self.times * samples_per_s, self.times * steps * batch_size, **protocol.resident())
        self.turns.wait()

    def watch(self) -> None:
        """Start counting waits for the GPU."""
        import torch

        if self.sync_check and torch.cuda.is_available():
            self.caught = self.catching.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def count(self) -> None:
        """Stop counting, before the epoch's last loss is written down."""
        import torch

        if self.caught is not None:
            torch.cuda.set_sync_debug_mode("default")
            self.syncs.append(sum("synchronizing CUDA operation" in str(w.message) for w in self.caught))
            self.catching.close()
            self.caught = None


def install(arm: Arm) -> None:
    """Put the arm's calls around the run's own."""
    from litscope.ledger.upkeep import Upkeep
    from litscope.training.loop.fit_record import FitRecord
    from litscope.training.loop.recorder import Recorder

    start, ends, work = Recorder.on_train_epoch_start, FitRecord.training_ends, Upkeep._work

    @functools.wraps(start)
    def on_train_epoch_start(self: Recorder, trainer: Any, pl_module: Any) -> None:
        arm.before_epoch(trainer.datamodule.batch_size)
        start(self, trainer, pl_module)
        arm.watch()

    @functools.wraps(ends)
    def training_ends(self: FitRecord) -> None:
        arm.count()
        ends(self)

    @functools.wraps(work)
    def _work(self: Upkeep, **how: bool) -> None:
        with arm.refreshing:
            work(self, **how)

    Recorder.on_train_epoch_start, FitRecord.training_ends = on_train_epoch_start, training_ends
    Upkeep._work = _work


def main() -> None:
    """Run the command, and report what its summary says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--compile-steps", action="store_true")
    parser.add_argument("--sync-check", action="store_true")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--turn", type=int, default=1)
    parser.add_argument("--first-turn", type=int, default=1)
    options, flags = parser.parse_known_args()
    from litscope.cli import main as litscope

    if options.compile_steps:
        import_module("litscope.training.loop.stride").COMPILE_S = 0.0
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as written:
        run = Path(folder) / "run"
        arm = Arm(run, options.sync_check, options.times, options.turn, options.first_turn)
        install(arm)
        code = litscope(["fit", *flags, "--run-dir", str(run), "--json"])
    if code != 0:
        sys.exit(code)
    summary = json.loads(written.getvalue())["result"]
    tested = summary["metrics"]["best"].get("test/accuracy")
    more = {"host_syncs": max(arm.syncs[1:])} if arm.syncs else {}
    arm.turns.finish(summary["num_parameters"], tested, precision=summary["precision"], **more)


if __name__ == "__main__":
    main()
