"""`litscope fit digits` for many epochs: whether time and memory of an epoch grow.

many_epochs.py EPOCHS. Reports `time_growth`, the median of the last fifth of the epochs over that of the second
fifth (whole epochs: validation, checkpoint and ledger are in them), and `memory_growth`, resident memory (VmRSS,
proc(5)) at the end over that after the second fifth. 1 is flat.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import turns


def resident() -> int:
    """Memory of this process now, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main() -> None:
    """Run and report."""
    from litscope.cli import main as litscope
    from litscope.training.callbacks import Recorder

    num_epochs = int(sys.argv[1])
    kilobytes: list[int] = []
    end = Recorder.on_train_epoch_end

    @functools.wraps(end)
    def on_train_epoch_end(self: Recorder, *arguments: Any) -> None:
        end(self, *arguments)
        kilobytes.append(resident())

    Recorder.on_train_epoch_end = on_train_epoch_end
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = ["fit", "digits", "--arch", "convnet", "--batch-size", "64", "--epochs", str(num_epochs)]
        code = litscope([*words, "--no-progress", "--accelerator", "cpu", "--run-dir", str(run)])
        if code != 0:
            sys.exit(code)
        rows = [json.loads(line) for line in (run / "metrics" / "epochs.jsonl").read_text().splitlines()]
    seconds, part = [row["epoch_s"] for row in rows], max(1, num_epochs // 5)
    time_growth = statistics.median(seconds[-part:]) / statistics.median(seconds[part : 2 * part])
    memory_growth = kilobytes[-1] / kilobytes[2 * part - 1]
    turns.say("end", time_growth=time_growth, memory_growth=memory_growth, **turns.memory())


if __name__ == "__main__":
    main()
