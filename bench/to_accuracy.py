"""Seconds of a whole command until it ends with a stated test accuracy, beside a plain Lightning script.

`recipes/cifar10_speed.py` and `recipes/mnist_speed.py` call `main`. Wall time runs from the start of
the process to its end: imports, unpacked files to pixels, training, test. Each seed gets a cache of
its own, so its building counts. The two arms take turns. A seed that ends below the target is
counted as missed: its time is listed, and the arm has no time to that accuracy.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def main(task: str, recipe: Path, target: float) -> None:
    """Run both arms for each seed, print a line for each and a JSON line at the end.

    Args:
        task: cifar10 or mnist.
        recipe: the YAML file that ours runs.
        target: test accuracy in [0, 1], unless --target gives another.
    """
    options = arguments(target)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = unpack(task, options.data.resolve(), work)
        for seed in range(options.seeds):
            commands = {"litscope": ours(task, recipe, source, work / f"seed-{seed}", seed, options)}
            if not options.alone:
                commands["plain Lightning"] = rival(task, source, seed, options)
            for name, command in commands.items():
                rows.append({"arm": name, "seed": seed, **timed(command)})
                print(f"{name}, seed {seed}: {rows[-1]['accuracy']:.2%} after {rows[-1]['wall_s']:.1f} s", flush=True)
    arms = [arm_figures(name, rows, options.target) for name in dict.fromkeys(row["arm"] for row in rows)]
    for arm in arms:
        print(
            f"{arm['arm']}: {arm['wall_s']:.1f} s (+-{arm['spread_s']:.1f}), accuracy {arm['accuracy']:.2%}; "
            f"{arm['reached']} of {options.seeds} seeds reached {options.target:.1%}"
        )
    print(json.dumps({"bench": f"{task} to {options.target:.3f}", "arms": arms, "rows": rows}))


def arguments(target: float) -> argparse.Namespace:
    """The flags of both scripts; the last three make a small trial of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the real data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--target", type=float, default=target, help="test accuracy, in [0, 1]")
    parser.add_argument("--rival-precision", default="32-true", help="precision of the Lightning script")
    parser.add_argument("--alone", action="store_true", help="without the Lightning script")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--limit-batches", type=int, help="batches of an epoch, and of the test")
    return parser.parse_args()


def unpack(task: str, data: Path, work: Path) -> Path:
    """The data as a person has them: a folder of JPEG files, or four idx files. Not timed."""
    if task == "cifar10":
        with tarfile.open(data / "cifar10_jpeg.tar.gz") as archive:
            archive.extractall(work, filter="data")
        return work / "cifar10"
    raw = work / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in sorted((data / "mnist").glob("*.gz")):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return work


def ours(task: str, recipe: Path, source: Path, folder: Path, seed: int, options: argparse.Namespace) -> list[str]:
    """The command `litscope fit` of a seed."""
    data = ["--dataset", "mnist", "--data-dir", str(source)] if task == "mnist" else ["--dataset", str(source)]
    command = [sys.executable, "-m", "litscope", "fit", "--config", str(recipe), *data, "--seed", str(seed)]
    command += ["--run-dir", str(folder / "run"), "--cache-dir", str(folder / "cache"), "--no-progress", "--json"]
    if options.epochs:
        command += ["--epochs", str(options.epochs)]
    if options.limit_batches:
        count = str(options.limit_batches)
        command += ["--limit-train-batches", count, "--limit-test-batches", count]
    return command


def rival(task: str, source: Path, seed: int, options: argparse.Namespace) -> list[str]:
    """The plain Lightning script on the same recipe."""
    command = [sys.executable, str(ROOT / "bench" / "rivals" / "lightning_to_accuracy.py"), task, str(source)]
    command += ["--seed", str(seed), "--precision", options.rival_precision]
    for name in ("epochs", "limit_batches"):
        if getattr(options, name):
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    return command


def timed(command: list[str]) -> dict[str, float]:
    """Wall seconds of a process, and the test accuracy in the JSON that it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    wall_s = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    found = json.loads(done.stdout[done.stdout.index("{") :])
    return {"wall_s": round(wall_s, 2), "accuracy": float(found.get("metrics", {}).get("best", found)["test/accuracy"])}


def arm_figures(name: str, rows: list[dict[str, Any]], target: float) -> dict[str, Any]:
    """Mean and sample deviation over the seeds."""
    mine = [row for row in rows if row["arm"] == name]
    walls = [row["wall_s"] for row in mine]
    return {
        "arm": name,
        "wall_s": round(statistics.mean(walls), 2),
        "spread_s": round(statistics.stdev(walls), 2) if len(walls) > 1 else 0.0,
        "accuracy": round(statistics.mean(row["accuracy"] for row in mine), 4),
        "reached": sum(row["accuracy"] >= target for row in mine),
    }
