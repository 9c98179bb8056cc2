"""`.npz` files that promise more than they hold, or more than fits: refused before anything is inflated."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from litscope.data.reading import npz
from litscope.data.reading.npz import read_npz
from litscope.data.sources.source import open_source
from litscope.errors import DataError


def test_arrays_come_by_their_lower_case_names(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.arange(6).reshape(3, 2), y=np.array(["a", "b", "a"]))
    arrays = read_npz(tmp_path / "a.npz")
    assert sorted(arrays) == ["x", "y"]
    assert arrays["x"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, X=np.zeros((60_000, 1_000), np.uint8), y=np.arange(60_000) % 2)
    assert path.stat().st_size < 1_000_000
    monkeypatch.setattr(npz, "memory_available_bytes", lambda: 50_000_000)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"inflated it takes 0\.1 GB, and 0\.1 GB of memory are free"):
        open_source(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def _with_header(path: Path, shape: tuple[int, ...], data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive, archive.open("X.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(data)


@pytest.mark.parametrize("shape", [(2**40,), (2**40, 2**40), (10, 11)])
def test_a_header_that_promises_more_than_there_is(tmp_path, shape):
    _with_header(tmp_path / "x.npz", shape, bytes(10))
    with pytest.raises(DataError, match=r"the array X promises .* bytes and holds"):
        read_npz(tmp_path / "x.npz")


def _damage(path: Path, kind: str) -> None:
    np.savez_compressed(path, X=np.random.default_rng(0).normal(size=(50, 3)), y=np.arange(50) % 2)
    data = bytearray(path.read_bytes())
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "flipped":
        data[200:240] = bytes(255 - value for value in data[200:240])
        path.write_bytes(data)
    elif kind == "encrypted":
        at = data.index(b"PK\x01\x02")
        data[at + 8] |= 1
        path.write_bytes(data)
    elif kind == "method":
        at = data.index(b"PK\x01\x02")
        data[at + 10] = 77
        path.write_bytes(data)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps([1, 2]))
    elif kind == "objects":
        np.savez(path, X=np.array([{}, 1], dtype=object), y=np.arange(2))
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "not arrays":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("X.npy", "hello, this is text")
    elif kind == "negative":
        _with_header(path, (-3, 2), bytes(10))
    elif kind == "no names":
        with zipfile.ZipFile(path, "w"):
            pass


KINDS = ["empty", "cut", "flipped", "encrypted", "method", "pickle", "objects", "npy", "not arrays", "negative"]


@pytest.mark.parametrize("kind", [*KINDS, "no names"])
def test_a_damaged_or_strange_file_is_one_sentence(tmp_path, kind):
    path = tmp_path / "x.npz"
    _damage(path, kind)
    with pytest.raises(DataError, match=r"x\.npz") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
