"""`.npz` files -> Listing: X and y, X_test and y_test or split; also x_train, y_train and so on. No torch.

The names of MedMNIST's files mean the same: train_images, train_labels, val_images and so on.

X of shape (N, F) is a table; (N, H, W), (N, H, W, K) or (N, K, H, W) are images, scaled as `.npy` files are. Which axis
holds the channels is told by the shape (`bands.channel_axis`), or asked for: --channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.data.reading import bands
from litscope.data.reading.npz import read_npz
from litscope.data.sources.listing import Listing, group_names, index_labels
from litscope.data.sources.splits import canonical_names
from litscope.errors import ConfigError, DataError

_ALIASES = {
    f"{split}_{word}": f"{letter}_{split}"
    for split in ("train", "val", "test")
    for word, letter in (("images", "x"), ("labels", "y"))
}


def npz_rows(
    path: Path, asked_axis: bands.Axis | None = None, has_groups: bool = True, is_trained_on: bool = True
) -> Listing:
    """Rows of an `.npz` file that is trained on.

    Args:
        path: the file.
        asked_axis: where the channels of images are; None: as the shape says.
        has_groups: whether the array `group` keeps rows together.
        is_trained_on: as in `listing.index_labels`.

    Raises:
        ConfigError: if channels are asked for, and X has none.
        DataError: if an array is missing, or cannot be used.
    """
    arrays = {_ALIASES.get(name, name): array for name, array in read_npz(path).items()}
    parts = _parts(path, arrays)
    x = _joined(path, [arrays[f"x{suffix}"] for suffix, _ in parts])
    y = np.concatenate([_one_per_row(path, f"y{suffix}", arrays[f"y{suffix}"]) for suffix, _ in parts])
    if len(x) != len(y):
        raise DataError(f"{path}: X has {len(x):,} rows and y has {len(y):,} values.")
    if len(x) == 0:
        raise DataError(f"{path} has no rows.")
    labels, classes, notes = index_labels(_values(y), "y", is_trained_on)
    splits = np.concatenate([np.full(len(arrays[f"x{suffix}"]), split, dtype=object) for suffix, split in parts])
    if "split" in arrays:
        names = _values(arrays["split"].ravel()).cast(pa.string()).to_numpy(zero_copy_only=False)
        splits = canonical_names(path, names, len(x))
    groups = None
    if "group" in arrays and has_groups:
        groups = group_names(_values(arrays["group"].ravel()), "group")
        if len(groups) != len(x):
            raise DataError(f"{path}: X has {len(x):,} rows and group has {len(groups):,} values.")
    rows = Listing(path.name, table_keys(path, len(x)), labels, classes, splits, groups, notes=notes)
    rows.group_column = "" if groups is None else "group"
    if asked_axis is not None and x.ndim != 4:
        raise ConfigError(f"--channels {asked_axis}: X of {path} has shape {x.shape}, so it has no axis of channels.")
    if x.ndim == 2:
        rows.features = number_columns(path, x, arrays.get("feature_names"))
        return rows
    axis = asked_axis or _channel_axis(path, x.shape) if x.ndim == 4 else None
    rows.pixels = image_array(path, x, axis)
    if axis is not None:
        height, width, channels = rows.pixels.shape[1:]
        other = "first" if axis == "last" else "last"
        said = "" if asked_axis else f" (else: --channels {other})"
        rows.notes.append(
            f"X of shape {x.shape}: images of {height} x {width} pixels; the {axis} axis is {channels} channels{said}"
        )
        rows.encoding["channel_axis"] = axis
    return rows


def table_keys(path: Path, count: int) -> list[str]:
    """Names for rows that have none: the file's name and the row's number, from 0."""
    name = path.name
    return [f"{name}#{i}" for i in range(count)]


def new_pixels(path: Path, x: npt.NDArray[Any], channels: int, axis: bands.Axis | None) -> npt.NDArray[Any]:
    """Images that a trained network has never seen, (N, H, W, K) uint8 or float32.

    Args:
        x: (N, H, W), (N, H, W, K) or (N, K, H, W).
        channels: of the training images.
        axis: where the training file had them; it decides where the shape allows both.
    """
    if x.ndim == 4:
        fits: dict[bands.Axis, bool] = {"first": x.shape[1] == channels, "last": x.shape[3] == channels}
        if fits["first"] != fits["last"]:
            axis = "first" if fits["first"] else "last"
        axis = axis or _channel_axis(path, x.shape)
    return image_array(path, x, axis)


def image_array(path: Path, x: npt.NDArray[Any], axis: bands.Axis | None) -> npt.NDArray[Any]:
    """(N, H, W), (N, H, W, K) or (N, K, H, W) -> (N, H, W, K) uint8 or float32.

    Args:
        axis: that holds the K of four axes.
    """
    if x.ndim == 3:
        x = x[:, :, :, None]
    elif x.ndim != 4:
        raise DataError(f"{path}: X has shape {x.shape}; (N, F) is a table, (N, H, W) or (N, H, W, K) are images.")
    elif axis == "first":
        x = x.transpose(0, 2, 3, 1)
    try:
        return bands.scale(x)
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error


def number_columns(path: Path, x: npt.NDArray[Any], names: npt.NDArray[Any] | None) -> pa.Table:
    """(N, F) numbers as named columns."""
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: X holds {x.dtype}; features are numbers.")
    if names is not None and len(names) == x.shape[1]:
        columns = _values(names.ravel()).cast(pa.string()).to_pylist()
        doubled = sorted({name for name in columns if columns.count(name) > 1})
        if doubled:
            raise DataError(f"{path}: feature_names has more than one {', '.join(map(repr, doubled))}. Rename them.")
        return pa.table({name: x[:, k] for k, name in enumerate(columns)})
    return pa.table({f"x{k}": x[:, k] for k in range(x.shape[1])})


def _values(array: npt.NDArray[Any]) -> pa.Array:
    """(N,) names or numbers as Arrow has them; bytes become text."""
    return pa.array(array.tolist() if array.dtype.kind in "SU" else array)


def _one_per_row(path: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N,) or (N, 1) labels as (N,)."""
    if array.ndim > 1 and array.size != len(array):
        raise DataError(
            f"{path}: {name} has shape {array.shape}; it is one label for each row. Of one-hot rows, argmax(1) is."
        )
    return array.ravel()


def _channel_axis(path: Path, shape: tuple[int, ...]) -> bands.Axis:
    """Which axis of (N, ., ., .) is the channels. Raises DataError where it may be both."""
    axis = bands.channel_axis(shape[1:])
    if axis is None:
        first, middle, last = shape[1:]
        raise DataError(
            f"{path}: X of shape {shape} may be images of {first} x {middle} pixels and {last} channels, or of "
            f"{middle} x {last} pixels and {first} channels. Say which axis is the channels: --channels last or first."
        )
    return axis


def _parts(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> list[tuple[str, str]]:
    """(suffix of x and y, split) of the parts that a file has."""
    main = "_train" if "x_train" in arrays else ""
    if not {f"x{main}", f"y{main}"} <= arrays.keys():
        raise DataError(f"{path} needs the arrays X and y; it has {', '.join(arrays) or 'none'}.")
    others = [(f"_{name}", split) for name, split in (("val", "val"), ("test", "test")) if f"x_{name}" in arrays]
    lacking = [f"y{suffix}" for suffix, _ in others if f"y{suffix}" not in arrays]
    if lacking:
        raise DataError(f"{path} has no array {', '.join(lacking)}.")
    return [(main, "train" if others else ""), *others]


def _joined(path: Path, parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise DataError(
            f"{path}: the parts of X have different shapes: {', '.join(str(part.shape) for part in parts)}."
        )
    return np.concatenate(parts) if len(parts) > 1 else parts[0]
