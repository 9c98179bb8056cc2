"""Images in `.npz` files: which axis holds the channels is told by the shape, or asked for, and said."""

from __future__ import annotations

import numpy as np
import pytest

from litscope.data.sources.source import open_paths, open_source
from litscope.errors import ConfigError, DataError


def _open(path, shape, **options):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(path, X=x, y=np.arange(len(x)) % 2)
    return x, open_source(path, **{"val_split": 0, **options})


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((6, 9, 9, 100), "last"),
        ((6, 100, 9, 9), "first"),
        ((6, 3, 8, 8), "first"),
        ((6, 8, 8, 3), "last"),
        ((6, 1, 28, 28), "first"),
        ((6, 28, 28, 1), "last"),
        ((6, 5, 28, 28), "first"),
        ((6, 2, 5, 5), "first"),
        ((6, 4, 4, 3), "last"),
        ((6, 30, 40, 3), "last"),
        ((6, 3, 30, 40), "first"),
        ((6, 48, 64, 8), "last"),
        ((6, 8, 48, 64), "first"),
        ((6, 200, 12, 12), "first"),
    ],
)
def test_the_axis_of_the_channels(tmp_path, shape, axis):
    x, source = _open(tmp_path / "a.npz", shape)
    wanted = x if axis == "last" else x.transpose(0, 2, 3, 1)
    assert np.array_equal(source.reader.array, wanted)
    height, width, channels = wanted.shape[1:]
    other = "first" if axis == "last" else "last"
    said = f"images of {height} x {width} pixels; the {axis} axis is {channels} channels (else: --channels {other})"
    assert any(said in note for note in source.notes)
    assert np.array_equal(open_paths([tmp_path / "a.npz"], like=source).reader.array, wanted)


@pytest.mark.flag("channels")
@pytest.mark.parametrize("shape", [(6, 5, 5, 5), (6, 3, 3, 64), (6, 20, 30, 12), (6, 3, 16, 3), (6, 3, 3, 3)])
def test_where_both_axes_may_be_it_is_asked_for(tmp_path, shape):
    with pytest.raises(DataError, match=r"Say which axis is the channels: --channels last or first"):
        _open(tmp_path / "a.npz", shape)
    for axis in ("first", "last"):
        x, source = _open(tmp_path / "a.npz", shape, channels=axis)
        wanted = x if axis == "last" else x.transpose(0, 2, 3, 1)
        assert np.array_equal(source.reader.array, wanted)
        assert np.array_equal(open_paths([tmp_path / "a.npz"], like=source.encoding).reader.array, wanted)


def test_new_arrays_may_have_the_other_order(tmp_path):
    _, source = _open(tmp_path / "a.npz", (6, 3, 8, 8))
    x = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "n.npz", X=x)
    assert np.array_equal(open_paths([tmp_path / "n.npz"], like=source).reader.array, x)


@pytest.mark.parametrize("shape", [(6, 28, 28), (6, 4)])
def test_channels_are_asked_for_only_where_there_are_some(tmp_path, shape):
    with pytest.raises(ConfigError, match="so it has no axis of channels"):
        _open(tmp_path / "a.npz", shape, channels="last")
    with pytest.raises(ConfigError, match=r"--channels last is for the arrays of an \.npz file"):
        open_source("iris", channels="last")
