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
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.console import number_of, table_lines, warn
from litscope.data.manifest import UNLABELLED
from litscope.data.reading.bands import Axis
from litscope.data.sources.new import open_paths
from litscope.data.sources.source import Source
from litscope.errors import ConfigError, DataError, did_you_mean
from litscope.evaluation.evaluation_data import warn_of_unreadable
from litscope.evaluation.network import Network
from litscope.evaluation.opened_run import open_network, open_run
from litscope.rundir import whole_file
from litscope.spreadsheets import write_csv

PredictSplit = Literal["unlabelled", "train", "val", "test", "all"]

_NUM_NAMES = 3
"""Classes that a `repr` names."""

_NUM_SHOWN = 20
"""Rows of a table for people: samples, or where there are more of them, classes."""

OUTPUT_SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class Predictions:
    """What the network says about each readable sample.

    Attributes:
        table: in the order of the input: key string; label string, for the run's own data;
            prediction string; p_max float32; then p_<class> float32 for each class, or, of the `top_k` most probable
            classes, class_1 string, p_1 float32, class_2, p_2 and so on.
        unreadable: (key, reason) of each sample that was left out.
        output: the file that was written, or None.
        top_k: how many classes of each sample the table has; None: all.
    """

    table: pa.Table
    unreadable: list[tuple[str, str]]
    output: str | None = None
    top_k: int | None = None

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
            columns = (self.table[name].to_pylist() for name in ("key", "prediction", "p_max"))
            lines += table_lines(["key", "prediction", "probability"], zip(*columns, strict=True))
        else:
            counted = self.table["prediction"].value_counts().to_pylist()
            counted.sort(key=lambda item: -item["counts"])
            rows = [(item["values"], f"{item['counts']:,}") for item in counted[:_NUM_SHOWN]]
            lines += table_lines(["prediction", "samples"], rows, right=["samples"])
            if len(counted) > _NUM_SHOWN:
                lines.append(f"... and {len(counted) - _NUM_SHOWN:,} more classes: --output FILE.csv has all")
        return lines

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

    Raises:
        ConfigError: both or neither of paths and split, an output of another kind, or a `top_k` below 1.
        RunError: no such run or checkpoint.
        DataError: there is nothing to predict, or no sample can be read.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    target = _output_path(output)
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
    num_classes = len(network.classes)
    if top_k is not None and top_k > num_classes:
        warn(f"--top-k {top_k}: the network knows {num_classes} classes, so each sample has {num_classes}.")
        top_k = num_classes
    found = predict_source(network, source, ids, batch_size, num_workers, top_k)
    if target is None:
        return found
    _write(found.table, target)
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
) -> Predictions:
    """Run the network over some samples of a source.

    Args:
        ids: (n,) ids of the source.
        batch_size, num_workers: None: as in training.
        top_k: see `Predictions`.

    Raises:
        DataError: if not one of them can be read.
    """
    data = network.data_of(source, ids, batch_size=batch_size, num_workers=num_workers)
    sample_id, probs = network.probabilities(data)
    unreadable = data.unreadable
    if not len(sample_id):
        raise DataError(f"Not one of {len(ids)} samples can be read. The first: {unreadable[0][1]}")
    warn_of_unreadable(unreadable)
    return Predictions(table_of(source, network.classes, sample_id, probs, top_k), unreadable, top_k=top_k)


def table_of(
    source: Source,
    names: Sequence[str],
    sample_id: NDArray[np.int64],
    probs: NDArray[np.float32],
    top_k: int | None = None,
) -> pa.Table:
    """One row per sample: key, label where known, prediction, probabilities.

    Args:
        names: those of the C classes.
        sample_id: (n,) ids of the source.
        probs: (n, C).
        top_k: at most C; see `Predictions`.
    """
    classes = np.array(names, dtype=object)
    prediction = probs.argmax(1)
    columns: dict[str, Any] = {"key": pa.array(source.manifest.keys[sample_id], pa.string())}
    label = source.manifest.labels[sample_id]
    if (label != UNLABELLED).any():
        columns["label"] = pa.array([classes[k] if k != UNLABELLED else None for k in label], pa.string())
    columns["prediction"] = pa.array(classes[prediction], pa.string())
    columns["p_max"] = pa.array(probs.max(1), pa.float32())
    if top_k is not None:
        best = most_probable(probs, top_k)
        for k in range(top_k):
            columns[f"class_{k + 1}"] = pa.array(classes[best[:, k]], pa.string())
            columns[f"p_{k + 1}"] = pa.array(np.take_along_axis(probs, best[:, k : k + 1], 1)[:, 0], pa.float32())
        return pa.table(columns)
    for k, name in enumerate(classes):
        column = f"p_{name}" if f"p_{name}" not in columns else f"p_{name}_class"  # a class may be called max
        columns[column] = pa.array(probs[:, k], pa.float32())
    return pa.table(columns)


def most_probable(probs: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """(n, count) the classes of each row of probs (n, C), the most probable first, equal ones in order."""
    return np.argsort(-probs, axis=1, kind="stable")[:, :count]


def _output_path(output: str | os.PathLike[str] | None) -> Path | None:
    """The output's path, if it is of a kind that can be written."""
    if output is None:
        return None
    path = Path(output)
    if path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ConfigError(f"--output {path}: the name must end in {' or '.join(OUTPUT_SUFFIXES)}.")
    return path


def _write(table: pa.Table, path: Path) -> None:
    """Write CSV or Parquet, as the file's ending says, whole or not at all."""
    with whole_file(path) as file:
        if path.suffix.lower() == ".csv":
            write_csv(table, file)
        else:
            pq.write_table(table, file)
