"""The file of out-of-fold predictions that `litscope cv` writes: each sample once, by a network that has not seen it.

`out-of-fold.parquet`, a row per sample in ascending order of its id:

    sample_id    int64, in the data as the recipe beside it (cv.yaml) opens them
    key          string
    fold         int64, from 0: whose network predicted it
    group        string, only where samples belong together; null: to no other
    label        string
    prediction   string, the most probable class
    p_max        float32, its probability
    p_<class>    float32, one for each class, in the order that the file's metadata names them (CLASSES)
    loss         float32, -log of the label's probability, in nats

Whoever learns from it (suspects, calibration, a stack of networks) reads it here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import log_softmax

from litscope.data.sources.source import Source
from litscope.errors import DataError, RunError
from litscope.evaluation.tables import table_of
from litscope.rundir import whole_file
from litscope.runs import OUT_OF_FOLD
from litscope.training.readouts import Answers
from litscope.uncertainty.calibration import reliability_of
from litscope.uncertainty.proper import log_losses
from litscope.uncertainty.temperature import fit_temperature

RECIPE = "cv.yaml"
CLASSES = b"litscope.classes"
"""Of the file's metadata: a JSON list of the names of the classes."""

_LEAST = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class OutOfFold:
    """What K networks say of N samples that they have not seen.

    Attributes:
        sample_id: (N,) ascending.
        keys: (N,) str.
        fold: (N,) int64, from 0.
        label: (N,) int64, indices of `classes`.
        probs: (N, C) float32.
        classes: C names.
        groups: (N,) str or None, what each belongs to; None where nothing is known of it.
    """

    sample_id: NDArray[np.int64]
    keys: NDArray[np.object_]
    fold: NDArray[np.int64]
    label: NDArray[np.int64]
    probs: NDArray[np.float32]
    classes: tuple[str, ...]
    groups: NDArray[np.object_] | None = None

    @property
    def num_folds(self) -> int:
        """K."""
        return int(self.fold.max()) + 1

    @property
    def log_probs(self) -> NDArray[np.float32]:
        """(N, C), finite: what has no probability counts as the least that float32 holds."""
        return np.asarray(np.log(np.maximum(self.probs, _LEAST)))

    @property
    def loss(self) -> NDArray[np.float32]:
        """(N,) in nats."""
        return -self.log_probs[np.arange(len(self.label)), self.label]

    def answers(self) -> Answers:
        """The same for `quality`: log-probabilities as logits, and for each sample the unit that it is drawn with."""
        units = None
        if self.groups is not None:
            named = zip(self.sample_id, self.groups, strict=True)
            units = np.array([f"row {i}" if group is None else f"group {group}" for i, group in named], dtype=object)
        return Answers(self.sample_id, self.log_probs.astype(np.float64), self.label, units)


def calibration(found: OutOfFold) -> dict[str, Any]:
    """What a temperature is worth, each fold scaled by that of the predictions of the others.

    Returns:
        temperature: fitted to all; before, after: nll and ece of all, as they are and scaled fold by fold.
    """
    answers = found.answers()
    after = np.empty_like(answers.logits)
    for number in range(found.num_folds):
        own = found.fold == number
        after[own] = fit_temperature(answers.logits[~own], found.label[~own]).logits(answers.logits[own])

    def measured(logits: NDArray[np.float64]) -> dict[str, float]:
        probs = np.exp(log_softmax(logits, axis=1))
        error = reliability_of(probs, found.label).error
        return {"nll": float(log_losses(probs, found.label).mean()), "ece": float(error)}

    return {
        "temperature": fit_temperature(answers.logits, found.label).temperature,
        "before": measured(answers.logits),
        "after": measured(after),
    }


def out_of_fold(
    source: Source, classes: tuple[str, ...], fold: NDArray[np.int64], probs: NDArray[np.float32]
) -> OutOfFold:
    """What networks say of the samples of a source.

    Args:
        fold: (N,) of every sample of the source; -1: nobody predicts it.
        probs: (N, C).
    """
    ids, manifest = np.flatnonzero(fold >= 0), source.manifest
    groups = None if manifest.groups is None else manifest.groups[ids]
    return OutOfFold(ids, manifest.keys[ids], fold[ids], manifest.labels[ids], probs[ids], classes, groups)


def write_out_of_fold(found: OutOfFold, source: Source, folder: Path) -> Path:
    """Write the file, whole or not at all, into a folder; returns its path."""
    table = table_of(source, found.classes, found.sample_id, found.probs)
    table = table.add_column(0, "sample_id", pa.array(found.sample_id)).add_column(2, "fold", pa.array(found.fold))
    if found.groups is not None:
        table = table.add_column(3, "group", pa.array(found.groups, pa.string()))
    table = table.append_column("loss", pa.array(found.loss, pa.float32()))
    file = folder / OUT_OF_FOLD
    with whole_file(file) as out:
        pq.write_table(table.replace_schema_metadata({CLASSES: json.dumps(found.classes)}), out)
    return file


def read_out_of_fold(folder: Path) -> OutOfFold:
    """What `write_out_of_fold` wrote into a folder.

    Raises:
        RunError: if the file is not there, damaged, or of an earlier version.
        DataError: if it has no rows.
    """
    file = folder / OUT_OF_FOLD
    try:
        table = pq.read_table(file)
        classes = tuple(json.loads((table.schema.metadata or {})[CLASSES]))
        first = table.column_names.index("p_max") + 1
        columns = table.columns[first : first + len(classes)]
        probs = np.stack([column.to_numpy() for column in columns], 1).astype(np.float32)
        index = {name: number for number, name in enumerate(classes)}
        label = np.array([index[name] for name in table["label"].to_pylist()], np.int64)
        found = OutOfFold(
            table["sample_id"].to_numpy(),
            np.array(table["key"].to_pylist(), dtype=object),
            table["fold"].to_numpy(),
            label,
            probs,
            classes,
            np.array(table["group"].to_pylist(), dtype=object) if "group" in table.column_names else None,
        )
    except FileNotFoundError:
        raise RunError(f"{folder} has no {OUT_OF_FOLD}: no `litscope cv` was completed there.") from None
    except KeyError as error:
        raise RunError(
            f"{file} lacks {error}: an earlier version wrote it, or another program. Run `litscope cv` again."
        ) from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    if not len(found.label):
        raise DataError(f"{file} holds no sample.")
    return found
