"""Readers: one contract, every implementation; `.npy` bands; fingerprints."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from litscope.data.reading.bands import read_bands, read_bands_header
from litscope.data.reading.readers import ArrayReader, FileReader
from litscope.errors import DataError

RNG = np.random.default_rng(0)


def _image_files(folder):
    folder.mkdir()
    for i in range(5):
        Image.fromarray(RNG.integers(0, 256, (6 + i, 9, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return FileReader(folder, [f"{i}.png" for i in range(5)], 3)


def _band_files(folder):
    folder.mkdir()
    for i in range(5):
        np.save(folder / f"{i}.npy", RNG.normal(size=(16 + i, 9, 7)))
    return FileReader(folder, [f"{i}.npy" for i in range(5)], 7, np.float32)


def _image_array(folder):
    return ArrayReader(RNG.integers(0, 256, (5, 6, 9, 3), dtype=np.uint8))


def _table(folder):
    return ArrayReader(RNG.normal(size=(5, 4)).astype(np.float32))


@pytest.fixture(params=[_image_files, _band_files, _image_array, _table])
def reader(request, tmp_path):
    return request.param(tmp_path / "files")


def test_reading_keeps_the_promises_of_the_reader(reader):
    for i in range(5):
        row = reader.read(i)
        assert row.dtype == reader.dtype
        assert row.shape[-1] == reader.channels
        assert row.ndim == (3 if reader.kind == "image" else 1)
        if reader.kind == "image":
            assert reader.size(i) == row.shape[:2]
        if reader.array is not None:
            assert np.array_equal(reader.array[i], row)


def test_a_reader_can_be_pickled(reader):
    again = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(again.read(3), reader.read(3))
    assert again.fingerprint() == reader.fingerprint()


def test_many_threads_may_read_at_once(reader):
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(reader.read, [0, 1, 2, 3, 4] * 10))
    for i, row in enumerate(rows):
        assert np.array_equal(row, reader.read(i % 5))


def test_an_id_that_is_not_there(reader):
    with pytest.raises((DataError, IndexError)):
        reader.read(5)


def test_the_fingerprint_of_files_changes_with_size_time_and_presence(tmp_path):
    reader = _image_files(tmp_path / "a")
    seen = {reader.fingerprint(), FileReader(reader.root, ["0.png", "1.png"], 3).fingerprint()}
    os.utime(reader.path(1), ns=(1, 1))
    seen.add(reader.fingerprint())
    reader.path(1).unlink()
    seen.add(reader.fingerprint())
    assert len(seen) == 4
    assert FileReader(reader.root, [f"{i}.png" for i in range(5)], 1).fingerprint() not in seen


def test_the_fingerprint_of_an_array_changes_with_a_value():
    array = np.zeros((4, 3, 3, 1), np.uint8)
    before = ArrayReader(array.copy()).fingerprint()
    array[2, 1, 1, 0] = 1
    assert ArrayReader(array).fingerprint() != before
    assert ArrayReader(np.zeros((4, 3, 1, 3), np.uint8)).fingerprint() != before


def test_broken_files_are_named_with_their_reason(tmp_path):
    reader = _image_files(tmp_path / "a")
    reader.path(2).write_bytes(b"GIF89a nothing")
    reader.path(3).unlink()
    for read in (reader.read, reader.size):
        with pytest.raises(DataError, match=r"a/2\.png: "):
            read(2)
        with pytest.raises(DataError, match=r"a/3\.png: no such file\."):
            read(3)


def test_absolute_paths_are_read_where_they_are(tmp_path):
    reader = _image_files(tmp_path / "a")
    elsewhere = FileReader(tmp_path / "b", [str(reader.path(1).absolute())], 3)
    assert np.array_equal(elsewhere.read(0), reader.read(1))


def test_gray_files_are_read_as_colour_where_the_data_set_is(tmp_path):
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "g.png")
    assert FileReader(tmp_path, ["g.png"], 3).read(0).tolist() == np.full((4, 4, 3), 7).tolist()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 9), (5, 9, 1)),
        ((5, 9, 3), (5, 9, 3)),
        ((3, 5, 9), (5, 9, 3)),
        ((6, 6, 6), (6, 6, 6)),
        ((1, 5, 9), (5, 9, 1)),
    ],
)
def test_layouts_of_npy_files(tmp_path, shape, expected):
    values = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    out = read_bands(tmp_path / "a.npy")
    assert out.shape == expected
    header = read_bands_header(tmp_path / "a.npy")
    assert (header.height, header.width, header.num_bands) == expected
    if shape == (3, 5, 9):
        assert np.array_equal(out[:, :, 1], values[1])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 255]], np.uint8), np.array([0, 255], np.uint8)),
        (np.array([[False, True]]), np.array([0, 255], np.uint8)),
        (np.array([[0, 65535]], np.uint16), np.array([0, 1], np.float32)),
        (np.array([[0, 65535]], ">u2"), np.array([0, 1], np.float32)),
        (np.array([[0, 2**32 - 1]], np.uint32), np.array([0, 1], np.float32)),
        (np.array([[-5, 1000]], np.int16), np.array([-5, 1000], np.float32)),
        (np.array([[-0.5, 3.25]], np.float64), np.array([-0.5, 3.25], np.float32)),
        (np.asfortranarray(np.array([[0.5, 1.5]], np.float16)), np.array([0.5, 1.5], np.float32)),
    ],
)
def test_scales_of_npy_files(tmp_path, values, expected):
    np.save(tmp_path / "a.npy", values)
    out = read_bands(tmp_path / "a.npy")
    assert out.dtype == expected.dtype == read_bands_header(tmp_path / "a.npy").dtype
    assert np.array_equal(out.ravel(), expected)
    assert out.flags.c_contiguous


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.array([[1.0, np.nan]]), "1 values are NaN"),
        (np.array([["a", "b"]]), "values of type <U1"),
        (np.array([[1j]]), "values of type complex"),
        (np.array([[1]], np.uint64), "values of type uint64"),
        (np.zeros(4), "shape"),
        (np.zeros((2, 2, 2, 2)), "shape"),
        (np.zeros((0, 4)), "shape"),
    ],
)
def test_npy_files_that_are_no_images(tmp_path, content, reason):
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(DataError, match=reason):
        read_bands(tmp_path / "a.npy")


def test_damaged_npy_files(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 4)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="8 bytes too early"):
        read_bands_header(path)
    path.write_bytes(b"no array")
    with pytest.raises(DataError, match=r"not a \.npy file"):
        read_bands_header(path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="values of type object"):
        read_bands(path)


def test_a_npy_file_with_other_bands_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4, 2), np.float32))
    with pytest.raises(DataError, match="2 bands of float32; the data set has 3 of float32"):
        FileReader(tmp_path, ["a.npy"], 3, np.float32).read(0)


def test_arrays_of_another_shape_are_refused():
    with pytest.raises(TypeError, match="float64"):
        ArrayReader(np.zeros((3, 2)))
    with pytest.raises(DataError, match="no image"):
        ArrayReader(np.zeros((3, 2), np.float32)).size(0)
