"""The command `litscope fit` itself, in a run folder of its own; prints the speed of its warm epochs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Run `litscope fit` with the given flags, and print samples per second."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "litscope", "fit", *sys.argv[1:], "--run-dir", str(run), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        summary = json.loads(done.stdout)
        epochs = [json.loads(line) for line in (run / "metrics" / "epochs.jsonl").read_text().splitlines()]
        rate = statistics.median(epoch["samples_per_s"] for epoch in epochs[1:])
        print(json.dumps({"samples_per_s": rate, "num_parameters": summary["num_parameters"]}))


if __name__ == "__main__":
    main()
