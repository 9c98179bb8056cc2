"""What an exported network says of itself, as plain JSON: its classes, its input, and how a file becomes that input.

ONNX files keep it among their metadata, under `litscope`; `.pt2` files as the extra file `litscope.json`; safetensors
in the header, under `litscope`, and as a JSON file beside. Programs that know nothing of litscope read it, so it is
told in values and in words.
"""

from __future__ import annotations

import math
from typing import Any

import litscope
from litscope.data.reading.fits import Rule
from litscope.data.sample_facts import IMAGES
from litscope.evaluation.network import Network
from litscope.models.readout import Readout

FORMAT_VERSION = 1

_MODES = {1: "L", 3: "RGB"}
"""What Pillow calls images of so many channels."""

READING_IMAGES = (
    "Apply the EXIF orientation. Divide gray of 16 bits by 257, multiply floats (0 to 1) by 255, and round. Put "
    "transparency on white. Bring the image to `input.mode` (L: gray, by Rec. 601 luma). Cut out the centre square, "
    "whose side is the image's shorter one: left = (width - side) // 2, top = (height - side) // 2. Resize it to "
    "`input.size` pixels, as `interpolation` says, with antialiasing, and round to uint8. litscope itself decodes a "
    "JPEG whose shorter side is at least twice that at 1/2, 3/8, 1/4 or 1/8 of its size (libjpeg's scaling), the "
    "smallest that is still large enough."
)
READING_BANDS = (
    "Bands of an array (rows, columns, bands), in the unit of the training data. Cut out the centre square as of an "
    "image, and resize each band to `input.size`, as `interpolation` says, with antialiasing."
)
READING_CELLS = (
    "One float64 for each of `columns`, in their order. A number as it is, NaN for a gap. true is 1, false 0. A date "
    "or a time: seconds since 1970-01-01 00:00, or since midnight. A category: the position of its text, without "
    "spaces around it, in `levels`; -1 for a gap or a text that is not there."
)


SCALED = "softmax of the logits, less their mean, times `scale` plus `shift` of `readout`,"

_SETS = {
    "lac": "1 less its probability",
    "aps": (
        "the sum of all probabilities from the highest down to its own, less u times its own, with a number u between "
        "0 and 1 drawn for each sample"
    ),
}
_SETS["raps"] = f"{_SETS['aps']}, plus 0.01 for each rank beyond the fifth"


def _readout_in_words(readout: Readout) -> str:
    """How the probabilities of a file are meant to be used."""
    parts = []
    if readout.method != "none":
        parts.append(f"The probabilities are calibrated ({readout.method} scaling): that is inside.")
    if readout.threshold is not None:
        parts.append("Predict the second class where its probability is at least `threshold`, else the first.")
    if readout.sets is not None:
        parts.append(
            "The classes that a sample may be are those whose score is at most their `limit` in `sets`, null being no "
            f"limit; the score of a class is {_SETS[readout.sets.method]}."
        )
    return " ".join(parts)


def describe(network: Network, name: str) -> dict[str, Any]:
    """What a network says of itself.

    Args:
        name: of the run or the checkpoint that it came from.
    """
    predictor, facts, readout = network.predictor, network.facts, network.predictor.readout
    is_scaled = readout is not None and readout.method != "none"
    kept = {"pretrained": False, "weights": None, "compile": False, "channels_last": None}
    return {
        "format": FORMAT_VERSION,
        "litscope": litscope.__version__,
        "name": name,
        "arch": predictor.settings.name,
        "classes": list(facts.classes),
        **(_cells(facts.encoding) if facts.encoding["kind"] == "table" else _images(network)),
        "inside": f"{_inside(network)} {'softmax' if not is_scaled else SCALED} comes last.",
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["batch", len(facts.classes)]},
        **({} if readout is None else {"readout": {**readout.to_dict(), "words": _readout_in_words(readout)}}),
        "network": {**vars(predictor.settings), **kept},
        "learned": predictor.learned(),
        "samples": {**facts.to_dict(), "batch_size": network.batch_size, "precision": "32-true"},
    }


def _inside(network: Network) -> str:
    """What the network does with its input first, the beginning of a sentence."""
    encoding, settings = network.facts.encoding, network.predictor.settings
    if encoding["kind"] == "table":
        return "Gaps, levels and standardisation are the network's own;"
    stored, seen = encoding["stored_size"], encoding["image_size"]
    how = encoding.get("interpolation", "bilinear")
    room = seen if encoding.get("crop_pct") is None else math.floor(seen / encoding["crop_pct"])
    fitted = f"takes the middle {seen} of {max(stored, room)} pixels" if seen < max(stored, room) else ""
    if stored < room:
        fitted = f"enlarges to {room} pixels ({how}){', ' if fitted else ''}{fitted}"
    scale = "divides by 255, " if encoding["dtype"] == "uint8" else ""
    views = "" if settings.tta == "none" else f" and averages the logits of its views (--tta {settings.tta})"
    first = f"{fitted}, " if fitted else ""
    return f"The network {first}{scale}subtracts the mean, divides by the deviation{views};"


def _images(network: Network) -> dict[str, Any]:
    encoding, settings = network.facts.encoding, network.predictor.settings
    stored, seen = encoding["stored_size"], encoding["image_size"]
    how = encoding.get("interpolation", "bilinear")
    is_picture = encoding["dtype"] == "uint8" and encoding["channels"] in _MODES
    return {
        "input": {
            "name": "image",
            "dtype": encoding["dtype"],
            "shape": ["batch", stored, stored, encoding["channels"]],
            "size": stored,
            "mode": _MODES[encoding["channels"]] if is_picture else None,
        },
        "reading": {
            **IMAGES,
            "interpolation": how,
            "words": _reading(encoding, is_picture),
        },
        "normalization": {"size": seen, "mean": settings.mean, "std": settings.std},
    }


def _reading(encoding: dict[str, Any], is_picture: bool) -> str:
    """How an image becomes the input, in sentences."""
    words = READING_IMAGES if is_picture else READING_BANDS
    return words if "fits" not in encoding else f"{words} {Rule.of_plain(encoding['fits']).words}."


def _cells(encoding: dict[str, Any]) -> dict[str, Any]:
    columns = [
        {
            "name": column["name"],
            "type": column["type"] if column["type"] == "category" else column.get("values", "number"),
            **({"levels": column["levels"]} if column["type"] == "category" else {}),
        }
        for column in encoding["columns"]
    ]
    return {
        "input": {"name": "cells", "dtype": "float64", "shape": ["batch", len(columns)]},
        "columns": columns,
        "reading": {"words": READING_CELLS},
    }
