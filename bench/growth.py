"""What a run costs as the data set grows: 10^4 to 10^7 samples, every sample on record.

    python bench/growth.py [--quick] [--most 7] [--epochs 3] [--output growth.png] [--out lines.jsonl]

The data are tables made here (8 float32 features, 4 classes, N rows, 1 % of them for validation), the model is
the default MLP, the batch 1,024 samples. Each size trains in a process of its own by `litscope fit`, ledger on.
Figures: steps per second and seconds of the warm epochs (median; validation, the ledger's flush, the scores
and the checkpoint belong to an epoch), peak memory of the process and its growth per sample, bytes of the run's
folder and of its ledger. "Linear or better" says that a sample costs no more at a size than at the one
before, within a tenth. --quick stops at 10^5.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from harness import machine

NUM_FEATURES, NUM_CLASSES, BATCH_SIZE = 8, 4, 1024
TOLERANCE = 0.1
COSTS = {"epoch_s": "s per epoch", "peak_bytes": "peak memory", "run_bytes": "bytes of the run"}


def main() -> None:
    """Measure each size, then print a table and a JSON line, and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 10^5 samples")
    parser.add_argument("--least", type=int, default=4, help="the smallest size is 10 to this")
    parser.add_argument("--most", type=int, default=7, help="the largest size is 10 to this")
    parser.add_argument("--epochs", type=int, default=3, help="of each run; the first is not counted")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="OMP_NUM_THREADS of every run")
    parser.add_argument("--output", type=Path, default=Path("growth.png"), help="the plot, a PNG file")
    parser.add_argument("--out", type=Path, help="append the JSON line to this file")
    options = parser.parse_args()
    most = min(options.most, 5) if options.quick else options.most
    rows = []
    for power in range(options.least, most + 1):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(10**power, options.epochs, options.threads, Path(folder)))
        print(f"  10^{power}: {rows[-1]['epoch_s']:.2f} s per epoch", file=sys.stderr, flush=True)
    line = {"bench": "growth", "threads": options.threads, "sizes": rows, "growth": growth(rows), "machine": machine()}
    print(table(rows, line["growth"]))
    print(json.dumps(line), flush=True)
    draw(rows, options.output)
    print(f"plot: {options.output}", file=sys.stderr)
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


def measure(num_samples: int, epochs: int, threads: int, work: Path) -> dict[str, Any]:
    """One run of `num_samples` rows, in a process of its own."""
    data, run = work / "table.npz", work / "run"
    make_table(num_samples, data)
    command = [sys.executable, "-m", "litscope", "fit", str(data), "--run-dir", str(run), "--val-split", "0.01"]
    command += ["--batch-size", str(BATCH_SIZE), "--epochs", str(epochs), "--logger", "none", "--no-progress"]
    command += ["--accelerator", "cpu"]
    start = time.perf_counter()
    with (work / "words").open("w+") as words:
        process = subprocess.Popen(
            command, stdout=words, stderr=words, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
        _, status, usage = os.wait4(process.pid, 0)  # the peak of this process alone
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            words.seek(0)
            sys.exit(f"litscope fit failed with exit code {process.returncode}:\n{words.read()}")
    wall_s = time.perf_counter() - start
    lines = [json.loads(line) for line in (run / "metrics" / "epochs.jsonl").read_text().splitlines()]
    warm = lines[1:] or lines
    steps = lines[-1]["step"] / len(lines)
    return {
        "num_samples": num_samples,
        "steps_per_epoch": steps,
        "steps_per_s": statistics.median(row["samples_per_s"] for row in warm) * steps / lines[-1]["num_samples"],
        "epoch_s": statistics.median(row["epoch_s"] for row in warm),
        "wall_s": wall_s,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "run_bytes": size_of(run),
        "ledger_bytes": size_of(run / "signals"),
        "data_bytes": data.stat().st_size,
    }


def make_table(num_samples: int, path: Path) -> None:
    """Four clouds that overlap, as an .npz file."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, NUM_CLASSES, num_samples)
    x = rng.standard_normal((num_samples, NUM_FEATURES), np.float32)
    x[:, :NUM_CLASSES] += np.eye(NUM_CLASSES, dtype=np.float32)[y]
    np.savez(path, X=x, y=y)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def growth(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Of each cost: what a sample costs at each size, as a multiple of the size before."""
    pairs = list(pairwise(rows))
    return {
        name: [round(b[name] / b["num_samples"] / (a[name] / a["num_samples"]), 3) for a, b in pairs] for name in COSTS
    }


def table(rows: list[dict[str, Any]], ratios: dict[str, list[float]]) -> str:
    """For people."""
    head = f"{'samples':>10}{'steps/s':>9}{'epoch s':>9}{'us/sample':>11}{'peak MB':>9}{'run MB':>9}{'ledger MB':>11}"
    lines = [
        f"{r['num_samples']:>10,}{r['steps_per_s']:>9.0f}{r['epoch_s']:>9.2f}"
        f"{1e6 * r['epoch_s'] / r['num_samples']:>11.2f}{r['peak_bytes'] / 1e6:>9.0f}{r['run_bytes'] / 1e6:>9.1f}"
        f"{r['ledger_bytes'] / 1e6:>11.1f}"
        for r in rows
    ]
    for name, words in COSTS.items():
        worst = max(ratios[name], default=1.0)
        is_linear = "linear or better" if worst <= 1 + TOLERANCE else f"NOT linear: a sample costs {worst:.2f} times"
        lines.append(f"{words}: {is_linear}")
    return "\n".join([head, *lines])


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Each cost over the number of samples, both logarithmic, with the straight line of proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    sizes = np.array([row["num_samples"] for row in rows], float)
    for axes, (name, words) in zip(figure.subplots(1, len(COSTS)), COSTS.items(), strict=True):
        values = np.array([row[name] for row in rows], float)
        axes.loglog(sizes, values, marker="o", label="measured")
        axes.loglog(sizes, values[-1] * sizes / sizes[-1], ls="--", color="0.6", label="proportional")
        axes.set(title=words, xlabel="samples")
        axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
