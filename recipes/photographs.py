"""What of a pretrained network to train: accuracy and CPU time from scratch, of the head, head first then all, and all.

    python recipes/photographs.py [--seeds 5] [--data ../shared/data] [--rows FILE] [--cells signs-20 spacewarps ...]

Signs are photographs of hands, drawn by student, 20 and 100 of each of ten classes to train on; CIFAR-10 has 40 and
400 of each class; Space Warps has 91 gravitational lenses among 342 labelled survey images, in sky groups. Everything
but `--finetune` is what litscope chooses. An interrupted script goes on with the same FILE.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

from environments import NotInstalled  # noqa: E402
from harness import Context  # noqa: E402
from processes import ArmFailed  # noqa: E402
from tasks import NoData  # noqa: E402
from transfer import ARCH, CELLS, LENSES, NUM_SEEDS, Arm, Cell, Row, compare, mean_and_error  # noqa: E402

_TUNED = ("--arch", ARCH, "--pretrained", "--finetune")
KINDS = (
    Arm("scratch", flags=("--no-pretrained",)),
    Arm("head", flags=(*_TUNED, "head")),
    Arm("lp-ft", flags=(*_TUNED, "lp-ft", "--epochs", "8")),
    Arm("full", flags=(*_TUNED, "full", "--epochs", "8")),
)
"""Eight epochs of all of the network, whatever a CPU would do by default: what each gives, not what is affordable."""


FEW = Cell("cifar10-40", "cifar10", 40)
"""Few small pictures of things: what pretrained weights are made for. 400 of a class take hours of one core."""


def table(rows: list[Row]) -> str:
    """Markdown: of each cell and kind the mean, with its standard error, and the CPU time."""
    lines = ["| data | trained | test accuracy | AUROC | s of CPU |", "|---|---|---|---|---|"]
    for cell in dict.fromkeys(row["cell"] for row in rows):
        for kind in dict.fromkeys(row["arm"] for row in rows):
            mine = [row for row in rows if row["cell"] == cell and row["arm"] == kind]
            auroc = mean_and_error([row["auroc"] for row in mine if "auroc" in row])
            took = statistics.median(row["cpu_s"] for row in mine)
            accuracy = mean_and_error([row["accuracy"] for row in mine])
            lines.append(f"| {cell} | {kind} | {accuracy} | {auroc} | {took:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """The command line: train what is not in the rows' file yet, and print the table."""
    cells = (*CELLS, FEW, LENSES)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the real data")
    parser.add_argument("--cells", nargs="+", choices=[cell.name for cell in cells], help="default: all")
    parser.add_argument("--kinds", nargs="+", choices=[kind.name for kind in KINDS], help="default: all")
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    parser.add_argument("--rows", type=Path, help="keep the result of each run in this file, and do not run it again")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.kinds is None or kind.name in options.kinds]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        context = Context(options.data.resolve(), Path(work), rows_file=options.rows)
        try:
            for cell in cells:
                if options.cells is None or cell.name in options.cells:
                    rows += compare(cell, context, range(options.seeds), kinds)
        except (ArmFailed, NotInstalled, NoData, OSError) as error:
            sys.exit(str(error))
    print(table(rows))


if __name__ == "__main__":
    main()
