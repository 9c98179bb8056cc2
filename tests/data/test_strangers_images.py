"""Image files as strangers make them: damaged, animated, of many kinds; `check` and `fit` say the same of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pet_images import opened, photo, write_pets
from PIL import Image

from litscope.data.opened import open_data
from litscope.data.preflight import inspect
from litscope.data.settings import DataSettings
from litscope.errors import DataError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return write_pets(tmp_path / "pets")


def _tiff(path: Path, value: float) -> None:
    Image.fromarray(np.full((8, 8), value, np.float32)).save(path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x.tif", lambda path: _tiff(path, np.nan)),
        ("x.tif", lambda path: _tiff(path, 300.0)),
        ("x.tif", lambda path: Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(path)),
        ("x.tif", lambda path: (photo(0).save(path), path.write_bytes(path.read_bytes()[:100]))),
        ("x.bmp", lambda path: (photo(0).save(path), _cut(path))),
        ("x.ppm", lambda path: (photo(0).save(path), _cut(path))),
        ("x.gif", lambda path: (photo(0).save(path), path.write_bytes(path.read_bytes()[:250]))),
    ],
)
def test_check_says_what_fit_says(pets, name, make):
    make(pets / "cat" / name)
    source = opened(pets)
    found = [key for key, _ in inspect(source).unreadable]
    stored = open_data(DataSettings(dataset=str(pets), val_split=0, cache=False))
    assert found == [f"cat/{name}"]
    assert [key for key, _ in stored.report.unreadable] == found
    with pytest.raises(DataError):
        source.reader.read(source.manifest.keys.tolist().index(found[0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_check_finds_numbers_that_are_none_in_arrays(tmp_path, value):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(3):
            np.save(tmp_path / name / f"{i}.npy", np.full((4, 4, 5), i, np.float32))
    np.save(tmp_path / "a" / "2.npy", np.full((4, 4, 5), value, np.float32))
    assert [key for key, _ in inspect(opened(tmp_path)).unreadable] == ["a/2.npy"]


def test_how_unusual_files_are_read_is_said_with_counts(pets):
    frames = [photo(i) for i in range(3)]
    frames[0].save(pets / "cat" / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(pets / "cat" / "a2.png", save_all=True, append_images=frames[1:])
    frames[0].save(pets / "cat" / "a3.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(pets / "cat" / "p.tif", save_all=True, append_images=frames[1:])
    frames[1].convert("CMYK").save(pets / "dog" / "c.jpg")
    frames[2].convert("CMYK").save(pets / "dog" / "c.tif")
    frames[1].convert("RGBA").save(pets / "dog" / "r.png")
    frames[2].convert("LA").save(pets / "dog" / "l.png")
    Image.fromarray(np.full((8, 8), 9_000, np.uint16)).save(pets / "dog" / "d.png")
    report = inspect(opened(pets))
    assert report.unreadable == []
    for line in (
        "3 animated images: the first frame is read",
        "1 files of several pages: the first page is read",
        "2 images with an alpha channel or a transparent colour: laid on white",
        "2 CMYK images: converted to RGB without a colour profile",
        "1 images of more than 8 bits: brought to 8",
    ):
        assert line in report.notes
        assert line in report.lines()


def test_plain_images_have_nothing_to_say(pets):
    assert inspect(opened(pets)).notes == opened(pets).notes


def test_what_is_said_is_kept_with_the_findings(pets, tmp_path):
    photo(1).convert("RGBA").save(pets / "dog" / "r.png")
    (tmp_path / "kept").mkdir()
    first = inspect(opened(pets), kept_in=tmp_path / "kept").notes
    assert inspect(opened(pets), kept_in=tmp_path / "kept").notes == first
    assert any("alpha" in note for note in first)


def test_a_huge_or_odd_array_is_refused_from_its_header(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "0.npy", np.zeros((4, 4), np.uint8))
    with (tmp_path / "a" / "huge.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**20)})
        file.truncate(2**40 + 200)  # sparse: it takes no room
    with (tmp_path / "a" / "wrap.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 2**40)})
    with (tmp_path / "a" / "minus.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (-4, 4)})
    reasons = dict(inspect(opened(tmp_path)).unreadable)
    assert "at most" in reasons["a/huge.npy"]
    assert "too early" in reasons["a/wrap.npy"]
    assert "shape (-4, 4)" in reasons["a/minus.npy"]
