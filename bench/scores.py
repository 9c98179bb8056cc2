"""Seconds and memory to bring the scores of an ImageNet-sized run up to date.

    python bench/scores.py [--samples 1280000] [--epochs 21] [--threads 1]

Writes a run folder with synthetic values in the real schema: every epoch visits every training sample
once, in an order of its own, in parts as the trainer makes them, and the validation samples once.
Then it times, each in a process of its own: `refresh` from scratch over all epochs but the last; `refresh`
after the last epoch, which is what a trainer pays per epoch (three times, from the same state); and
a `refresh` with nothing new, which is what a command pays. The folder is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from harness import machine

from litscope.attempts import begin_attempt
from litscope.ledger.schema import FLOAT_SIGNALS, Rows, Segment
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, append_line

BATCH = 256
PART = 65_536
"""Rows of a part: what the buffer on the device holds."""

NUM_CLASSES = 1000
REPEATS = 3


def main() -> None:
    """Write the run, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_280_000)
    parser.add_argument("--epochs", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1, help="threads of Arrow")
    parser.add_argument("--refresh", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.refresh:
        print(json.dumps(timed_refresh(args.refresh, args.threads)))
        return
    with tempfile.TemporaryDirectory(prefix="litscope-bench-") as folder:
        run = RunDir.create(Path(folder) / "run")
        writer = Training(run, args.samples)
        for _ in range(args.epochs - 1):
            writer.epoch()
        scratch = measure(run, args.threads)
        writer.epoch()
        before = Path(folder) / "scores"
        shutil.copytree(run.scores, before)
        new_epoch = []
        for _ in range(REPEATS):
            shutil.rmtree(run.scores)
            shutil.copytree(before, run.scores)
            new_epoch.append(measure(run, args.threads))
        figures = {
            "from scratch": scratch,
            "new epoch": {name: statistics.median(m[name] for m in new_epoch) for name in scratch},
            "nothing new": measure(run, args.threads),
        }
        state_bytes, table_bytes = run.score_state.stat().st_size, run.score_table.stat().st_size
    print(f"\n{args.samples} samples, {args.epochs} epochs, {args.threads} thread(s) of Arrow")
    print(f"{'refresh':<16}{'seconds':>10}{'CPU s':>10}{'peak MiB':>10}")
    for name, figure in figures.items():
        print(f"{name:<16}{figure['wall_s']:>10.2f}{figure['cpu_s']:>10.2f}{figure['peak_mib']:>10.0f}")
    sizes = {"state_bytes": state_bytes, "table_bytes": table_bytes}
    line = {"bench": "scores", **vars(args), "refresh": figures, **sizes, "machine": machine()}
    print(json.dumps(line), flush=True)


class Training:
    """A synthetic run that grows epoch by epoch. Each sample is learned at a pace of its own; 2 % never are."""

    def __init__(self, run: RunDir, num_samples: int) -> None:
        self.run = run
        self.num_samples = num_samples
        self.num_val = max(1, num_samples // 25)
        self.attempt = begin_attempt(run, 0, None)
        self.epochs_done = self.steps_done = 0
        self.rng = np.random.default_rng(0)
        self.ease = self.rng.normal(0, 2, num_samples + self.num_val).astype(np.float32)
        self.label = self.rng.integers(0, NUM_CLASSES, num_samples + self.num_val, dtype=np.int32)

    def epoch(self) -> None:
        """Write one epoch, and the line that says that it is complete."""
        order = self.rng.permutation(self.num_samples)
        with LedgerWriter(self.run, self.attempt) as writer:
            for start in range(0, len(order), PART):
                writer.put(self._rows(order[start : start + PART], "train", "train"))
                writer.flush()
            writer.put(self._rows(np.arange(self.num_samples, self.num_samples + self.num_val), "val", "eval"))
        line = {"epoch": self.epochs_done, "step": self.steps_done, "attempt": self.attempt}
        append_line(self.run.epoch_metrics, line)
        self.epochs_done += 1

    def _rows(self, ids: np.ndarray, split: str, phase: str) -> Rows:
        n, rng = len(ids), self.rng
        margin = self.ease[ids] + np.float32(0.4 * self.epochs_done - 2) + rng.normal(0, 1, n).astype(np.float32)
        p = 1 / (1 + np.exp(-margin))
        wrong = (self.label[ids] + 1 + rng.integers(0, 5, n, dtype=np.int32)) % NUM_CLASSES
        values = {
            "loss": -np.log(p),
            "p_label": p,
            "p_max": np.maximum(p, 1 - p),
            "margin": margin,
            "el2n": np.float32(np.sqrt(2)) * (1 - p),
            "entropy": rng.random(n, np.float32),
        }
        segments = []
        for start in range(0, n, BATCH):
            segments.append(Segment(min(BATCH, n - start), self.steps_done, self.epochs_done, split, phase))
            self.steps_done += phase == "train"
        pred = np.where(margin > 0, self.label[ids], wrong)
        signals = {name: values[name].astype(np.float32) for name in FLOAT_SIGNALS}
        return Rows(ids.astype(np.int64), self.label[ids], pred, signals, tuple(segments))


def measure(run: RunDir, threads: int) -> dict[str, float]:
    """One `refresh` in a process of its own."""
    command = [sys.executable, __file__, "--refresh", str(run.path), "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def timed_refresh(path: Path, threads: int) -> dict[str, float]:
    """Time a `refresh` in this process, which is what `measure` starts; imports are not counted."""
    pa.set_cpu_count(threads)
    pa.set_io_thread_count(threads)
    began, cpu = time.perf_counter(), time.process_time()
    refresh(RunDir(path))
    return {
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
