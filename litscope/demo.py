"""`litscope demo`: a real model on real images, offline, in tens of seconds, and what to type next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litscope.rundir import RunDir
from litscope.training.fit import fit
from litscope.training.resume import RUNS
from litscope.training.worst import WorstSamples, worst_samples

NUM_HARDEST = 10


@dataclass(frozen=True)
class Demo:
    """A demo that has run."""

    summary: dict[str, Any]
    hardest: WorstSamples

    def lines(self) -> list[str]:
        """What a newcomer reads."""
        summary, run = self.summary, self.summary["run_dir"]
        best = summary["metrics"]["best"]
        metric = "test/accuracy" if "test/accuracy" in best else "val/accuracy"
        quoted = shlex.quote(run)
        return [
            "",
            f"{metric}: {best[metric]:.1%} after {summary['epochs']} epochs in {summary['wall_s']:.0f} s "
            f"({summary['samples_per_s']:,.0f} samples/s)",
            f"curves:        {RunDir(run).figures / 'curves.png'}",
            f"worst samples: {self.hardest.sheet}",
            "",
            f"the {len(self.hardest.rows)} samples that the model finds hardest",
            *self.hardest.lines(),
            "",
            "next",
            f"  litscope worst {quoted} --split val --by margin     the hardest samples, another way",
            f"  litscope evaluate {quoted} --split val              all metrics",
            f"  litscope fit --resume {quoted} --epochs {summary['epochs'] + 5}        train on",
            "  litscope fit ./your_folder                        your images: one folder for each class",
            "  litscope fit --help                               everything else",
        ]

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"summary": self.summary, "hardest": self.hardest.to_dict()}


def run_demo(run_dir: str | None = None) -> Demo:
    """Train on scikit-learn's digits and look at the hardest samples.

    Args:
        run_dir: the run's folder; default: runs/demo, or the first free of runs/demo-2, ...

    Raises:
        RunError: if `run_dir` holds a run already.
    """
    result = fit("digits", run_dir=run_dir or str(_free_folder()))
    return Demo(result.summary, worst_samples(result.run, NUM_HARDEST))


def _free_folder() -> Path:
    folder, number = RUNS / "demo", 1
    while folder.exists():
        number += 1
        folder = RUNS / f"demo-{number}"
    return folder
