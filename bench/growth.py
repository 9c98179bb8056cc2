"""What a run costs as the data set grows: 10^4 to 10^7 samples, every sample on record.

The data are tables made here (8 float32 features, 4 classes, N rows, 1 % of them for validation), the model is the
default MLP, the batch 1,024 samples. Each size trains by `litscope fit` in a process of its own, with the ledger on,
for a few epochs, of which the first is not counted (validation, the ledger's flush, the scores and the checkpoint
belong to an epoch). "Linear or better" means that a sample costs no more at the largest size than at the smallest,
within a tenth. A full run also draws docs/growth.svg.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import Bench, Context
from lines import Line, figure_line
from processes import ArmFailed, environment

NUM_FEATURES, NUM_CLASSES, BATCH_SIZE = 8, 4, 1024
POWERS = {"tiny": (2, 3), "normal": (4, 5)}
FULL = (4, 5, 6, 7)
ALL = "all sizes"
COSTS = {"epoch_s": ("time_growth", "s per epoch"), "peak_bytes": ("memory_growth", "peak memory"),
         "run_bytes": ("disk_growth", "bytes of the run")}  # fmt: skip
"""What a size costs -> the figure of its growth, and its title in the plot."""

PLOT = Path(__file__).resolve().parents[1] / "docs" / "growth.svg"


def growth_lines(context: Context) -> list[Line]:
    """Train each size once, and say what a sample costs at each."""
    epochs = 2 if context.size == "tiny" else 4
    rows = []
    for power in FULL if context.full else POWERS[context.size]:
        with tempfile.TemporaryDirectory(dir=context.work) as folder:
            rows.append(train(10**power, epochs, context.threads, Path(folder)))
        print(f"growth: 10^{power}: {statistics.median(rows[-1]['epoch_s']):.3f} s per epoch", file=sys.stderr)
    if context.full and context.size == "normal":
        draw(rows, PLOT)
    found = [
        figure_line(ALL, figure, "× per sample", [ratio(rows, cost)], epochs=epochs)
        for cost, (figure, _) in COSTS.items()
    ]
    for row in rows:
        arm = f"{row['num_samples']:,} samples"
        found.append(figure_line(arm, "steps_per_s", "steps/s", row["steps_per_s"]))
        found.append(figure_line(arm, "epoch_s", "s", row["epoch_s"]))
        found += [figure_line(arm, name, "MB", [row[name] / 1e6]) for name in ("peak_bytes", "run_bytes")]
    return found


def ratio(rows: list[dict[str, Any]], cost: str) -> float:
    """What a sample costs at the largest size, over what it costs at the smallest."""
    first, last = (float(np.median(row[cost])) / row["num_samples"] for row in (rows[0], rows[-1]))
    return round(last / first, 4)


def train(num_samples: int, epochs: int, threads: int, work: Path) -> dict[str, Any]:
    """Train one run on `num_samples` rows, in a process of its own.

    Raises:
        ArmFailed: if it fails, with the end of its output.
    """
    data, run = work / "table.npz", work / "run"
    make_table(num_samples, data)
    command = [sys.executable, "-m", "litscope", "fit", str(data), "--run-dir", str(run), "--val-split", "0.01"]
    command += ["--batch-size", str(BATCH_SIZE), "--epochs", str(epochs), "--logger", "none", "--no-progress"]
    command += ["--accelerator", "cpu"]
    began = time.perf_counter()
    with (work / "words").open("w+") as words:
        process = subprocess.Popen(command, stdout=words, stderr=words, env=environment(threads, work, is_ours=True))
        _, status, usage = os.wait4(process.pid, 0)  # the peak of this process alone
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            words.seek(0)
            raise ArmFailed(f"exit code {process.returncode}: {words.read()[-500:]}")
    lines = [json.loads(line) for line in (run / "metrics" / "epochs.jsonl").read_text().splitlines()]
    steps = lines[-1]["step"] / len(lines)
    warm = lines[1:]
    return {
        "num_samples": num_samples,
        "steps_per_s": [row["samples_per_s"] * steps / row["num_samples"] for row in warm],
        "epoch_s": [row["epoch_s"] for row in warm],
        "wall_s": [time.perf_counter() - began],
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "run_bytes": sum(path.stat().st_size for path in run.rglob("*") if path.is_file()),
    }


def make_table(num_samples: int, path: Path) -> None:
    """Write four overlapping clouds as an .npz file."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, NUM_CLASSES, num_samples)
    x = rng.standard_normal((num_samples, NUM_FEATURES), np.float32)
    x[:, :NUM_CLASSES] += np.eye(NUM_CLASSES, dtype=np.float32)[y]
    np.savez(path, X=x, y=y)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw each cost over the number of samples, both logarithmic, with the line of proportional growth."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "litscope"  # else every drawing has other names inside
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    sizes = np.array([row["num_samples"] for row in rows], float)
    for axes, (name, (_, words)) in zip(figure.subplots(1, len(COSTS)), COSTS.items(), strict=True):
        values = np.array([np.median(row[name]) for row in rows])
        axes.loglog(sizes, values, marker="o", label="measured")
        axes.loglog(sizes, values[-1] * sizes / sizes[-1], ls="--", color="0.6", label="proportional")
        axes.set(title=words, xlabel="samples")
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


BENCH = Bench("growth", "Runs on tables of 10^4 and more rows, batch 1,024", measure=growth_lines)
