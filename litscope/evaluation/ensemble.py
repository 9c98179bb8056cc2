"""Ensemble: several networks in memory that predict as one. `litscope.Ensemble` is this class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from litscope.errors import DataError, RunError
from litscope.evaluation.model import Model, Predicted
from litscope.evaluation.network import Network
from litscope.evaluation.opened_run import open_network
from litscope.fusions import Fusion
from litscope.shown import evaluation, to_float
from litscope.types import Batch


class Ensemble(Model):
    """The members of one checkpoint, in evaluation mode, whether they were trained in one run or joined from several.

    Attributes:
        classes: their names, in the order of the probabilities.
        num_members: M.
        fusion: the rule by which their answers become one, with what it has learned.

    Example:
        >>> model = litscope.Ensemble.load_from_checkpoint("runs/ensemble-1/checkpoints/best.ckpt")
        >>> model.predict(["a.jpg", "b.jpg"]).names
        >>> model.predict(dataloader).probabilities
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        members = network.predictor.members
        if members is None:
            raise RunError(f"{network.checkpoint} is one network, and no ensemble: litscope.load opens it.")
        self.num_members = members.num_members

    @property
    def fusion(self) -> Fusion:
        """The rule, with what it has learned."""
        return self._network.predictor.rule

    @classmethod
    def load_from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        accelerator: str | None = None,
        precision: str | None = None,
    ) -> Ensemble:
        """Open a checkpoint. Nothing in it is run: it holds tensors and plain values.

        Args:
            path: a checkpoint file, wherever it lies, or the folder of a run.
            accelerator: default: the best device here.
            precision: default: as in training.

        Raises:
            RunError: if it is missing, damaged, or one network.
        """
        return cls(open_network(path, accelerator=accelerator, precision=precision))

    def predict(self, x: Any, *, batch_size: int | None = None, num_workers: int | None = None) -> Predicted:
        """Classes and probabilities of new samples.

        Args:
            x: what `Model.predict` takes; or a loader, any iterable of batches: tensors, tuples that begin with one, or
                mappings with `image` or `features`. Images are (B, K, S, S), uint8, or float in [0, 1] (bands in the
                unit of the training data), S the side at which they are stored or shown; features are (B, F), before
                they are standardised.
            batch_size, num_workers: as of `Model.predict`; a loader has its own.

        Raises:
            DataError: if nothing can be predicted, or it does not fit the networks.
        """
        is_known = isinstance(x, str | os.PathLike | np.ndarray) or hasattr(x, "column_names") or hasattr(x, "iloc")
        if is_known or (isinstance(x, list | tuple) and all(isinstance(one, str | os.PathLike) for one in x)):
            return super().predict(x, batch_size=batch_size, num_workers=num_workers)
        if not isinstance(x, Iterable):
            raise DataError(f"predict takes paths, arrays, tables or a loader of batches, not {type(x).__name__}.")
        keys: list[str] = []
        found = self._network.ask(self._batches(x, keys), self._network.predictor.probabilities)
        if not len(found):
            raise DataError("The loader has no batch to predict.")
        names = [self.classes[number] for number in found.argmax(1)]
        return Predicted(names, found, keys, [], self.classes)

    def _batches(self, loader: Iterable[Any], keys: list[str]) -> Iterator[Batch]:
        """Batches as the networks are shown them; the keys of their samples are added as they come."""
        for given in loader:
            batch = given if isinstance(given, Mapping) else {}
            inputs = batch.get("image", batch.get("features")) if batch else given
            inputs = inputs[0] if isinstance(inputs, list | tuple) and len(inputs) else inputs
            if not isinstance(inputs, Tensor):
                raise DataError(
                    "A batch is a tensor, a tuple that begins with one, or a mapping with `image` or `features`, not "
                    f"{type(given).__name__}."
                )
            ids = batch.get("sample_id")
            numbers = range(len(keys), len(keys) + len(inputs)) if ids is None else ids.tolist()
            keys += [str(number) for number in numbers]
            yield self._seen(inputs)

    def _seen(self, inputs: Tensor) -> Batch:
        encoding, settings = self._network.facts.encoding, self._network.predictor.settings
        if encoding["kind"] == "table":
            if inputs.ndim != 2 or inputs.shape[1] != settings.num_features:
                raise DataError(f"The networks take features (B, {settings.num_features}), not {tuple(inputs.shape)}.")
            return {"features": inputs.float()}
        sides = (encoding["stored_size"], encoding["image_size"])
        shape = tuple(inputs.shape)
        if len(shape) != 4 or shape[1] != encoding["channels"] or shape[2] != shape[3] or shape[2] not in sides:
            wanted = " or ".join(str(side) for side in dict.fromkeys(sides))
            raise DataError(
                f"The networks take images (B, {encoding['channels']}, S, S) with S {wanted}, not {shape}. Images of "
                "other sizes are given as paths or arrays."
            )
        if shape[2] != sides[0]:
            return {"image": to_float(inputs)}
        how = encoding.get("interpolation", "bilinear")
        return {"image": evaluation(inputs, encoding["image_size"], encoding.get("crop_pct"), how)}
