"""Seconds of a whole command until it ends with a stated test accuracy, beside a plain Lightning script.

Wall time runs from the start of the process to its end: imports, decoding, training, test. Each seed has a cache of
its own, so building it counts. The two arms take turns, seed by seed. An arm is marked as not comparable if one of its
seeds ends below the accuracy. `recipes/mnist_speed.py` and `recipes/cifar10_speed.py` call `main`.

CIFAR-10 takes hours: each arm has one thread and one processor, only CPU time is compared (the wall time of a run that
had to wait for another says nothing), and an interrupted bench goes on with `--rows FILE`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tasks
from harness import LEAST_ROUNDS, Bench, Context, one_cpu
from lines import Line, figure_line
from processes import ArmFailed, environment

ROOT = Path(__file__).resolve().parents[1]
NAME, CIFAR10 = "time_to_accuracy", "time_to_accuracy_cifar10"
NUM_SEEDS = 3

Row = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """What is to be reached, and in how many epochs the recipe reaches it.

    Attributes:
        task: mnist or cifar10; `recipes/<task>_speed.yaml` is the recipe.
        accuracy: of the test set, in [0, 1].
    """

    task: str
    accuracy: float
    epochs: int


MNIST = (Goal("mnist", 0.99, 3), Goal("mnist", 0.994, 16))
CIFAR = Goal("cifar10", 0.9, 10)

CPU_FIGURES = ("cpu_s", "runs_per_cpu_hour")


def arm(side: str, accuracy: float) -> str:
    """The name of an arm in the results."""
    return f"{side}, to {accuracy:.1%}".replace("%", " %")


def mnist_lines(context: Context) -> list[Line]:
    """The lines of both goals on MNIST."""
    return [line for goal in MNIST for line in _lines(goal, context)]


def cifar_lines(context: Context) -> list[Line]:
    """CIFAR-10 from JPEG files, which takes hours on a CPU."""
    with one_cpu():
        return [line for line in _lines(CIFAR, replace(context, threads=1)) if line["figure"] in CPU_FIGURES]


def _lines(goal: Goal, context: Context) -> list[Line]:
    is_tiny = context.size == "tiny"
    epochs, limit, seeds = (1, 4, 1) if is_tiny else (goal.epochs, None, NUM_SEEDS)
    rows = compare(goal, context, epochs, range(seeds), limit)
    found = []
    for side in (tasks.OURS, tasks.LIGHTNING):
        mine = [row for row in rows if row["side"] == side]
        reached = [row["accuracy"] >= goal.accuracy for row in mine]
        facts = {
            "accuracy": statistics.mean(row["accuracy"] for row in mine),
            "rounds": seeds,
            "threads": context.threads,
            "unlike": [] if all(reached) else [f"{sum(reached)} of {seeds} seeds reached {goal.accuracy:.1%}"],
        }
        name = arm(side, goal.accuracy)
        found.append(figure_line(name, "wall_s", "s", [row["wall_s"] for row in mine], **facts))
        found.append(figure_line(name, "runs_per_hour", "runs/h", [3600 / row["wall_s"] for row in mine], **facts))
        found.append(figure_line(name, "cpu_s", "s of CPU", [row["cpu_s"] for row in mine], **facts))
        per_hour = [3600 / row["cpu_s"] for row in mine]
        found.append(figure_line(name, "runs_per_cpu_hour", "runs/h of CPU", per_hour, **facts))
    return found


def compare(
    goal: Goal, context: Context, epochs: int, seeds: Sequence[int], limit: int | None, is_alone: bool = False
) -> list[Row]:
    """Run both sides for each seed: `side`, `seed`, `epochs`, `limit`, `accuracy`, `wall_s`, `cpu_s` of each.

    Args:
        limit: batches of an epoch, and of the test.
        is_alone: leave the Lightning script out.

    Raises:
        ArmFailed: if a command fails, with the end of its output.
    """
    source = tasks.mnist(context) if goal.task == "mnist" else tasks.cifar10(context)
    kept = context.rows_file
    if kept:
        kept.touch()  # so that it fails now if the file cannot be written, and not after an hour
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept else []
    found = []
    for seed in seeds:
        folder = context.work / f"{goal.task}-{goal.accuracy}-{seed}"
        commands = {tasks.OURS: _ours(goal, source, folder, seed, epochs, limit)}
        if not is_alone:
            commands[tasks.LIGHTNING] = _rival(goal, source, seed, epochs, limit)
        for side, command in commands.items():
            key = {"task": goal.task, "side": side, "seed": seed, "epochs": epochs, "limit": limit}
            row = next((row for row in rows if key.items() <= row.items()), None)
            if row is None:
                row = {**key, **_timed(command, context, side == tasks.OURS)}
                if kept:
                    with kept.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            found.append(row)
            what = f"{arm(side, goal.accuracy)}, seed {seed}"
            took = f"{row['wall_s']:.1f} s, {row['cpu_s']:.1f} s of CPU"
            print(f"{what}: {row['accuracy']:.2%} after {took}", file=sys.stderr, flush=True)
    return found


def _ours(goal: Goal, source: Path, folder: Path, seed: int, epochs: int, limit: int | None) -> list[str]:
    recipe = ROOT / "recipes" / f"{goal.task}_speed.yaml"
    data = ["--dataset", "mnist", "--data-dir", str(source)] if goal.task == "mnist" else ["--dataset", str(source)]
    command = [sys.executable, "-m", "litscope", "fit", "--config", str(recipe), *data, "--seed", str(seed)]
    command += ["--run-dir", str(folder / "run"), "--cache-dir", str(folder / "cache"), "--no-progress", "--json"]
    command += ["--epochs", str(epochs)]
    return command + (["--limit-train-batches", str(limit), "--limit-test-batches", str(limit)] if limit else [])


def _rival(goal: Goal, source: Path, seed: int, epochs: int, limit: int | None) -> list[str]:
    command = [sys.executable, str(tasks.RIVALS / "lightning_to_accuracy.py"), goal.task, str(source)]
    command += ["--seed", str(seed), "--epochs", str(epochs)]
    return command + (["--limit-batches", str(limit)] if limit else [])


def _timed(command: list[str], context: Context, is_ours: bool) -> dict[str, float]:
    """Wall and CPU seconds of a process, and the test accuracy in the JSON that it prints."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    variables = environment(context.threads, context.work, is_ours)
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise ArmFailed(f"exit code {done.returncode}: {done.stderr[-500:]}")
    found = json.loads(done.stdout[done.stdout.index("{") :])
    found = found.get("result", found)  # ours is in an envelope
    accuracy = float(found.get("metrics", {}).get("best", found)["test/accuracy"])
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2), "accuracy": accuracy}


def main(goal: Goal) -> None:
    """The command line of a recipe's script: a line for each run and arm, and a JSON line at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the real data")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each arm")
    parser.add_argument("--rows", type=Path, help="keep the result of each run in this file, and do not run it again")
    parser.add_argument("--alone", action="store_true", help="without the Lightning script")
    parser.add_argument("--epochs", type=int, default=goal.epochs)
    parser.add_argument("--limit-batches", type=int, help="batches of an epoch, and of the test: a small trial")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            options.data.resolve(), Path(folder), threads=options.threads, rounds=LEAST_ROUNDS, rows_file=options.rows
        )
        try:
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            rows = compare(goal, context, options.epochs, seeds, options.limit_batches, options.alone)
        except (ArmFailed, tasks.NoData, OSError) as error:
            sys.exit(str(error))
    for side in dict.fromkeys(row["side"] for row in rows):
        mine = [row for row in rows if row["side"] == side]
        walls = [row["wall_s"] for row in mine]
        spread = statistics.stdev(walls) if len(walls) > 1 else 0.0
        reached = sum(row["accuracy"] >= goal.accuracy for row in mine)
        print(
            f"{side}: {statistics.mean(walls):.1f} s (+-{spread:.1f}), accuracy "
            f"{statistics.mean(row['accuracy'] for row in mine):.2%}; "
            f"{reached} of {options.seeds} seeds reached {goal.accuracy:.1%}"
        )
    print(json.dumps({"bench": f"{goal.task} to {goal.accuracy:.3f}", "rows": rows}))


BENCH = Bench(NAME, "MNIST to 99.0 % and 99.4 %, whole command", measure=mnist_lines)
CIFAR_BENCH = Bench(CIFAR10, "CIFAR-10 from JPEG files to 90 %, whole command", measure=cifar_lines, is_long=True)
