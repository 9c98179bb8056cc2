"""A trained network with all that stands before and behind it, as one module: from what a file holds to probabilities.

What `data` and `Forward` do between the two is done inside, by the same functions: the middle of an image, scale,
normalisation, the views of test-time augmentation; a table's gaps, levels and standardisation; the mean of members.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from litscope.data.sources.numbers import fill
from litscope.evaluation.network import Network
from litscope.models.forward import Forward
from litscope.shown import evaluation


class ImageNetwork(nn.Module):
    """Probabilities (B, C) float32 of square images (B, S, S, K), uint8, or float32 in the unit of their data.

    Args:
        predictor: on the CPU, in evaluation mode.
        encoding: of its images: T, the side that the network sees; the share of the side that it sees; how smaller
            images are enlarged.
    """

    INPUT = "image"

    def __init__(self, predictor: Forward, encoding: Mapping[str, Any]) -> None:
        super().__init__()
        self.predictor, self._image_size = predictor, encoding["image_size"]
        self._crop_pct, self._interpolation = encoding.get("crop_pct"), encoding.get("interpolation", "bilinear")

    def forward(self, image: Tensor) -> Tensor:
        """(B, S, S, K) -> (B, C)."""
        seen = evaluation(image.permute(0, 3, 1, 2), self._image_size, self._crop_pct, self._interpolation)
        return self.predictor.probabilities({"image": seen})


class TableNetwork(nn.Module):
    """Probabilities (B, C) float32 of the rows of a table: cells (B, D) float64, one for each column.

    A cell is a number, NaN for a gap; of a category its position among the levels, any other number for a gap. What
    `tables.encode` makes of a column is made here, of all columns at once.

    Args:
        predictor: on the CPU, in evaluation mode.
        columns: D records, as `tables.fit_encoding` gives them.
    """

    INPUT = "cells"

    numbers: Tensor
    offset: Tensor
    scale: Tensor
    fill: Tensor
    marked: Tensor
    categories: Tensor
    levels: Tensor
    order: Tensor

    def __init__(self, predictor: Forward, columns: list[dict[str, Any]]) -> None:
        super().__init__()
        self.predictor = predictor
        at = [i for i, column in enumerate(columns) if column["type"] == "number"]
        records = [columns[i] for i in at]
        marked = [i for i, record in enumerate(records) if record["indicator"]]
        levels = [(i, k) for i, c in enumerate(columns) if c["type"] == "category" for k in range(len(c["levels"]))]
        self._keep("numbers", at, torch.int64)
        self._keep("offset", [record.get("offset", 0) for record in records], torch.float64)
        self._keep("scale", [record.get("scale", 1.0) for record in records], torch.float64)
        self._keep("fill", [fill(record) for record in records], torch.float32)
        self._keep("marked", marked, torch.int64)
        self._keep("categories", [i for i, _ in levels], torch.int64)
        self._keep("levels", [k for _, k in levels], torch.float64)
        made = [(i, 0) for i in at] + [(at[i], 1) for i in marked] + levels  # what `forward` puts side by side
        self._keep("order", sorted(range(len(made)), key=made.__getitem__), torch.int64)

    def _keep(self, name: str, values: list[Any], dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=dtype))

    def forward(self, cells: Tensor) -> Tensor:
        """(B, D) -> (B, C)."""
        numbers = ((cells[:, self.numbers] - self.offset) / self.scale).float()
        is_gap = ~torch.isfinite(numbers)
        parts = [torch.where(is_gap, self.fill, numbers), is_gap[:, self.marked].float()]
        parts.append((cells[:, self.categories] == self.levels).float())
        features = torch.cat(parts, 1)[:, self.order]
        return self.predictor.probabilities({"features": features})


Portable = ImageNetwork | TableNetwork


def portable(network: Network) -> Portable:
    """A network as one module, on the CPU, in float32 and plain memory, which no gradient leaves any more.

    Args:
        network: of a checkpoint; its predictor is changed.
    """
    predictor, encoding = network.predictor, network.facts.encoding
    predictor.use_channels_last(False)
    predictor.float().cpu().eval().requires_grad_(False)
    if encoding["kind"] == "table":
        return TableNetwork(predictor, encoding["columns"])
    return ImageNetwork(predictor, encoding)


def example(encoding: dict[str, Any], count: int = 2) -> Tensor:
    """Inputs of the right shape and type: zeros."""
    if encoding["kind"] == "table":
        return torch.zeros(count, len(encoding["columns"]), dtype=torch.float64)
    side, channels = encoding["stored_size"], encoding["channels"]
    return torch.zeros(count, side, side, channels, dtype=getattr(torch, encoding["dtype"]))
