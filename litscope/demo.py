"""`litscope demo`: a real model on real images, offline, in tens of seconds, and what to type next."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from litscope.console import shell_word
from litscope.curation.worst import WorstSamples, worst_samples
from litscope.rundir import RunDir
from litscope.runs import claimed_folder
from litscope.training.fit import fit

NUM_HARDEST = 10
NUM_EPOCHS = 20


@dataclass(frozen=True)
class Demo:
    """A demo that has run."""

    summary: dict[str, Any]
    hardest: WorstSamples

    def lines(self) -> list[str]:
        """What a newcomer is shown: the results, and what to type next."""
        summary, run = self.summary, self.summary["run_dir"]
        best = summary["metrics"]["best"]
        quoted = shell_word(run)
        commands = [
            (f"litscope worst {quoted} --split test", "the hardest test images"),
            (f"litscope evaluate {quoted} --split val", "all metrics, of any split"),
            (f"litscope fit --resume {quoted} --epochs {2 * NUM_EPOCHS}", "train on from where it stopped"),
            ("litscope fit ./your_folder", "your images: a folder with one folder for each class"),
            ("litscope fit --help", "all that can be set"),
        ]
        width = max(len(command) for command, _ in commands)
        return [
            "",
            f"{best['test/accuracy']:.1%} of {summary['num_samples']['test']} test images are right, "
            f"after {summary['epochs']} epochs in {summary['wall_s']:.0f} s",
            f"curves:        {RunDir(run).figures / 'curves.png'}",
            f"worst samples: {self.hardest.sheet}",
            "",
            f"the {len(self.hardest.rows)} samples that the model finds hardest",
            *self.hardest.lines(),
            "",
            "what to type next",
            *(f"  {command:<{width}}  {meaning}" for command, meaning in commands),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {"summary": self.summary, "hardest": self.hardest.to_dict()}


def run_demo(run_dir: str | None = None) -> Demo:
    """Train on scikit-learn's digits and look at the hardest samples.

    Args:
        run_dir: the run's folder; default: runs/demo, or the first free of runs/demo-2, ...

    Raises:
        RunError: if `run_dir` holds a run already.
    """
    with claimed_folder("demo") if run_dir is None else nullcontext(run_dir) as folder:
        result = fit("digits", test_split=0.2, epochs=NUM_EPOCHS, run_dir=str(folder))
    return Demo(result.summary, worst_samples(result.run, NUM_HARDEST))
