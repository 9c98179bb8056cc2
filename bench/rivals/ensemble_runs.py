"""`litscope fit` once for N networks, or N times for one: COUNT together|apart BATCHES EPOCHS DATASET."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import turns


def main() -> None:
    """Run the command or the commands, one after the other, and say how much memory the largest took."""
    count, how, batches, epochs, *dataset = sys.argv[1:]
    words = [sys.executable, "-m", "litscope", "fit", *dataset, "--arch", "convnet", "--epochs", epochs]
    words += ["--batch-size", "64", "--limit-train-batches", batches, "--accelerator", "cpu", "--precision", "32"]
    words += ["--num-threads", "1", "--no-progress", "--logger", "none"]
    with tempfile.TemporaryDirectory() as folder:
        if how == "together":
            more = ["--num-members", count] if int(count) > 1 else []
            runs = [[*words, *more, "--run-dir", str(Path(folder, "run"))]]
        else:
            runs = [[*words, "--seed", str(42 + i), "--run-dir", str(Path(folder, str(i)))] for i in range(int(count))]
        for run in runs:
            subprocess.run(run, check=True, stdout=sys.stderr)
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    turns.say("end", peak_mib=peak_mib)


if __name__ == "__main__":
    main()
