"""The cost of watching: `litscope fit` with the ledger on and off, in turns; and memory over many epochs.

    python bench/watching.py [--rounds 5] [--only convnet] [--quick] [--out lines.jsonl]

Two networks on synthetic images, all in memory: resnet18 on 32 x 32 pixels in colour, and the small convnet
on 28 x 28 in gray (MNIST's shape). Both arms are the same command, one with --no-ledger; every epoch ends with
the same validation. The speed is that of warm epochs, training alone. `ledger off` runs first and twice, so the
table's ratio is how many times faster it is than `ledger on`, and the last row says how far to trust that.

Memory: one long run in one process, whose resident memory is read after each epoch. Flat means that over
its second half it grows by less than a byte per sample and epoch, or a megabyte in all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import Arm, compare, machine

FIT = Path(__file__).parent / "rivals" / "litscope_fit.py"


@dataclass(frozen=True)
class Task:
    """What is trained: images (num_samples, *shape), for how many batches an epoch."""

    arch: str
    shape: tuple[int, ...]
    batch_size: int
    batches: int


TASKS = {
    "resnet18": Task("resnet18", (32, 32, 3), batch_size=64, batches=6),
    "convnet": Task("convnet", (28, 28), batch_size=64, batches=400),
}


def main() -> None:
    """Compare on each task, then watch the memory of a long run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="OMP_NUM_THREADS of every arm")
    parser.add_argument("--only", choices=[*TASKS, "memory"], help="one part instead of all")
    parser.add_argument("--quick", action="store_true", help="few batches and epochs: a look, not a figure")
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file")
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name, task in TASKS.items():
            if options.only in (None, name):
                batches = max(2, task.batches // 10) if options.quick else task.batches
                lines.append(
                    compare(f"watching, {name}", arms(task, batches, Path(folder)), options.rounds, options.threads)
                )
        if options.only in (None, "memory"):
            lines.append(memory(20 if options.quick else 100, Path(folder), options.threads))
    if options.out:
        with options.out.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def arms(task: Task, batches: int, work: Path) -> list[Arm]:
    """Ledger off and on, on the same images."""
    data = work / f"{task.arch}.npz"
    make_images(task.batch_size * batches, task.shape, data)
    command = [sys.executable, str(FIT), str(data), "--arch", task.arch, "--batch-size", str(task.batch_size)]
    command += ["--epochs", "4", "--logger", "none", "--no-progress", "--no-pretrained"]
    return [Arm("ledger off", [*command, "--no-ledger"]), Arm("ledger on", command)]


def make_images(num_samples: int, shape: tuple[int, ...], path: Path) -> None:
    """Noise whose mean is the class, as an .npz file."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, num_samples)
    x = rng.integers(0, 100, (num_samples, *shape), np.uint8) + (15 * y).astype(np.uint8).reshape(-1, *[1] * len(shape))
    np.savez(path, X=x, y=y)


LONG_RUN = """
import json, sys
import litscope
import lightning.pytorch as L
from litscope.training.fit import fit

class Memory(L.Callback):
    def __init__(self):
        self.kb = []
    def on_train_epoch_start(self, trainer, module):
        with open("/proc/self/status") as file:
            self.kb += [int(line.split()[1]) for line in file if line.startswith("VmRSS")]

memory = Memory()
fit(sys.argv[1], epochs=int(sys.argv[2]), arch="convnet", run_dir=sys.argv[3], logger=["none"], progress=False,
    accelerator="cpu", callbacks=[memory])
print(json.dumps(memory.kb))
"""


def memory(epochs: int, work: Path, threads: int) -> dict[str, Any]:
    """Resident memory at the start of each epoch of a long run, ledger on."""
    num_samples, data = 5_000, work / "memory.npz"
    make_images(num_samples, (28, 28), data)
    command = [sys.executable, "-c", LONG_RUN, str(data), str(epochs), str(work / "long")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"the long run failed with exit code {done.returncode}:\n{done.stderr}")
    sizes = [1024 * kb for kb in json.loads(done.stdout.strip().splitlines()[-1])]
    late = sizes[len(sizes) // 2 :]
    per_epoch = float(np.polyfit(np.arange(len(late)), late, 1)[0])
    line = {
        "bench": "watching, memory",
        "epochs": epochs,
        "num_samples": num_samples,
        "first_bytes": sizes[1],
        "middle_bytes": late[0],
        "last_bytes": late[-1],
        "growth_bytes_per_epoch": round(per_epoch),
        "is_flat": per_epoch < num_samples or per_epoch * len(late) < 1e6,
        "machine": machine(),
    }
    words = "flat" if line["is_flat"] else "NOT flat"
    print(
        f"\nmemory over {epochs} epochs of {num_samples:,} samples: {words}; {sizes[1] / 1e6:.0f} MB in the second, "
        f"{late[0] / 1e6:.0f} in the middle, {late[-1] / 1e6:.0f} at the end, {per_epoch / 1e3:+.0f} kB an epoch"
    )
    print(json.dumps(line), flush=True)
    return line


if __name__ == "__main__":
    main()
