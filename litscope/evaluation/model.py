"""Model: a trained network in memory, to predict as often as one likes. `litscope.load` gives it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from litscope.console import warn
from litscope.data.sources.new import open_arrays, open_paths
from litscope.errors import DataError
from litscope.evaluation.network import Network
from litscope.evaluation.opened_run import open_network
from litscope.evaluation.predict import in_short, predict_source
from litscope.evaluation.tables import most_probable


class Predicted(NamedTuple):
    """What a network says of n samples.

    Attributes:
        names: the predicted class of each.
        probabilities: (n, C) float32, in the order of `Model.classes`.
        keys: the path, or the row, of each.
        unreadable: (key, reason) of each sample that could not be read; it is not among the others.
        classes: those of the model.
    """

    names: list[str]
    probabilities: NDArray[np.float32]
    keys: list[str]
    unreadable: list[tuple[str, str]]
    classes: list[str]

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The `k` most probable classes of each sample with their probabilities, the most probable first; at most all.

        Raises:
            ValueError: if `k` is below 1.
        """
        if k < 1:
            raise ValueError(f"k is {k}; it is 1 or more.")
        best = most_probable(self.probabilities, k)
        return [
            [(self.classes[number], float(row[number])) for number in numbers]
            for row, numbers in zip(self.probabilities, best.tolist(), strict=True)
        ]

    def __repr__(self) -> str:
        return f"Predicted({in_short(self.names, self.unreadable)})"


class Model:
    """The network of one checkpoint, in evaluation mode.

    Attributes:
        classes: their names, in the order of the probabilities.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.classes = list(network.classes)

    def __repr__(self) -> str:
        arch = self._network.predictor.settings.name
        return f"Model({arch}, {len(self.classes)} classes, {str(self._network.checkpoint)!r})"

    def predict(self, x: Any, *, batch_size: int | None = None, num_workers: int | None = None) -> Predicted:
        """Classes and probabilities of new samples, read and resized as the training data were.

        Args:
            x: paths (one or several: images, folders of images, lists, tables, .npz files), or the samples themselves:
                (N, H, W), (N, H, W, K) or (N, K, H, W) images; (N, F) features in the order of the training table; an
                Arrow table or a pandas frame with its columns.
            batch_size, num_workers: default: as in training.

        Raises:
            DataError: if nothing can be predicted, or it does not fit the network.
        """
        like = self._network.facts.encoding
        if isinstance(x, str | os.PathLike):
            x = [x]
        if isinstance(x, np.ndarray | pa.Table):
            source = open_arrays(x, like=like)
        elif hasattr(x, "iloc"):  # a frame; pandas is nothing that litscope needs
            source = open_arrays(pa.Table.from_pandas(x, preserve_index=False), like=like)
        elif isinstance(x, Sequence) and all(isinstance(path, str | os.PathLike) for path in x):
            source = open_paths(x, like=like)
        else:
            raise DataError(
                f"predict takes paths, a NumPy array, an Arrow table or a pandas frame, not {type(x).__name__}."
            )
        for note in source.notes:
            warn(note)
        found = predict_source(self._network, source, source.manifest.sample_ids, batch_size, num_workers)
        chances = [
            found.table.column(at) for at in range(found.table.num_columns - len(self.classes), found.table.num_columns)
        ]
        return Predicted(
            names=found.table["prediction"].to_pylist(),
            probabilities=np.stack([np.asarray(chance.to_numpy(), np.float32) for chance in chances], axis=1),
            keys=found.table["key"].to_pylist(),
            unreadable=found.unreadable,
            classes=self.classes,
        )


def load(
    run: str | os.PathLike[str],
    checkpoint: str = "best",
    *,
    accelerator: str | None = None,
    precision: str | None = None,
) -> Model:
    """The network of a run, or of a checkpoint file.

    Args:
        run: the run's folder, or its name below runs/; or a checkpoint, or what `litscope export --to safetensors`
            wrote, which need nothing else, wherever they lie.
        checkpoint: of a run: "best", "last" or a file.
        accelerator: default: the best device here.
        precision: default: as in training.

    Raises:
        RunError: if there is no such run or checkpoint; for a checkpoint of an earlier version outside its run.

    Example:
        >>> model = litscope.load("runs/mine")
        >>> names, probabilities, *_ = model.predict(["a.jpg", "b.jpg"])
    """
    return Model(open_network(run, checkpoint, accelerator=accelerator, precision=precision))
