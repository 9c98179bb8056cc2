"""Predict images or tables that were never seen, or samples of the run's own data.

To predict new files, a checkpoint is enough: it holds the network, its classes, and the encoding (how bytes become what
the network sees). Each sample goes through the same
reading, resizing and evaluation transform as in `evaluate`, so the probabilities are the same;
batch size, workers and machine change at most their last digits.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from litscope.console import number_of, table_lines, warn
from litscope.data.reading.bands import Axis
from litscope.data.sources.new import open_paths
from litscope.data.sources.source import Source
from litscope.errors import ConfigError, DataError, did_you_mean
from litscope.evaluation.evaluation_data import warn_of_unreadable
from litscope.evaluation.network import Network
from litscope.evaluation.opened_run import open_network, open_run
from litscope.evaluation.passes import passes
from litscope.evaluation.tables import output_path, table_of, uncertainty_columns, write_table
from litscope.training.readouts import drawn_by_key, scaling_of

PredictSplit = Literal["unlabelled", "train", "val", "test", "all"]

_NUM_NAMES = 3
"""Classes that a `repr` names."""

_NUM_SHOWN = 20
"""Rows of a table for people: samples, or where there are more of them, classes."""


@dataclass(frozen=True)
class Predictions:
    """What the network says about each readable sample.

    Attributes:
        table: in the order of the input: key string; label string, for the run's own data;
            prediction string; p_max float32, the highest probability; columns of `tables.uncertainty_columns`; then
            p_<class> float32 for each class, or, of the `top_k` most probable classes, class_1 string, p_1 float32,
            class_2, p_2 and so on.
        unreadable: (key, reason) of each sample that was left out.
        output: the file that was written, or None.
        top_k: how many classes of each sample the table has; None: all.
        threshold: of two classes, from which probability on the second one was predicted; None: the more probable one.
    """

    table: pa.Table
    unreadable: list[tuple[str, str]]
    output: str | None = None
    top_k: int | None = None
    threshold: float | None = None

    def __repr__(self) -> str:
        where = "" if self.output is None else f", {self.output!r}"
        return f"Predictions({in_short(self.table['prediction'].to_pylist(), self.unreadable)}{where})"

    def lines(self) -> list[str]:
        """The result in words: how often each class was predicted; with few samples, each of them."""
        count = self.table.num_rows
        lines = [f"{number_of(count, 'sample')} predicted" + (f": {self.output}" if self.output else "")]
        if count <= _NUM_SHOWN and self.top_k is not None:
            lines += table_lines(["key", *map(str, range(1, self.top_k + 1))], self._ranked(self.top_k))
        elif count <= _NUM_SHOWN:
            lines += table_lines(*self._each())
        else:
            counted = self.table["prediction"].value_counts().to_pylist()
            counted.sort(key=lambda item: -item["counts"])
            rows = [(item["values"], f"{item['counts']:,}") for item in counted[:_NUM_SHOWN]]
            lines += table_lines(["prediction", "samples"], rows, right=["samples"])
            if len(counted) > _NUM_SHOWN:
                lines.append(f"... and {len(counted) - _NUM_SHOWN:,} more classes: --output FILE.csv has all")
        return lines

    def _each(self) -> tuple[list[str], list[list[Any]]]:
        """Titles and a row for each sample: its prediction with that one's probability, and the classes of its set."""
        chance = self.table["p_max"].to_pylist()
        if self.threshold is not None:
            first, second = (self.table.column(self.table.num_columns - back).to_pylist() for back in (2, 1))
            chance = [b if b >= self.threshold else a for a, b in zip(first, second, strict=True)]
        columns = [self.table["key"].to_pylist(), self.table["prediction"].to_pylist(), chance]
        titles = ["key", "prediction", "probability"]
        if "set" in self.table.column_names:
            titles.append("may be")
            columns.append([", ".join(names) or "-" for names in self.table["set"].to_pylist()])
        return titles, [list(row) for row in zip(*columns, strict=True)]

    def _ranked(self, top_k: int) -> list[list[str]]:
        """The key of each sample, and its most probable classes in words."""
        return [
            [row["key"], *(f"{row[f'class_{k}']} {row[f'p_{k}']:.4f}" for k in range(1, top_k + 1))]
            for row in self.table.to_pylist()
        ]

    def facts(self) -> dict[str, Any]:
        """Plain values for --json, without the rows."""
        return {
            "num_predicted": self.table.num_rows,
            "unreadable": [{"key": key, "reason": reason} for key, reason in self.unreadable],
            "output": self.output,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values; with the rows when no file was written."""
        return self.facts() if self.output is not None else {**self.facts(), "predictions": self.table.to_pylist()}


def in_short(names: Sequence[str], unreadable: Sequence[Any]) -> str:
    """Predicted classes in a line, as Python shows them: how many, and the most frequent ones."""
    counted = Counter(names).most_common(_NUM_NAMES + 1)
    each = [f"{count:,} {name}" for name, count in counted[:_NUM_NAMES]] + ["..."] * (len(counted) > _NUM_NAMES)
    told = f"{number_of(len(names), 'sample')}{': ' if each else ''}{', '.join(each)}"
    return told + (f"; {len(unreadable):,} unreadable" if unreadable else "")


def predict(
    run_dir: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    output: str | os.PathLike[str] | None = None,
    checkpoint: str = "best",
    *,
    split: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    image_column: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    channels: Axis | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    accelerator: str | None = None,
    precision: str | None = None,
    top_k: int | None = None,
    raw: bool = False,
    mc_dropout: int | None = None,
) -> Predictions:
    """Predictions and probabilities of a run's network.

    Args:
        run_dir: the run's folder, or a checkpoint file, wherever it lies; for `split` in its run.
        paths: images, folders of images, lists of images or tables (CSV, Parquet, .npz); none if `split` is given.
        split: instead, samples of the run's own data: unlabelled (of all splits), train, val, test or all.
        output: a .csv or .parquet file; None writes none.
        checkpoint: "best", "last" or a file.
        dataset, data_dir: where the run's own data are now; default: where they were.
        image_column: holds the image paths of a list among the paths; default: found by its name and values.
        image_root: the folder that relative paths in a list start from; default: that of the list, or with `split`
            where they started in training.
        channels: the axis of .npz and .npy files that is the channels; default: as in training.
        batch_size, num_workers, accelerator, precision: default: as in training.
        top_k: the most probable classes of each sample, at most all, in place of the probability of every class.
        raw: logits as they are, whatever `litscope calibrate` has kept with the weights.
        mc_dropout: passes with dropout on, 2 or more; what is told is their mean, and how far they disagree.

    Raises:
        ConfigError: both or neither of paths and split, an output of another kind, a `top_k` below 1, or fewer than two
            passes.
        ModelError: for `mc_dropout` of a network without dropout.
        RunError: no such run or checkpoint.
        DataError: there is nothing to predict, or no sample can be read.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    target, num_passes = output_path(output), passes(mc_dropout)
    _check_asked(paths, split)
    if top_k is not None and top_k < 1:
        raise ConfigError(f"--top-k {top_k}: it is 1 or more.")
    if image_column is not None and split is not None:
        raise ConfigError(
            f"--image-column {image_column} is for PATH; with --split the run's own data are read as in training."
        )
    network: Network
    if split is None:
        network = open_network(run_dir, checkpoint, accelerator=accelerator, precision=precision)
        source = open_paths(
            paths, like=network.facts.encoding, image_column=image_column, image_root=image_root, channels=channels
        )
        ids = source.manifest.sample_ids
    else:
        network = opened = open_run(run_dir, checkpoint, accelerator=accelerator, precision=precision)
        data, _ = opened.find_data(dataset=dataset, data_dir=data_dir, image_root=image_root, channels=channels)
        source, ids = data.source, data.ids(split)
    if len(ids) == 0:
        raise DataError(f"{source.name} has no {split or 'samples'} to predict.")
    for note in source.notes if split is None else ():
        warn(note)
    if raw:
        network.predictor.readout = None
    num_classes = len(network.classes)
    if top_k is not None and top_k > num_classes:
        warn(f"--top-k {top_k}: the network knows {num_classes} classes, so each sample has {num_classes}.")
        top_k = num_classes
    found = predict_source(network, source, ids, batch_size, num_workers, top_k, num_passes, are_own=split is not None)
    if target is None:
        return found
    write_table(found.table, target)
    return replace(found, output=str(target))


def _check_asked(paths: Sequence[Any], split: str | None) -> None:
    if bool(paths) == (split is not None):
        raise ConfigError(
            "Say what to predict: paths of images or tables, or --split unlabelled for the rows of the run's own data "
            f"that have no label ({', '.join(get_args(PredictSplit))}). Give one of the two."
        )
    if split is not None and split not in get_args(PredictSplit):
        known = get_args(PredictSplit)
        raise ConfigError(f"--split {split}: unknown. Known: {', '.join(known)}.{did_you_mean(split, known)}")


def predict_source(
    network: Network,
    source: Source,
    ids: NDArray[np.int64],
    batch_size: int | None,
    num_workers: int | None,
    top_k: int | None = None,
    num_passes: int = 0,
    *,
    are_own: bool = False,
) -> Predictions:
    """Run the network over some samples of a source.

    Args:
        ids: (n,) ids of the source.
        batch_size, num_workers: None: as in training.
        top_k: see `Predictions`.
        num_passes: with dropout on; 0: one pass without.
        are_own: the ids are those of the run; what is drawn for a sample is drawn by it, else by its key.

    Raises:
        DataError: if not one of them can be read.
    """
    data = network.data_of(source, ids, batch_size=batch_size, num_workers=num_workers)
    answers = network.answers(data, num_passes)
    unreadable = data.unreadable
    if not len(answers.sample_id):
        raise DataError(f"Not one of {len(ids)} samples can be read. The first: {unreadable[0][1]}")
    warn_of_unreadable(unreadable)
    names, readout = network.classes, network.predictor.readout
    if not are_own and readout is not None and readout.sets is not None:
        answers = replace(answers, draws=drawn_by_key(source.manifest.keys[answers.sample_id].tolist()))
    probs = scaling_of(readout, len(names)).probabilities(answers.logits)
    more = uncertainty_columns(answers, readout, names)
    table = table_of(source, names, answers.sample_id, probs, top_k, readout, more)
    return Predictions(table, unreadable, top_k=top_k, threshold=None if readout is None else readout.threshold)
