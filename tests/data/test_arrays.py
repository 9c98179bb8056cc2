"""Images in `.npz` and `.npy` files: which axis holds the channels is told by the shape, or asked for, and said."""

from __future__ import annotations

import numpy as np
import pytest

from litscope.data.sources.again import open_again
from litscope.data.sources.new import open_paths
from litscope.data.sources.source import open_source
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
    with pytest.raises(ConfigError, match=r"--channels last is for the arrays of \.npz and \.npy files; iris has none"):
        open_source("iris", channels="last")


# ---- a file for each image ---------------------------------------------------------------------


def _folder(root, *shapes):
    rng = np.random.default_rng(0)
    written = {}
    for i in range(6):
        path = root / "ab"[i % 2] / f"{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        written[f"{'ab'[i % 2]}/{i}.npy"] = rng.integers(0, 256, shapes[i % len(shapes)], dtype=np.uint8)
        np.save(path, written[f"{'ab'[i % 2]}/{i}.npy"])
    return written


@pytest.mark.parametrize(("shape", "axis"), [((9, 9, 100), "last"), ((100, 9, 9), "first"), ((5, 12, 12), "first")])
def test_the_axis_of_the_bands_of_files(tmp_path, shape, axis):
    written = _folder(tmp_path / "data", shape)
    source = open_source(tmp_path / "data", val_split=0)
    channels = shape[2] if axis == "last" else shape[0]
    assert source.reader.channels == channels
    assert any(f"the {axis} axis is {channels} bands (else: --channels" in note for note in source.notes)
    for i, key in enumerate(source.manifest.keys):
        wanted = written[key] if axis == "last" else written[key].transpose(1, 2, 0)
        assert np.array_equal(source.reader.read(i), wanted)
    again = open_again(tmp_path / "data", like=source.manifest)
    opened = open_paths([tmp_path / "data"], like=source.encoding)
    assert np.array_equal(again.reader.read(2), source.reader.read(2))
    assert np.array_equal(opened.reader.read(2), source.reader.read(2))
    assert again.reader.size(0) == source.reader.read(0).shape[:2]


@pytest.mark.flag("channels")
def test_of_files_the_smaller_axis_is_taken_where_both_may_be_and_it_is_said(tmp_path):
    written = _folder(tmp_path / "data", (5, 5, 5))
    source = open_source(tmp_path / "data", val_split=0)
    assert np.array_equal(source.reader.read(0), written[source.manifest.keys[0]])
    assert any("the last axis is 5 bands (else: --channels first)" in note for note in source.notes)
    source = open_source(tmp_path / "data", val_split=0, channels="first")
    assert np.array_equal(source.reader.read(0), written[source.manifest.keys[0]].transpose(1, 2, 0))
    assert not np.array_equal(source.reader.read(0), written[source.manifest.keys[0]])
    _folder(tmp_path / "flat", (5, 5))
    with pytest.raises(ConfigError, match="have no axis of channels"):
        open_source(tmp_path / "flat", val_split=0, channels="first")


def test_one_file_that_tells_the_axis_tells_it_of_all(tmp_path):
    written = _folder(tmp_path / "data", (8, 6, 8), (8, 9, 9))
    source = open_source(tmp_path / "data", val_split=0)
    assert source.reader.channels == 8
    assert np.array_equal(source.reader.read(0), written[source.manifest.keys[0]].transpose(1, 2, 0))


def test_runs_of_earlier_versions_read_files_by_the_smaller_axis(tmp_path):
    _folder(tmp_path / "data", (9, 9, 100))
    old = {"kind": "image", "channels": 9, "dtype": "uint8"}
    assert open_paths([tmp_path / "data"], like=old).reader.read(0).shape == (9, 100, 9)


# ---- tables --------------------------------------------------------------------------------------


def _table(path, **arrays):
    x = np.random.default_rng(0).normal(size=(12, 3))
    np.savez(path, **{"X": x, "y": np.arange(12) % 2, **arrays})
    return arrays.get("X", x)


def test_bytes_are_text_in_every_array(tmp_path):
    arrays = {"y": [b"a", b"b"] * 6, "split": [b"train"] * 8 + [b"val"] * 4, "group": [b"p", b"q"] * 6}
    _table(tmp_path / "a.npz", **{name: np.array(values) for name, values in arrays.items()})
    manifest = open_source(tmp_path / "a.npz").manifest
    assert manifest.classes == ("a", "b")
    assert manifest.splits.tolist() == ["train"] * 8 + ["val"] * 4
    assert manifest.groups.tolist() == ["p", "q"] * 6


def test_rows_whose_group_is_nan_are_no_group(tmp_path):
    _table(tmp_path / "a.npz", group=np.array([np.nan, 1, 2] * 4))
    assert open_source(tmp_path / "a.npz").manifest.groups.tolist() == [None, "1", "2"] * 4


def test_any_byte_order(tmp_path):
    x = _table(tmp_path / "a.npz", X=np.arange(36, dtype=">f8").reshape(12, 3), y=np.array([3, 7] * 6, ">i2"))
    source = open_source(tmp_path / "a.npz")
    assert np.array_equal(source.reader.array, x)
    assert source.manifest.classes == ("3", "7")


def test_two_features_of_one_name_are_refused(tmp_path):
    _table(tmp_path / "a.npz", feature_names=np.array(["a", "b", "a"]))
    with pytest.raises(DataError, match="feature_names has more than one 'a'"):
        open_source(tmp_path / "a.npz")


def test_labels_are_one_for_each_row(tmp_path):
    _table(tmp_path / "a.npz", y=np.eye(2)[np.arange(12) % 2])
    with pytest.raises(DataError, match=r"y has shape \(12, 2\); it is one label for each row"):
        open_source(tmp_path / "a.npz")


def test_the_names_of_medmnist(tmp_path):
    images, labels = np.zeros((8, 5, 5), np.uint8), np.arange(8)[:, None] % 2
    parts = {"train": 8, "val": 4, "test": 2}
    arrays = {f"{name}_images": images[:n] for name, n in parts.items()}
    np.savez(tmp_path / "a.npz", **arrays, **{f"{name}_labels": labels[:n] for name, n in parts.items()})
    manifest = open_source(tmp_path / "a.npz").manifest
    assert {name: len(manifest.ids(name)) for name in parts} == parts
    assert manifest.labels.tolist() == [0, 1] * 7
