"""Paths as people write them into lists are found, or it is said what to do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from litscope.data.sources.new import open_paths
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError


@pytest.fixture
def survey(tmp_path):
    """images/0.png to images/5.png, whose pixels are their numbers."""
    folder = tmp_path / "survey"
    (folder / "images").mkdir(parents=True)
    for i in range(6):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / "images" / f"{i}.png")
    return folder


def _open(survey, path, **options):
    paths = path if isinstance(path, list) else [path.format(i=i, folder=survey) for i in range(6)]
    rows = [f"{each},{'ab'[i % 2]}" for i, each in enumerate(paths)]
    (survey / "list.csv").write_text("\n".join(["filepath,label", *rows]))
    return open_source(survey / "list.csv", **{"val_split": 0, **options})


def _pixels(source):
    return [int(source.reader.read(i)[0, 0, 0]) for i in range(len(source.manifest))]


@pytest.mark.parametrize(
    ("path", "is_said"),
    [
        ("images/{i}.png", False),
        ("./images/{i}.png", False),
        (r"images\{i}.png", False),
        ("{folder}/images/{i}.png", False),
        ("file://{folder}/images/{i}.png", False),
        ("~/survey/images/{i}.png", False),
        (r"C:\data\images\{i}.png", True),
        (r"D:\photos\{i}.png", True),
        (r"\\server\share\survey\images\{i}.png", True),
        ("/home/somebody/survey/images/{i}.png", True),
        ("/content/drive/MyDrive/{i}.png", True),
        ("https://host.org/data/images/{i}.png?size=1", True),
        ("s3://bucket/survey/images/{i}.png", True),
        ("survey/images/{i}.png", True),
        ("{i}.png", True),
        ("images/{i}", True),
        ("{i}", True),
        ("images/{i}.PNG", True),
    ],
)
def test_paths_are_found_as_strangers_write_them(survey, path, is_said, monkeypatch):
    monkeypatch.setenv("HOME", str(survey.parent))
    source = _open(survey, path)
    assert _pixels(source) == list(range(6))
    assert any("6 image paths are not there as they stand" in note for note in source.notes) == is_said
    opened = open_paths([survey / "list.csv"], like=source)
    assert _pixels(opened) == list(range(6))
    assert any("not there as they stand" in note for note in opened.notes) == is_said


def test_each_row_in_a_way_of_its_own(survey, monkeypatch):
    monkeypatch.setenv("HOME", str(survey.parent))
    paths = [
        "images/0.png",
        r"C:\images\1.png",
        "~/survey/images/2.png",
        "https://host/images/3.png",
        "images/4",
        "images/5.PNG",
    ]
    source = _open(survey, paths)
    assert _pixels(source) == list(range(6))
    assert source.manifest.keys[1] == "images/1.png"


@pytest.mark.flag("image-root")
def test_the_root_is_given(survey, tmp_path):
    away = tmp_path / "away"
    (survey / "images").rename(away)
    with pytest.raises(
        DataError, match=r"no such file. Relative paths start from .*; another folder is named with --image-root"
    ):
        _open(survey, "{i}.png")
    source = _open(survey, "{i}.png", image_root=away)
    assert _pixels(source) == list(range(6))
    assert source.manifest.keys[0] == "0.png"
    assert _pixels(_open(survey, r"C:\images\{i}.png", image_root=away)) == list(range(6))
    assert _pixels(open_paths([survey / "list.csv"], like=source, image_root=away)) == list(range(6))
    with pytest.raises(DataError, match=r"None of the 6 images is there.*--image-root"):
        open_paths([survey / "list.csv"], like=source)
    with pytest.raises(ConfigError, match="there is no such folder"):
        _open(survey, "{i}.png", image_root=tmp_path / "nowhere")
    (survey / "t.csv").write_text("x,label\n1,a\n2,b\n")
    with pytest.raises(ConfigError, match=r"has no column of image paths\. Name it with --image-column"):
        open_source(survey / "t.csv", image_root=away)
    with pytest.raises(ConfigError, match=r"--image-root .* is for the paths in a list"):
        open_source("iris", image_root=away)


def test_a_url_that_is_not_there_is_called_one(survey):
    with pytest.raises(DataError, match="is a URL, and images are read from files: download them"):
        _open(survey, "https://host.org/{i}/cat.png")


def test_nothing_is_taken_for_another_file(survey):
    """A missing file among others stays missing; two files of one name are asked for; no two paths become one."""
    (survey / "old").mkdir()
    (survey / "images" / "5.png").rename(survey / "old" / "5.png")
    source = _open(survey, "images/{i}.png")
    with pytest.raises(DataError, match=r"images/5\.png: no such file"):
        source.reader.read(5)
    (survey / "images" / "4.jpg").write_bytes((survey / "images" / "4.png").read_bytes())
    source = _open(survey, ["images/0", "images/1", "images/2", "images/3", "images/4", "old/5.png"])
    with pytest.raises(DataError, match=r"images/4: no such file"):
        source.reader.read(4)
    (survey / "old" / "5.png").rename(survey / "images" / "5.png")
    with pytest.raises(DataError, match="None of the 6 files"):
        _open(survey, [f"/data/{folder}/0.png" for folder in "abcdef"])


def test_files_of_one_name_in_two_folders_are_not_guessed(survey):
    (survey / "more").mkdir()
    for i in range(6):
        Image.fromarray(np.full((8, 8, 3), 100 + i, np.uint8)).save(survey / "more" / f"{i}.png")
    with pytest.raises(DataError, match="--image-root"):
        _open(survey, "{i}.png")
    assert _pixels(_open(survey, "{i}.png", image_root=survey / "more")) == list(range(100, 106))


def test_a_long_list_is_looked_through_once(survey):
    paths = [f"/elsewhere/images/{i % 6}.png" for i in range(3000)]
    source = _open(survey, paths)
    assert set(_pixels(source)) == set(range(6))
    gone = [f"/elsewhere/images/{i}.png" for i in range(3000)]
    assert sum(key.startswith("/") for key in _open(survey, gone).manifest.keys) == 2994


def test_names_in_the_other_unicode_form_are_found(survey):
    """An archive that macOS packed has them so; the list was written by hand. Most others are there as they stand."""
    (survey / "cafe\u0301").mkdir()
    (survey / "images" / "0.png").rename(survey / "cafe\u0301" / "e\u0301t\u00e9.png")
    source = _open(survey, ["caf\u00e9/\u00e9t\u00e9.png", *(f"images/{i}.png" for i in range(1, 6))])
    assert _pixels(source) == [0, 1, 2, 3, 4, 5]
