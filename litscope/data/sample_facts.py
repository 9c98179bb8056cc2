"""SampleFacts: what a network must know of samples that it has never seen. A checkpoint keeps it beside the weights.

The class names, and the manifest's `encoding`: how bytes become what the network sees. Plain values alone, so that a
checkpoint loads with `weights_only=True`. A file may be a stranger's, so everything that is read back is looked at.
No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa

from litscope.data.manifest import Manifest
from litscope.data.reading.fits import Rule
from litscope.data.sources.tables import encode, feature_names
from litscope.errors import DataError
from litscope.types import Interpolation

FORMAT_VERSION = 1

_MOST_PIXELS = 2**14
"""Longest side of a stored image that is believed."""

IMAGES = {"crop": "centre square", "antialias": True}
"""How an image of any shape becomes a square of `stored_size` (`reading.images.resize_crop`), and that one of
`image_size` (`shown.evaluation`): for programs that read a checkpoint without litscope. The interpolation is that
of the encoding."""


@dataclass(frozen=True)
class SampleFacts:
    """What a trained network must know of its samples.

    Attributes:
        classes: their names, in the order of the network's outputs.
        encoding: as `Manifest.encoding`.
    """

    classes: tuple[str, ...]
    encoding: dict[str, Any]

    @classmethod
    def of(cls, manifest: Manifest) -> SampleFacts:
        """Those of the data that a network is trained on."""
        return cls(manifest.classes, manifest.encoding)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        facts = {"format": FORMAT_VERSION, "classes": list(self.classes), "encoding": self.encoding}
        if self.encoding["kind"] == "table":
            return facts
        return {**facts, "images": {**IMAGES, "interpolation": self.encoding.get("interpolation", "bilinear")}}

    @classmethod
    def from_dict(
        cls,
        found: Mapping[str, Any],
        *,
        num_classes: int,
        in_channels: int | None,
        image_size: int | None,
        num_features: int | None,
    ) -> SampleFacts:
        """What `to_dict` gave, for a network of these classes and inputs.

        Raises:
            ValueError: with the reason, the end of a sentence, if the network cannot be shown such samples.
        """
        if found.get("format") != FORMAT_VERSION:
            raise ValueError(f"it describes its samples in format {found.get('format')!r}, not {FORMAT_VERSION}")
        classes, encoding = found.get("classes"), found.get("encoding")
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError("its class names are no list of texts")
        if len(classes) != num_classes or len(set(classes)) != num_classes:
            raise ValueError(f"it names {len(set(classes))} classes, and its network tells {num_classes} apart")
        if not isinstance(encoding, dict) or encoding.get("kind") not in ("image", "table"):
            raise ValueError("it does not say whether its samples are images or rows of a table")
        if encoding["kind"] == "table":
            _check_columns(encoding.get("columns"), num_features)
        else:
            _check_images(encoding, in_channels, image_size)
        return cls(tuple(classes), encoding)


def _check_images(encoding: Mapping[str, Any], in_channels: int | None, image_size: int | None) -> None:
    if encoding.get("channels") != in_channels or encoding.get("image_size") != image_size or image_size is None:
        raise ValueError("its images are not those that its network takes")
    if not isinstance(encoding.get("stored_size"), int) or not 0 < encoding["stored_size"] <= _MOST_PIXELS:
        raise ValueError(f"stored_size is {encoding.get('stored_size')!r}, which is no number of pixels")
    if encoding.get("dtype") not in ("uint8", "float32"):
        raise ValueError(f"its images are of {encoding.get('dtype')!r}; images are of uint8 or float32")
    if encoding.get("interpolation", "bilinear") not in get_args(Interpolation):
        raise ValueError(f"its images are resampled by {encoding['interpolation']!r}, which is not known")
    share = encoding.get("crop_pct", 1.0)
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"crop_pct is {share!r}, which is no share of an image's side")
    if encoding.get("channel_axis") not in (None, "first", "last"):
        raise ValueError(f"channel_axis is {encoding['channel_axis']!r}, neither first nor last")
    if "fits" in encoding:
        Rule.of_plain(encoding["fits"])
    if not isinstance(encoding.get("image_column"), str | None):
        raise ValueError("image_column is no name")


def _check_columns(columns: Any, num_features: int | None) -> None:
    """Let no rows at all pass through the columns: what cannot be applied shows itself."""
    try:
        width = len(feature_names(columns))
        table = pa.table({column["name"]: pa.array([], pa.string()) for column in columns})
        encode(table, columns, "it")
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"its columns cannot be applied ({error})") from error
    if width != num_features:
        raise ValueError(f"its columns make {width} features, and its network takes {num_features}")
