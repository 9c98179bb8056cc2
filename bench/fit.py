"""Samples per second of `litscope fit`, every sample on record, beside three rivals that record nothing.

    python bench/fit.py --data ../shared/data [--rounds 5] [--only cifar10]

Three tasks: CIFAR-10 (JPEG files) with resnet18 at 32 pixels, MNIST with the small convnet, and a
table (60,000 rows, 32 features, 10 classes, from scikit-learn's make_classification) with the MLP.
Rivals, each written the way its documentation shows, with the same network, batch size and kind of
augmentation (docs/performance.md says where the arms differ):
(a) a plain Lightning script, (b) a hand-written PyTorch loop, both with torchvision's
transforms and DataLoader; (c) the ceiling: forward, backward and step on one batch in memory.
Speed is that of an epoch's training, warm: the first epoch, the cache and imports are left out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Arm, compare
from sklearn.datasets import make_classification

RIVALS = Path(__file__).parent / "rivals"
EPOCHS = 3


@dataclass(frozen=True)
class Task:
    """What is trained, and how many training batches make an epoch of the bench."""

    name: str
    arch: str
    batch_size: int
    batches: int


TASKS = {
    task.name: task
    for task in (
        Task("cifar10", "resnet18", batch_size=64, batches=6),
        Task("mnist", "convnet", batch_size=64, batches=400),
        Task("table", "mlp", batch_size=64, batches=800),
    )
}


def main() -> None:
    """Prepare the data once, then compare on each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="OMP_NUM_THREADS of every arm")
    parser.add_argument("--only", choices=list(TASKS), help="one task instead of three")
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for task in [options.only] if options.only else TASKS:
            source = prepare(task, options.data.resolve(), work)
            line = compare(task, arms(TASKS[task], source, work), options.rounds, options.threads)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")


def prepare(task: str, data: Path, work: Path) -> Path:
    """Unpack or make the data of a task under `work`, in the form that every arm reads."""
    if task == "cifar10":
        with tarfile.open(data / "cifar10_jpeg.tar.gz") as archive:
            archive.extractall(work, filter="data")
        return work / "cifar10"
    if task == "mnist":
        raw = work / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for packed in sorted((data / "mnist").glob("*.gz")):
            (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        return work
    x, y = make_classification(60_000, 32, n_informative=16, n_classes=10, random_state=0)
    np.savez(work / "table.npz", X=x.astype(np.float32), y=y.astype(np.int64))
    return work / "table.npz"


def arms(task: Task, source: Path, work: Path) -> list[Arm]:
    """Our command first, then the rivals."""
    dataset = ["mnist", "--data-dir", str(source)] if task.name == "mnist" else [str(source)]
    ours = [sys.executable, str(RIVALS / "litscope_fit.py"), *dataset, "--arch", task.arch]
    ours += ["--batch-size", str(task.batch_size), "--limit-train-batches", str(task.batches)]
    ours += [
        "--epochs",
        str(EPOCHS),
        "--limit-val-batches",
        "1",
        "--limit-test-batches",
        "1",
        "--cache-dir",
        str(work / "cache"),
    ]
    plain = [task.name, str(source), "--batches", str(task.batches), "--batch-size", str(task.batch_size)]
    rivals = {
        "plain Lightning, DataLoader": "plain_lightning.py",
        "hand-written loop, DataLoader": "plain_torch.py",
        "ceiling: one resident batch": "ceiling.py",
    }
    commands = {
        name: [sys.executable, str(RIVALS / file), *plain, "--epochs", str(EPOCHS)] for name, file in rivals.items()
    }
    return [Arm("litscope fit, ledger on", ours), *(Arm(name, command) for name, command in commands.items())]


if __name__ == "__main__":
    main()
