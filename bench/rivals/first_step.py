"""`litscope fit FOLDER` for one step of ResNet-18; the time from the start of the process to the step's end.

The recorder's `on_train_batch_end` notes the time; nothing else is changed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import turns


def main() -> None:
    from litscope.cli import main as litscope
    from litscope.training.loop.recorder import Recorder

    took: list[float] = []
    end = Recorder.on_train_batch_end

    def on_train_batch_end(self: Recorder, *arguments: Any) -> None:
        end(self, *arguments)
        took.append(turns.since_start_s())

    Recorder.on_train_batch_end = on_train_batch_end
    with tempfile.TemporaryDirectory() as folder:
        words = ["fit", sys.argv[1], "--arch", "resnet18", "--batch-size", "64", "--precision", "32", "--epochs", "1"]
        for limit in ("train", "val", "test"):
            words += [f"--limit-{limit}-batches", "1"]
        code = litscope([*words, "--no-progress", "--run-dir", str(Path(folder) / "run")])
    if code != 0:
        sys.exit(code)
    turns.say("end", first_step_s=took[0], **turns.peak())


if __name__ == "__main__":
    main()
