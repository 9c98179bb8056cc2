"""Channels, bands and dtype of a data set, from the headers of some of its files."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from litscope.data.reading import bands, fits, images
from litscope.data.sources.image_files import hint
from litscope.errors import ConfigError, DataError

_LOOKED_AT = 256
"""Files whose headers are read to learn the number of channels."""


def look_at_shapes(root: Path, keys: Sequence[str], asked: bands.Axis | None) -> tuple[bands.Axis | None, list[str]]:
    """Which axis of .npy files holds the bands, from the shapes of some; None: the smaller one. And lines about it."""
    shapes: list[tuple[int, ...]] = []
    for key in _spread(keys):
        with contextlib.suppress(DataError):
            shapes.append(bands.read_bands_header(root / key).shape)
    shapes = [shape for shape in shapes if len(shape) == 3]
    found = {bands.channel_axis(shape) for shape in shapes} - {None}
    if asked is not None and not shapes:
        raise ConfigError(f"--channels {asked}: the .npy files of {root} have no axis of channels.")
    if not shapes or (asked is None and len(found) > 1):
        return None, []
    axis = asked or (next(iter(found - {None})) if found else bands.smaller_axis(shapes[0]))
    is_usual = asked is None and all(bands.smaller_axis(shape) == axis for shape in shapes)
    first, middle, last = shapes[0]
    height, width, num = (first, middle, last) if axis == "last" else (middle, last, first)
    said = "" if asked else f" (else: --channels {'first' if axis == 'last' else 'last'})"
    note = f".npy files of shape {shapes[0]}: images of {height} x {width} pixels; the {axis} axis is {num} bands{said}"
    return (None if is_usual else axis), [note]


def _spread(keys: Sequence[str]) -> list[str]:
    """Some of the keys, spread evenly over them."""
    return [keys[i] for i in np.unique(np.linspace(0, len(keys) - 1, _LOOKED_AT).astype(np.int64))]


def look_at_headers(
    root: Path, keys: Sequence[str], is_list: bool, axis: bands.Axis | None
) -> tuple[int, np.dtype[Any], list[str]]:
    """Channels and dtype of a whole data set, from the headers of files spread evenly over it.

    Image files are gray if every one of these is, else colour. `.npy` and FITS files have what most of them have.
    """
    forms = [_form(key) for key in keys]
    if len(set(forms)) > 1:
        one, other = [form for form in _FORMS if form in forms][:2]
        odd = keys[forms.index(one)], keys[forms.index(other)]
        raise DataError(f"{root} mixes {one} and {other} ({odd[0]}, {odd[1]}); keep one kind.")
    chosen = _spread(keys)
    kinds: Counter[tuple[int, np.dtype[Any]]] = Counter()
    problem = ""
    for key in chosen:
        try:
            kinds[_kind(root / key, axis)] += 1
        except DataError as error:
            advice = f" {hint(root, key)}" if is_list and not (root / key).exists() else ""
            problem = problem or f"{root / key}: {error}.{advice}"
    if not kinds:
        raise DataError(f"None of the {len(chosen):,} files that were looked at can be read. The first is {problem}")
    if forms[0] != _IMAGE_FILES:
        (channels, dtype), count = kinds.most_common(1)[0]
        others = sum(kinds.values()) - count
        notes = [f"{others} of {len(chosen)} {forms[0]} are not of {channels} bands of {dtype}"] if others else []
        return channels, dtype, notes
    channels, dtype = max(kinds, key=lambda kind: kind[0])
    num_gray = kinds[(1, dtype)]
    mixed = f"gray and colour images are mixed ({num_gray} of {len(chosen)} looked at are gray): all are read as colour"
    return channels, dtype, [mixed] if len(kinds) > 1 else []


_IMAGE_FILES, _FITS, _NPY = _FORMS = ("image files", "FITS images", ".npy files")


def _form(key: str) -> str:
    """What kind of file this is, in words."""
    if fits.is_fits(key):
        return _FITS
    return _NPY if key.lower().endswith(bands.SUFFIX) else _IMAGE_FILES


def _kind(path: Path, axis: bands.Axis | None) -> tuple[int, np.dtype[Any]]:
    if path.suffix.lower() == bands.SUFFIX:
        header = bands.read_bands_header(path, axis)
        return header.num_bands, header.dtype
    if fits.is_fits(path.name):
        header = fits.read_fits_header(path)
        return header.num_bands, header.dtype
    return (1 if images.read_header(path).gray else 3), np.dtype(np.uint8)
