"""Samples to check an exported network on: as the file takes them, and as the run reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from litscope.curation.run_data import RunData
from litscope.data.manifest import Ids, Manifest
from litscope.data.sources.new import open_arrays
from litscope.data.sources.source import Source
from litscope.evaluation.network import Network

NUM = 64
"""How many samples are looked at."""

Cells = NDArray[np.float64]


@dataclass(frozen=True)
class Inputs:
    """Samples in both forms.

    Attributes:
        source: they lie in it.
        ids: (n,) int64, their ids.
        arrays: (n, ...) as an exported network takes them.
    """

    source: Source
    ids: NDArray[np.int64]
    arrays: NDArray[Any]


def own_inputs(network: Network, found: RunData) -> Inputs:
    """Samples of a run's own data, evenly spread over those of its test split, or of validation, or all.

    Samples that are gone or cannot be read are left out; there may be none.
    """
    source, there = found.source, found.match.rows
    ids = next((rows for ids in _splits(found.manifest) if len(rows := there[ids][there[ids] >= 0])), there[:0])
    ids = ids[:: max(1, len(ids) // NUM)][:NUM]
    data = network.data_of(source, ids, num_workers=0)
    try:
        batches = list(data.batches())
    finally:
        data.close()
    if not batches:
        return Inputs(source, ids[:0], np.empty(0))
    read = torch.cat([batch["sample_id"] for batch in batches]).numpy()
    if source.kind == "table":
        features = torch.cat([batch["features"] for batch in batches]).numpy()
        return Inputs(source, read, cells_of(features, network.facts.encoding["columns"]))
    images = torch.cat([batch["image"] for batch in batches]).permute(0, 2, 3, 1)
    return Inputs(source, read, np.ascontiguousarray(images.numpy()))


def _splits(manifest: Manifest) -> tuple[Ids, ...]:
    return manifest.ids("test"), manifest.ids("val"), manifest.sample_ids


def random_inputs(network: Network) -> Inputs:
    """Samples of noise: of images over all values; of a table around its training rows, with gaps."""
    encoding, random = network.facts.encoding, np.random.default_rng(0)
    if encoding["kind"] == "table":
        cells = _random_cells(network, random)
        source = open_arrays(_table(cells, encoding["columns"]), like=encoding)
        return Inputs(source, source.manifest.sample_ids, cells)
    side, channels = encoding["stored_size"], encoding["channels"]
    shape = (NUM, side, side, channels)
    if encoding["dtype"] == "uint8":
        images: NDArray[Any] = random.integers(0, 256, shape, np.uint8)
    else:
        mean, std = (np.array(values, np.float32) for values in _normalization(network))
        images = (mean + std * random.standard_normal(shape, np.float32)).astype(np.float32)
    source = open_arrays(images, like={**encoding, "channel_axis": "last"})
    return Inputs(source, source.manifest.sample_ids, images)


def cells_of(features: NDArray[np.float32], columns: list[dict[str, Any]]) -> Cells:
    """(n, D) the cells from which features (n, F) were made; a gap that left no mark is the median."""
    cells = np.full((len(features), len(columns)), np.nan)
    at = 0
    for i, column in enumerate(columns):
        if column["type"] == "category":
            part = features[:, at : at + len(column["levels"])]
            cells[:, i] = np.where(part.any(1), part.argmax(1), -1)
            at += len(column["levels"])
            continue
        numbers = features[:, at].astype(np.float64) * column.get("scale", 1.0) + column.get("offset", 0)
        is_gap = features[:, at + 1] > 0 if column["indicator"] else np.zeros(len(features), bool)
        cells[:, i] = np.where(is_gap, np.nan, numbers)
        at += 2 if column["indicator"] else 1
    return cells


def _random_cells(network: Network, random: np.random.Generator) -> Cells:
    """(n, D): numbers as scattered as the training rows', one in ten a gap; levels of each category, and others."""
    columns = network.facts.encoding["columns"]
    mean, std = (np.array(values) for values in _normalization(network))
    features = (mean + std * random.standard_normal((NUM, len(mean)))).astype(np.float32)
    cells = cells_of(features, columns)
    for i, column in enumerate(columns):
        if column["type"] == "category":
            cells[:, i] = random.integers(-1, len(column["levels"]), NUM)
        elif column.get("values") == "time":
            cells[:, i] = np.round(cells[:, i])
    is_number = np.array([column["type"] == "number" for column in columns])
    cells[is_number & (random.random(cells.shape) < 0.1)] = np.nan
    return cells


def _normalization(network: Network) -> tuple[list[float], list[float]]:
    """A number for each channel or feature; of members with normalisations of their own, those of the first."""
    settings, facts = network.predictor.settings, network.facts.encoding
    width = settings.num_features or facts["channels"]
    mean: Any = settings.mean if settings.mean is not None else [0.0] * width
    std: Any = settings.std if settings.std is not None else [1.0] * width
    return (mean, std) if isinstance(mean[0], float | int) else (mean[0], std[0])


def _table(cells: Cells, columns: list[dict[str, Any]]) -> pa.Table:
    """Cells as a table that a person could have."""
    return pa.table({column["name"]: _column(cells[:, i], column) for i, column in enumerate(columns)})


def _column(cells: Cells, column: dict[str, Any]) -> pa.Array:
    if column["type"] == "category":
        levels = column["levels"]
        return pa.array([levels[int(k)] if k >= 0 else None for k in cells], pa.string())
    if column.get("values") == "time":
        return pa.array([None if np.isnan(cell) else int(cell) for cell in cells], pa.timestamp("s"))
    return pa.array(cells, pa.float64(), from_pandas=True)
