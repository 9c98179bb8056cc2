"""Folders as strangers make them: linked in circles, names of two forms, splits under other names, odd entries."""

from __future__ import annotations

import os
import socket
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from pet_images import opened, write_images, write_pets

from litscope.data.opened import open_data
from litscope.data.preflight import inspect
from litscope.data.reading.digests import file_digest
from litscope.data.settings import DataSettings
from litscope.data.sources.layout import split_of
from litscope.data.sources.listing import look_alikes
from litscope.data.sources.new import open_paths
from litscope.errors import DataError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return write_pets(tmp_path / "pets")


def _counts(source) -> dict[str, int]:
    manifest = source.manifest
    return {name: int((manifest.labels == k).sum()) for k, name in enumerate(manifest.classes)}


def _link(place: Path, target: Path) -> None:
    place.symlink_to(target, target_is_directory=True)


# ---- links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "cat", "../cat"])
def test_a_link_that_leads_back_is_not_followed_and_said(pets, target):
    _link(pets / "cat" / "back", Path(target) if target != "cat" else pets / "cat")
    source = opened(pets)
    assert _counts(source) == {"cat": 4, "dog": 4}
    assert any("1 links" in note and "cat/back" in note for note in source.notes)


def test_a_class_folder_that_links_to_its_own_root_is_no_class(pets):
    _link(pets / "all", pets)
    source = opened(pets)
    assert _counts(source) == {"cat": 4, "dog": 4}
    assert any("not followed: all" in note for note in source.notes)


def test_a_split_that_links_to_its_own_root_is_no_split(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            write_images(tmp_path / "x" / split / name)
    _link(tmp_path / "x" / "val", tmp_path / "x")
    assert len(opened(tmp_path / "x").manifest) == 16


def test_a_link_back_from_outside_is_not_followed(pets, tmp_path):
    write_images(tmp_path / "more")
    _link(tmp_path / "more" / "home", tmp_path)
    _link(pets / "cat" / "more", tmp_path / "more")
    assert _counts(opened(pets)) == {"cat": 8, "dog": 4}


def test_a_folder_and_a_link_to_it_count_once(pets):
    write_images(pets / "cat" / "z", start=4)
    _link(pets / "cat" / "a", pets / "cat" / "z")
    source = opened(pets)
    assert _counts(source) == {"cat": 8, "dog": 4}
    assert "cat/z/4.png" in source.manifest.keys.tolist()


def test_a_link_to_another_folder_is_followed(pets, tmp_path):
    write_images(tmp_path / "elk")
    _link(pets / "elk", tmp_path / "elk")
    assert _counts(opened(pets)) == {"cat": 4, "dog": 4, "elk": 4}


@pytest.mark.parametrize("place", ["loop", "cat/loop", "cat/loop.png"])
def test_a_link_to_itself_is_set_aside(pets, place):
    _link(pets / place, pets / place)
    source = opened(pets)
    assert _counts(source) == {"cat": 4, "dog": 4}
    report = inspect(source)
    assert report.unreadable == [(place, "too many levels of symbolic links")]
    assert not report.is_clean


def test_a_link_to_nothing_is_an_unreadable_file(pets):
    (pets / "cat" / "gone.png").symlink_to(pets / "nowhere.png")
    (pets / "cat" / "gone").symlink_to(pets / "nowhere")
    [(key, reason)] = inspect(opened(pets)).unreadable
    assert (key, reason) == ("cat/gone.png", "no such file or directory")


def _deny(monkeypatch, folder: Path) -> None:
    """As for somebody who may not read the folder; root may read all."""
    scandir = os.scandir

    def denied(path):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)


def test_a_folder_that_may_not_be_read_is_set_aside_and_counted(pets, monkeypatch):
    write_images(pets / "cat" / "secret")
    _deny(monkeypatch, pets / "cat" / "secret")
    source = opened(pets)
    assert _counts(source) == {"cat": 4, "dog": 4}
    report = inspect(source)
    assert ("cat/secret", "permission denied") in report.unreadable
    assert "1 unreadable files are set aside:" in report.lines()
    with pytest.raises(DataError, match="cat/secret: permission denied"):
        open_data(DataSettings(dataset=str(pets), strict_data=True, cache=False))


def test_a_class_that_may_not_be_read_is_an_empty_class(pets, monkeypatch):
    write_images(pets / "elk")
    _deny(monkeypatch, pets / "elk")
    report = inspect(opened(pets))
    assert report.empty_classes == ["elk"]
    assert report.unreadable == [("elk", "permission denied")]


def test_a_root_that_may_not_be_read_is_an_error(pets, monkeypatch):
    _deny(monkeypatch, pets)
    with pytest.raises(DataError, match="cannot be read: permission denied"):
        opened(pets)


# ---- what is no regular file -------------------------------------------------------------------


def _odd(kind: str, path: Path) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has 108 letters at most
        try:
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_what_is_no_regular_file_is_never_opened(pets, kind, name):
    _odd(kind, pets / "cat" / name)
    source = opened(pets)
    [(key, reason)] = inspect(source).unreadable
    assert key == f"cat/{name}"
    assert reason.startswith("not a regular file, but a")
    stored = open_data(DataSettings(dataset=str(pets), val_split=0, cache=False))
    assert stored.report.unreadable_ids.tolist() == source.manifest.sample_ids[source.manifest.keys == key].tolist()
    with pytest.raises(DataError, match="not a regular file"):
        source.reader.read(source.manifest.keys.tolist().index(key))


def test_a_fifo_among_arrays_in_lists_and_in_new_data(tmp_path, pets):
    for name in "ab":
        (tmp_path / "n" / name).mkdir(parents=True)
        np.save(tmp_path / "n" / name / "0.npy", np.zeros((4, 4), np.uint8))
    os.mkfifo(tmp_path / "n" / "a" / "1.npy")
    assert [key for key, _ in inspect(opened(tmp_path / "n")).unreadable] == ["a/1.npy"]
    os.mkfifo(pets / "x.png")
    (pets / "list.csv").write_text("filepath,label\ncat/0.png,a\ndog/0.png,b\nx.png,a\ndog/1.png,b\n")
    assert [key for key, _ in inspect(opened(pets / "list.csv")).unreadable] == ["x.png"]
    new = open_paths([pets], like=opened(pets / "list.csv"))
    with pytest.raises(DataError, match="not a regular file, but a FIFO"):
        new.reader.read(new.manifest.keys.tolist().index(str(pets / "x.png")))
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(DataError, match="not a regular file, but a FIFO"):
        open_paths([tmp_path / "t.csv"], like=new)


def test_a_digest_of_what_is_no_regular_file_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match="not a regular file, but a FIFO"):
        file_digest(tmp_path / "x.png")


# ---- names -------------------------------------------------------------------------------------

NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def test_two_unicode_forms_of_a_name_are_one_class(tmp_path):
    write_images(tmp_path / "train" / NFC)
    write_images(tmp_path / "train" / "tea")
    write_images(tmp_path / "test" / NFD)
    write_images(tmp_path / "test" / "tea")
    source = opened(tmp_path)
    assert source.manifest.classes == (NFC, "tea")
    assert f"test/{NFD}/0.png" in source.manifest.keys.tolist()
    assert inspect(source).empty_classes == []
    assert any("are one class" in note for note in source.notes)


def test_white_space_around_a_folders_name_is_dropped_and_said(tmp_path):
    for name in ("cat", "cat ", "dog"):
        write_images(tmp_path / name)
    source = opened(tmp_path)
    assert _counts(source) == {"cat": 8, "dog": 4}
    assert any("'cat' and 'cat '" in note for note in source.notes)
    assert any("white space around 1 folder names" in note for note in source.notes)


@pytest.mark.parametrize(
    ("one", "other"), [("Cat", "cat"), ("hot dog", "hot_dog"), ("ﬁg", "fig"), ("c\u200bat", "cat"), ("a-1", "a_1")]
)
def test_classes_that_look_alike_are_noted(tmp_path, one, other):
    for name in (one, other):
        write_images(tmp_path / name)
    assert any("different classes" in note for note in opened(tmp_path).notes)


def test_numbers_with_a_sign_do_not_look_alike():
    assert look_alikes(("-1", "1", "a", "b")) == []


def test_images_below_hidden_names_are_counted_and_said(pets):
    write_images(pets / "__background__", 5)
    write_images(pets / "dog" / ".old", 2)
    write_images(pets / "__MACOSX", 3)
    (pets / "cat" / ".x.png").write_bytes(b"")
    (pets / "cat" / "._0.png").write_bytes(b"")
    source = opened(pets)
    assert source.manifest.classes == ("cat", "dog")
    [note] = [note for note in source.notes if "passed over, because" in note]
    assert note.startswith("8 images")
    assert "__background__, cat/.x.png, dog/.old" in note
    assert "MACOSX" not in note


def test_pictures_of_other_kinds_are_named(pets):
    """A phone's .heic files are images to everybody but us, and may be half of a class."""
    for name in ("a.heic", "b.HEIC", "c.dng", "Thumbs.db", "README"):
        (pets / "cat" / name).write_bytes(b"x")
    notes = [
        "2 files that are not images are passed over (1 .db, 1 without an ending)",
        "3 images of a kind that is not read are passed over (2 .heic, 1 .dng): convert them to JPEG, PNG or .npy",
    ]
    source = opened(pets)
    assert [note for note in source.notes if "passed over" in note] == notes
    assert [note for note in open_paths([pets], like=source).notes if "passed over" in note] == notes


def test_a_folder_of_pictures_of_another_kind(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no images.* 2 images of a kind .*2 \.heic\): convert them"):
        opened(tmp_path)


# ---- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "TESTING"),
        ("train_images", "test_images"),
        ("trainset", "testset"),
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("train2017", "test2017"),
        ("images_train", "images-test"),
        ("TrainImages", "TestImages"),
        ("train_set/train_set", "test_set/test_set"),
        ("images/train", "images/test"),
        ("dataset/train", "dataset/test_images"),
        ("data/seg_train/seg_train", "data/seg_test/seg_test"),
    ],
)
def test_splits_are_found_by_their_usual_names_and_one_level_down(tmp_path, train, test):
    for name in ("a", "b"):
        write_images(tmp_path / train / name)
        write_images(tmp_path / test / name, 2)
    source = opened(tmp_path)
    assert source.manifest.classes == ("a", "b")
    assert len(source.manifest.ids("train")) == 8
    assert len(source.manifest.ids("test")) == 4
    if train != "Training":
        assert any(note.startswith("splits: ") and f"train is {train}/" in note for note in source.notes)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("val_images", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("dev", "val"),
        ("training data", "train"),
        ("images", None),
        ("data", None),
        ("brain", None),
        ("train_test", None),
        ("train_1", None),
        ("", None),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


def test_the_folders_beside_are_named(tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / "images" / "train" / name)
        write_images(tmp_path / "images" / "val" / name)
    write_images(tmp_path / "images" / "extra" / "a")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "0.txt").write_text("0 .5 .5 1 1")
    source = opened(tmp_path)
    assert source.manifest.classes == ("a", "b")
    assert any("not used: images/extra, labels" in note for note in source.notes)


def test_a_folder_around_the_classes_is_looked_into(tmp_path):
    for name in ("Cat", "Dog"):
        write_images(tmp_path / "PetImages" / name)
    (tmp_path / "readme.txt").write_text("x")
    source = opened(tmp_path)
    assert source.manifest.classes == ("Cat", "Dog")
    assert any("PetImages/" in note for note in source.notes)


def test_splits_inside_of_classes_are_said(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name / "train")
        write_images(tmp_path / name / "test")
    source = opened(tmp_path)
    assert source.manifest.classes == ("cat", "dog")
    assert any("read as parts of the class" in note for note in source.notes)


@pytest.mark.parametrize(
    "layout",
    [
        ("images/train", "labels/train", ".txt"),
        ("images", "labels", ".txt"),
        ("train/images", "train/labels", ".txt"),
        ("JPEGImages", "Annotations", ".xml"),
        ("train2017", "annotations", ".json"),
        (".", ".", ".txt"),
        ("train", "train", ".txt"),
    ],
)
def test_a_detection_layout_is_named(tmp_path, layout):
    images, labels, suffix = layout
    write_images(tmp_path / images)
    (tmp_path / labels).mkdir(parents=True, exist_ok=True)
    for i in range(4):
        (tmp_path / labels / f"{i}{suffix}").write_text("0 .5 .5 1 1")
    with pytest.raises(DataError, match="object detection"):
        opened(tmp_path)


def test_a_segmentation_layout_is_named(tmp_path):
    write_images(tmp_path / "images")
    write_images(tmp_path / "masks")
    with pytest.raises(DataError, match="segmentation"):
        opened(tmp_path)


def test_classes_may_have_such_names_among_others(tmp_path):
    for name in ("images", "masks", "labels"):
        write_images(tmp_path / name)
    assert opened(tmp_path).manifest.classes == ("images", "labels", "masks")
