"""`litscope sample --why`: which places of a sample's image speak for a class, as a picture."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from litscope.curation.run_data import HAVE_MOVED, run_data
from litscope.errors import ConfigError, DataError, RunError, did_you_mean
from litscope.evaluation.heatmaps import heatmap
from litscope.evaluation.opened_run import OpenedRun, open_run
from litscope.ledger.lookup import find_sample
from litscope.pictures.contact_sheet import contact_sheet
from litscope.pictures.heatmap import heat_over
from litscope.rundir import RunDir
from litscope.runs import is_watched

_TILE = 340
"""Side of each of the two pictures, in pixels."""


@dataclass(frozen=True)
class Why:
    """What was drawn.

    Attributes:
        figure: the PNG file.
        checkpoint: whose weights were asked.
        method: how it was found (`heatmaps`).
        of: the class that the map is of; p: its probability.
        prediction: the most probable class.
    """

    figure: Path
    checkpoint: Path
    method: str
    of: str
    p: float
    prediction: str

    def __repr__(self) -> str:
        return f"Why({self.text()})"

    def text(self) -> str:
        """A line."""
        rest = "" if self.of == self.prediction else f", predicted is {self.prediction}"
        return f"why {self.of} (p {self.p:.3f}{rest}): {self.figure} ({self.method})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {**vars(self), "figure": str(self.figure), "checkpoint": str(self.checkpoint)}


def why(
    run: str | os.PathLike[str],
    sample: str | int,
    of: str | None = None,
    checkpoint: str = "best",
    *,
    figure: str | os.PathLike[str] | None = None,
    dataset: str | None = None,
) -> Why:
    """Draw a sample's image, and beside it which places in it speak for a class.

    Args:
        run: the run's folder, or its name below runs/.
        sample: its key, the end of it after a slash, or its id.
        of: the class; default: the predicted one.
        checkpoint: "best", "last" or a file.
        figure: the PNG file; default: in the run's `figures/`.
        dataset: where the run's data are now; default: where they were.

    Raises:
        ConfigError: for a run on a table, or a class that there is not.
        DataError: if the data are not there, or the sample cannot be read.
        RunError: if there is no such run, sample or checkpoint, or the network is a script's own.
        ModelError: if the network has no places.
    """
    folder = RunDir.open(run)
    if is_watched(folder):
        raise RunError(f"{folder.path} is a watched run: its network is that of its own script, and --why needs it.")
    sample_id = find_sample(folder, str(sample))
    opened = open_run(folder.path, checkpoint, accelerator="cpu", precision="32-true")
    if opened.facts.encoding["kind"] == "table":
        raise ConfigError("--why draws which places of an image speak for a class, and this run is about a table.")
    names = opened.classes
    if of is not None and of not in names:
        raise ConfigError(f"--class {of}: the run has no such class.{did_you_mean(of, names)} {_known(names)}")
    key, label, image = _image(opened, sample_id, dataset)
    predictor = opened.predictor.eval()
    with torch.no_grad():
        chances = predictor.probabilities({"image": image})[0]
    best = int(chances.argmax())
    asked = best if of is None else names.index(of)
    found = heatmap(predictor, image, asked)
    path = Path(figure) if figure is not None else folder.figures / f"why-{_file_name(key)}.png"
    told = Why(path, opened.checkpoint, found.method, names[asked], float(chances[asked]), names[best])
    shown, sides = _pixels(image), " x ".join(map(str, found.values.shape))
    contact_sheet(
        [shown, heat_over(shown, found.values, _TILE)],
        [
            f"{'no label' if label is None else f'label {label}'}\n{key}",
            f"what speaks for {told.of}{'' if found.values.any() else ': nothing'}\n{found.method}, {sides}",
        ],
        path,
        columns=2,
        tile=_TILE,
        title=f"{folder.path.name}: predicted {told.prediction}, p {float(chances[best]):.3f}"
        + ("" if asked == best else f"; {told.of}, p {told.p:.3f}"),
    )
    return told


def _known(names: tuple[str, ...]) -> str:
    return f"Its classes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."


def _image(opened: OpenedRun, sample_id: int, dataset: str | None) -> tuple[str, str | None, torch.Tensor]:
    """Key and label of a sample, and (1, K, T, T) float its image as the network sees it."""
    try:
        data = run_data(opened.run, dataset)
    except DataError as error:
        if dataset is not None:
            raise
        raise DataError(f"{error} {HAVE_MOVED}") from error
    rows = data.rows(np.array([sample_id], np.int64), "--why")
    loaded = opened.data_of(data.source, rows, num_workers=0)
    try:
        batches = [loaded.seen(batch) for batch in loaded.batches()]
    finally:
        loaded.close()
    if not batches:
        raise DataError(loaded.unreadable[0][1])
    label = int(data.manifest.labels[sample_id])
    return data.manifest.key(sample_id), opened.classes[label] if label >= 0 else None, batches[0]["image"]


def _pixels(image: torch.Tensor) -> np.ndarray[Any, Any]:
    """(T, T, K) of (1, K, T, T): bytes where values are in [0, 1], else as they are."""
    pixels = image[0].permute(1, 2, 0).cpu().numpy()
    is_scaled = pixels.min() >= 0 and pixels.max() <= 1
    return (pixels * 255).round().astype(np.uint8) if is_scaled else pixels


def _file_name(key: str) -> str:
    """A key as part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", key).strip("-.")[-80:] or "sample"
