"""The one entry to all benches: `make bench`, `make bench-full`.

    python bench/run.py                  the quick ones, a few minutes
    python bench/run.py --full           all of them, within an hour
    python bench/run.py small_mlp help   these two
    python bench/run.py --list           what there is; some take hours, and run only when they are named

Each bench compares arms that take turns (`harness.py`). Its JSON lines go to `results/<machine>.jsonl`, from which
`scripts/performance.py` makes docs/performance.md. For a new bench, write a module with a `Bench`, and name it in
`BENCHES`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from environments import FOLDER
from harness import LEAST_ROUNDS, Bench, Context, measure
from lines import Line, keep, results_file
from processes import ArmFailed
from tasks import NoData

BENCHES = {
    "help": "startup:HELP_BENCH",
    "first_step": "startup:FIRST_STEP",
    "small_mlp": "small_mlp:BENCH",
    "members": "members:BENCH",
    "ensemble": "ensemble:BENCH",
    "mnist_convnet": "mnist_convnet:BENCH",
    "watching_mnist": "recording:MNIST",
    "watching_cifar10": "recording:CIFAR10",
    "many_epochs": "many_epochs:BENCH",
    "cifar_resnet18": "cifar_resnet18:BENCH",
    "cifar_resnet18_bf16": "cifar_resnet18:BF16",
    "watch_mnist": "watch:MNIST",
    "watch_resnet18": "watch:RESNET18",
    "watch_weightslab": "watch:RIVAL",
    "decode": "decode:BENCH",
    "time_to_accuracy": "to_accuracy:BENCH",
    "prune": "prune:BENCH",
    "growth": "growth:BENCH",
    "time_to_accuracy_cifar10": "to_accuracy:CIFAR_BENCH",
    "transfer": "transfer:BENCH",
    "scale": "scale:BENCH",
    "scaling": "scale:SCALING",
    "studio": "studio:BENCH",
    "studio_tabs": "studio:TABS",
    "shards_32": "shards:LOCAL_32",
    "shards_224": "shards:LOCAL_224",
    "shards_s3_32": "shards:S3_32",
    "shards_s3_224": "shards:S3_224",
}
"""Name -> module and the name of the `Bench` in it. `gpu.py` has an entry of its own."""


def load(name: str) -> Bench:
    """The bench of this name.

    Raises:
        SystemExit: for an unknown name.
    """
    if name not in BENCHES:
        sys.exit(f"there is no bench {name!r}; there are {', '.join(BENCHES)}")
    module, _, attribute = BENCHES[name].partition(":")
    bench: Bench = getattr(import_module(module), attribute)
    return bench


def main() -> int:
    """Run the benches that are asked for; 1 if one failed or was thrown away twice."""
    options = arguments()
    if options.list:
        for name in BENCHES:
            bench = load(name)
            print(f"{name:<22}{'quick' if bench.is_quick else 'named' if bench.is_long else 'full':<8}{bench.title}")
        return 0
    names = options.names or [name for name in BENCHES if load(name).is_part_of(options.full)]
    benches = [load(name) for name in names]
    path = options.out or results_file()
    failed = []
    with tempfile.TemporaryDirectory(prefix="litscope-bench-") as work:
        for bench in benches:
            context = Context(
                options.data.resolve(),
                Path(work),
                options.full,
                options.rounds,
                options.threads,
                options.environments,
                options.size,
                may_repeat=options.size == "normal",
                rows_file=options.rows,
            )
            if not run(bench, context, path):
                failed.append(bench.name)
    if failed:
        print(f"failed or thrown away: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(bench: Bench, context: Context, path: Path) -> bool:
    """Run one bench, print its table, keep its lines; False if nothing good came of it."""
    try:
        lines = measure(bench, context)
    except (ArmFailed, NoData) as error:
        print(f"{bench.name}: failed: {error}", file=sys.stderr)
        return False
    print(table(bench.title, lines))
    if not keep(path, lines):
        print(f"{bench.name}: thrown away; {path.name} keeps the lines of an earlier run", file=sys.stderr)
    return not lines[0]["thrown_away"]


def table(title: str, lines: list[Line]) -> str:
    """The lines as a table for the terminal."""
    rows = [f"\n{title}", f"{'arm':<34}{'figure':<20}{'median':>12} {'unit':<16}{'ratio':>8}{'least-most':>16}"]
    for line in lines:
        if "not_measured" in line:
            rows.append(f"{line['arm']:<34}not measured: {line['not_measured']}")
            continue
        span = f"{line['ratio_min']:.3f}-{line['ratio_max']:.3f}" if "ratio" in line else ""
        notes = "  thrown away" if line["thrown_away"] else ""
        notes += "".join(f"  {problem}" for problem in line.get("unlike", ()))
        ratio = f"{line['ratio']:.3f}" if "ratio" in line else ""
        value = f"{line['median']:>12,.4g} {line['unit']:<16}"
        rows.append(f"{line['arm']:<34}{line['figure']:<20}{value}{ratio:>8}{span:>16}{notes}")
    return "\n".join([*rows, "ratio: the first arm's figure over this one's, taken round by round"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benches; default: the quick ones, or all with --full")
    parser.add_argument("--full", action="store_true", help="all benches, with longer turns")
    parser.add_argument("--list", action="store_true", help="names and titles")
    parser.add_argument(
        "--rounds", type=int, default=LEAST_ROUNDS, help=f"at least {LEAST_ROUNDS} for a figure to quote"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="the same for every arm")
    parser.add_argument("--data", type=Path, default=shared_data(), help="folder of the real data")
    parser.add_argument("--rows", type=Path, help="where a bench that takes hours keeps its runs, to go on later")
    parser.add_argument("--out", type=Path, help="file of the JSON lines; default: results/<machine>.jsonl")
    parser.add_argument("--environments", type=Path, default=FOLDER, help="where rivals are installed")
    parser.add_argument("--size", choices=["normal", "tiny"], default="normal", help="tiny: see whether it runs at all")
    return parser.parse_args()


def shared_data() -> Path:
    """The folder of real data, beside the checkout or at $LITSCOPE_SHARED."""
    root = Path(__file__).resolve().parents[1]
    return Path(os.environ.get("LITSCOPE_SHARED", root.parent / "shared")) / "data"


if __name__ == "__main__":
    sys.exit(main())
