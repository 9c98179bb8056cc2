"""Gravitational lenses among survey images, the whole story: one command after the other, with what each prints.

    python recipes/spacewarps.py [--data ../shared/data/spacewarps/samples.csv] [--out runs/lenses]

429 images of the Space Warps survey (Marshall et al. 2016, More et al. 2016) with the mean grade of experts, 0 to 3: 91
lenses (2 and above), 251 that are none (below 1), and 87 between, which nobody calls either and which are never trained
on. Images of one part of the sky stay together. docs/lenses.md tells what comes of it.

Measured with `OMP_NUM_THREADS=1`: some 260 s of CPU on a Xeon core.
"""

from __future__ import annotations

import argparse
import csv
import resource
import shlex
import statistics
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "spacewarps" / "samples.csv"
SUSPECTS, AMBIGUOUS = "suspects.csv", "ambiguous.csv"


def steps(epochs: int, folds: int, members: int) -> list[str]:
    """The commands, in their order; DATA stands for the list of images."""
    net = f"--group-column group --arch convnet --image-size 64 --augment strong --batch-size 32 --epochs {epochs}"
    learned = "--threshold fpr:0.05 --coverage 0.9 --by-class"
    return [
        "check DATA --group-column group",
        f"cv DATA --folds {folds} --nested {net}",
        f"suspects cv-1 --csv {SUSPECTS}",
        f"fit DATA {net} --name one",
        "evaluate runs/one",
        f"fit DATA {net} --model-type ensemble --num-members {members} --name five",
        f"calibrate runs/five {learned}",
        "evaluate runs/five",
        f"calibrate runs/five --folds cv-1 --method none {learned}",
        "evaluate runs/five",
        f"fit DATA {net} --soft-label-column grade --name grades",
        "evaluate runs/grades",
        f"predict runs/five --split unlabelled --output {AMBIGUOUS}",
    ]


def main() -> None:
    """Run the commands in a folder, and print what they say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the list of images, samples.csv")
    parser.add_argument("--out", type=Path, default=Path("runs/lenses"), help="folder of the runs, which must be new")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--members", type=int, default=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    data = found(options.data.absolute(), options.out.absolute())
    for step in steps(options.epochs, options.folds, options.members):
        words = [str(data) if word == "DATA" else word for word in shlex.split(step)]
        print(f"\n$ litscope {step}", flush=True)
        before = cpu_s()
        done = subprocess.run([sys.executable, "-m", "litscope", *words], cwd=options.out, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        print(f"({cpu_s() - before:.0f} s of CPU)", flush=True)
    suspects = [row | {"p_1": p_of_lens(row)} for row in rows_of(options.out / SUSPECTS)]
    print("\nby networks that have not seen them", *by_grade(data, suspects, "is_doubted"), sep="\n")
    print("\nambiguous", *by_grade(data, rows_of(options.out / AMBIGUOUS), "prediction", "set"), sep="\n")
    print(f"\n{cpu_s():.0f} s of CPU in all", flush=True)


def found(data: Path, out: Path) -> Path:
    """The list of images; unpacked, where it lies in the archive of that name."""
    archive = data.parent.with_name(f"{data.parent.name}.tar.gz")
    if data.exists() or not archive.exists():
        return data
    with tarfile.open(archive) as packed:
        packed.extractall(out, filter="data")
    return out / data.parent.name / data.name


def by_grade(data: Path, said: list[dict[str, str]], *columns: str) -> list[str]:
    """What is said of the images of each grade, as lines of a table: the mean probability of a lens with its standard
    error, and how often each value of further columns occurs.

    Args:
        said: a row for each image, with its key and the probability p_1.
    """
    grade = {row["filepath"]: row["grade"] for row in rows_of(data)}
    rows = defaultdict(list)
    for row in said:
        rows[grade[row["key"]]].append(row)
    titles = ["grade", "images", "mean p(lens)", *columns]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for name, group in sorted(rows.items()):
        p = [float(row["p_1"]) for row in group]
        cells = [name, str(len(group)), f"{statistics.fmean(p):.3f} ± {statistics.stdev(p) / len(p) ** 0.5:.3f}"]
        for column in columns:
            counts = sorted(Counter(row[column] for row in group).items())
            cells.append(", ".join(f"{value}: {count}" for value, count in counts))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def p_of_lens(row: dict[str, str]) -> str:
    """The probability of a lens, of that of the label."""
    return row["p_label"] if row["label_name"] == "1" else str(1 - float(row["p_label"]))


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def cpu_s() -> float:
    """CPU seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
