"""`litscope fit` that records in some epochs and not in others, by turns in one process.

    python bench/rivals/recording_rounds.py --rounds N FLAGS OF litscope fit (without --epochs)

Two processes of the same program differ by several percent as long as they live, which is more than recording costs.
So both arms are epochs of one run: in those without, the recorder has what it has with --no-ledger. The clock runs from
the start of the epoch to the end of everything that the recorder does after it, including scores that are brought up to
date in the background. Reports `rates`: {arm: [samples per second]}.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from turns import say

ARMS = ("on", "off", "on again")
WAKES_S = 0.02
"""Seconds after which a background thread that was woken has begun."""


class Rounds:
    """Whose turn it is, and how fast each arm was.

    Args:
        arms: their names; the one that is called `off` does not record.
    """

    def __init__(self, arms: tuple[str, ...] = ARMS) -> None:
        self.arms = arms
        self.rates: dict[str, list[float]] = {arm: [] for arm in arms}
        self.number = 0
        self.refreshing = threading.Lock()
        self._recording: tuple[Any, Any] | None = None
        self._began = 0.0

    @property
    def arm(self) -> str:
        """The arm whose turn it is; each round begins with another one."""
        in_round, place = divmod(self.number, len(self.arms))
        return self.arms[(in_round + place) % len(self.arms)]

    def begin(self, recorder: Any, trainer: Any) -> None:
        """Give the recorder what the arm needs, and start the clock."""
        from litscope.live.capture import Capture
        from litscope.training.loop.recording import FLUSH_S

        recording = recorder._recording
        if self._recording is None:
            self._recording = recording.capture, recording.upkeep
        if self.arm == "off":
            recording.capture, recording.upkeep = Capture(None, trainer.strategy.root_device, FLUSH_S), None
        else:
            recording.capture, recording.upkeep = self._recording
        self._began = time.perf_counter()

    def end(self, num_samples: int) -> None:
        """Stop the clock; the first round is cold."""
        time.sleep(WAKES_S)
        with self.refreshing:
            took = time.perf_counter() - self._began - WAKES_S
        if self.number >= len(self.arms):
            self.rates[self.arm].append(round(num_samples / took, 1))
        print(f"epoch {self.number}, {self.arm}: {num_samples / took:.1f} samples/s", file=sys.stderr)
        self.number += 1

    def give_back(self, recorder: Any) -> None:
        """Give the recorder its own parts back at the end, so that it closes all of them."""
        if self._recording is not None:
            recorder._recording.capture, recorder._recording.upkeep = self._recording


def install(rounds: Rounds) -> None:
    """Put the turns around the recorder's epochs."""
    from litscope.ledger.upkeep import Upkeep
    from litscope.training.loop.recorder import Recorder

    start, end, close = Recorder.on_train_epoch_start, Recorder.on_train_epoch_end, Recorder.close
    work = Upkeep._work

    @functools.wraps(start)
    def on_train_epoch_start(self: Recorder, trainer: Any, pl_module: Any) -> None:
        rounds.begin(self, trainer)
        start(self, trainer, pl_module)

    @functools.wraps(end)
    def on_train_epoch_end(self: Recorder, trainer: Any, pl_module: Any) -> None:
        end(self, trainer, pl_module)
        rounds.end(trainer.num_training_batches * trainer.datamodule.batch_size)

    @functools.wraps(close)
    def close_all(self: Recorder) -> None:
        rounds.give_back(self)
        close(self)

    @functools.wraps(work)
    def _work(self: Upkeep, **how: bool) -> None:
        with rounds.refreshing:
            work(self, **how)

    Recorder.on_train_epoch_start, Recorder.on_train_epoch_end = on_train_epoch_start, on_train_epoch_end
    Recorder.close, Upkeep._work = close_all, _work


def main() -> None:
    """Train, and report samples per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    options, flags = parser.parse_known_args()
    from litscope.cli import main as litscope

    rounds = Rounds()
    install(rounds)
    epochs = str(len(ARMS) * (options.rounds + 1))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        code = litscope(["fit", *flags, "--epochs", epochs, "--run-dir", str(Path(folder) / "run"), "--json"])
    if code != 0:
        sys.exit(code)
    say("end", rates=rounds.rates)


if __name__ == "__main__":
    main()
