"""How long an epoch takes: the runs of one training on one device and on several, as a table and as a picture.

    python examples/cluster/compare_epochs.py runs/mnist-cpu runs/mnist-ddp [--output epochs.png]

It reads `metrics/epochs.jsonl` and `summary.json` of each run, also while it trains. The first epoch is left out where
there are others: it opens files, and compiles and measures what later ones only use.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt


@dataclass
class Timed:
    """What a run's epochs took.

    Attributes:
        name: its folder's.
        num_devices: on all machines; None while the run trains.
        epoch_s: seconds of each epoch, validation included.
        samples_per_s: training samples in a second, of each epoch.
        waits: of each epoch, the share of its training in which the slowest process waited for data; None where that
            is not known, as of a loop of one's own.
    """

    name: str
    num_devices: int | None
    epoch_s: list[float]
    samples_per_s: list[float]
    waits: list[float | None]

    @property
    def typical_s(self) -> float:
        """Seconds of a usual epoch."""
        return statistics.median(self.epoch_s[1:] or self.epoch_s)

    @property
    def typical_rate(self) -> float:
        """Samples per second of a usual epoch."""
        return statistics.median(self.samples_per_s[1:] or self.samples_per_s)

    @property
    def typical_wait(self) -> float | None:
        """The share of a usual epoch's training that was spent waiting for data."""
        known = [share for share in self.waits[1:] or self.waits if share is not None]
        return statistics.median(known) if known else None


def timed(folder: Path) -> Timed:
    """Read a run.

    Raises:
        SystemExit: if it has no epoch yet, or is no run.
    """
    lines = folder / "metrics" / "epochs.jsonl"
    if not lines.exists():
        raise SystemExit(f"{folder} has no metrics/epochs.jsonl: it is no run, or its first epoch is not over.")
    by_epoch: dict[int, dict[str, Any]] = {}  # an epoch that was interrupted and repeated counts as it was at last
    for line in lines.read_text().splitlines():
        row = json.loads(line)
        by_epoch[row["epoch"]] = row
    rows = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    summary = folder / "summary.json"
    devices = json.loads(summary.read_text())["num_devices"] if summary.exists() else None
    waits = [max((share for share in row.get("data_wait") or [] if share is not None), default=None) for row in rows]
    return Timed(folder.name, devices, [row["epoch_s"] for row in rows], [row["samples_per_s"] for row in rows], waits)


def table(runs: Sequence[Timed]) -> str:
    """A line for each run; the first is what the others are compared with."""
    width = max(len("run"), *(len(run.name) for run in runs))
    lines = [f"{'run':{width}}  devices  epochs  epoch_s  samples_per_s  waits  times_as_fast"]
    for run in runs:
        faster = runs[0].typical_s / run.typical_s
        waits = "-" if run.typical_wait is None else f"{run.typical_wait:.0%}"
        lines.append(
            f"{run.name:{width}}  {run.num_devices or '-':>7}  {len(run.epoch_s):>6}  {run.typical_s:>7.2f}"
            f"  {run.typical_rate:>13,.0f}  {waits:>5}  {faster:>13.2f}"
        )
    return "\n".join(lines)


def draw(runs: Sequence[Timed], file: Path) -> None:
    """The seconds of each epoch, and beside them the samples per second of a usual one."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for run in runs:
        left.plot(range(1, len(run.epoch_s) + 1), run.epoch_s, marker="o", label=run.name)
    left.set(xlabel="epoch", ylabel="seconds", ylim=(0, None), title="time per epoch")
    left.legend()
    right.bar([run.name for run in runs], [run.typical_rate for run in runs])
    right.set(ylabel="training samples per second", title="throughput")
    right.tick_params(axis="x", rotation=20)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="its folder; the first is compared with")
    parser.add_argument("--output", type=Path, default=Path("epochs.png"))
    options = parser.parse_args()
    runs = [timed(folder) for folder in options.runs]
    print(table(runs))
    draw(runs, options.output)
    print(f"figure: {options.output}")


if __name__ == "__main__":
    main()
