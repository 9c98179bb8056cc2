"""Sources: what `--dataset` may name, the same manifest whatever the file system says, and never-seen data."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from litscope.data.sources import folders
from litscope.data.sources.listing import order_classes
from litscope.data.sources.new import open_paths
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError


def _save(path, value=0, channels=3, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if channels == 1 else (*size, channels)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)
    return path


@pytest.fixture
def split_folder(tmp_path):
    root = tmp_path / "pets"
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        for k, name in enumerate(("cat", "dog")):
            for i in range(count):
                _save(root / split / name / f"{i}.png", value=10 * k + i)
    return root


# ---- folders -----------------------------------------------------------------------------------


def test_a_folder_with_splits(split_folder):
    source = open_source(split_folder)
    manifest = source.manifest
    assert manifest.classes == ("cat", "dog")
    assert [manifest.counts(s).tolist() for s in ("train", "val", "test")] == [[6, 6], [2, 2], [3, 3]]
    assert manifest.keys.tolist() == sorted(manifest.keys)
    assert manifest.keys[0] == "test/cat/0.png"
    for i in range(len(manifest)):
        assert (manifest.labels[i] == 1) == ("/dog/" in manifest.keys[i])
        assert source.reader.read(i)[0, 0, 0] == 10 * manifest.labels[i] + int(manifest.keys[i][-5])
    assert (source.kind, source.reader.channels, source.name) == ("image", 3, "pets")


def test_a_folder_of_classes_is_split(tmp_path):
    for name in ("b", "a"):
        for i in range(20):
            _save(tmp_path / name / f"{i}.png", channels=1)
    source = open_source(tmp_path, val_split=0.2, test_split=0.1)
    assert [source.manifest.counts(s).tolist() for s in ("train", "val", "test")] == [[14, 14], [4, 4], [2, 2]]
    assert source.manifest.classes == ("a", "b")
    assert source.reader.channels == 1
    assert any("4 samples set aside" in note for note in source.notes)


def test_the_order_of_the_file_system_does_not_matter(split_folder, monkeypatch):
    before = open_source(split_folder).manifest
    scandir = os.scandir
    monkeypatch.setattr(folders.os, "scandir", lambda path: sorted(scandir(path), key=lambda e: e.name, reverse=True))
    assert open_source(split_folder).manifest.table.equals(before.table)


def test_numbered_classes_stand_in_the_order_of_their_numbers(tmp_path):
    for k in range(12):
        _save(tmp_path / str(k) / "a.png")
    assert open_source(tmp_path, val_split=0).manifest.classes == tuple(str(k) for k in range(12))
    assert order_classes(["b", "10", "9"]) == ("10", "9", "b")


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car", "boat", "train"):
        for i in range(3):
            _save(tmp_path / name / f"{i}.png")
    assert open_source(tmp_path).manifest.classes == ("boat", "car", "train")


def test_folders_below_a_class_belong_to_it_and_hidden_ones_do_not(tmp_path):
    _save(tmp_path / "a" / "x" / "y" / "1.PNG")
    _save(tmp_path / "b" / "1.png")
    _save(tmp_path / "b" / ".ipynb_checkpoints" / "1.png")
    _save(tmp_path / "__MACOSX" / "1.png")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "a" / "x" / "round").symlink_to(tmp_path / "a", target_is_directory=True)
    source = open_source(tmp_path, val_split=0)
    assert source.manifest.keys.tolist() == ["a/x/y/1.PNG", "b/1.png"]
    assert any("1 files that are not images" in note for note in source.notes)


def test_an_empty_class_folder_is_a_class(split_folder):
    (split_folder / "train" / "emu").mkdir()
    assert open_source(split_folder).manifest.classes == ("cat", "dog", "emu")


def test_images_outside_of_class_folders_have_no_label(split_folder):
    _save(split_folder / "test" / "who.png")
    manifest = open_source(split_folder).manifest
    row = manifest.keys.tolist().index("test/who.png")
    assert manifest.labels[row] == -1
    assert manifest.splits[row] == "test"
    assert row not in manifest.ids("test")
    assert row in manifest.ids("test", labelled=False)


def test_other_folders_beside_the_splits_are_named(split_folder):
    _save(split_folder / "extra" / "x.png")
    assert any("not used: extra" in note for note in open_source(split_folder).notes)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        open_source(tmp_path)
    _save(tmp_path / "1.png")
    with pytest.raises(DataError, match="1 images, but no class folders"):
        open_source(tmp_path)
    _save(tmp_path / "only" / "1.png")
    with pytest.raises(DataError, match="one class only, 'only'"):
        open_source(tmp_path)


def test_a_file_name_that_is_not_unicode_is_an_error(tmp_path):
    _save(tmp_path / "a" / "1.png")
    _save(tmp_path / "b" / "1.png")
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / os.fsdecode(b"\xff.png"))
    with pytest.raises(DataError, match="not valid UTF-8"):
        open_source(tmp_path)


# ---- channels ----------------------------------------------------------------------------------


def test_mixed_gray_and_colour_is_read_as_colour(tmp_path):
    for i in range(4):
        _save(tmp_path / "a" / f"{i}.png", channels=1)
        _save(tmp_path / "b" / f"{i}.png", channels=3 if i == 3 else 1)
    source = open_source(tmp_path, val_split=0)
    assert source.reader.channels == 3
    assert any("7 of 8 looked at are gray" in note for note in source.notes)


def test_bands_in_npy_files(tmp_path):
    for i, name in enumerate("aabb"):
        (tmp_path / name).mkdir(exist_ok=True)
        np.save(tmp_path / name / f"{i}.npy", np.full((5, 12, 12), i, np.uint16))
    source = open_source(tmp_path, val_split=0)
    assert (source.reader.channels, source.reader.dtype) == (5, np.float32)
    assert source.reader.read(3)[0, 0, 0] == np.float32(3 / 65535)
    assert source.encoding == {"kind": "image", "channels": 5, "dtype": "float32"}
    _save(tmp_path / "a" / "x.png")
    with pytest.raises(DataError, match=r"mixes image files and \.npy files"):
        open_source(tmp_path)


def test_unreadable_files_do_not_decide_unless_all_are(split_folder):
    (split_folder / "train" / "cat" / "0.png").write_bytes(b"x")
    assert open_source(split_folder).reader.channels == 3
    for path in split_folder.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"None of the 22 files.*test/cat/0\.png: not an image"):
        open_source(split_folder)


# ---- lists of images ---------------------------------------------------------------------------


@pytest.fixture
def image_list(tmp_path):
    folder = tmp_path / "survey"
    lines = ["filepath,label,split,grade,group"]
    for i in range(12):
        _save(folder / "images" / f"{i}.png", value=i)
        label = "" if i in (3, 7) else i % 2
        lines.append(f"images/{i}.png,{label},{'test' if i >= 8 else 'train'},{i / 2},g{i // 2}")
    (folder / "samples.csv").write_text("\n".join(lines))
    return folder / "samples.csv"


def test_a_csv_of_images(image_list):
    source = open_source(image_list, val_split=0)
    manifest = source.manifest
    assert manifest.keys[5] == "images/5.png"
    assert manifest.classes == ("0", "1")
    assert manifest.labels.tolist() == [0, 1, 0, -1, 0, 1, 0, -1, 0, 1, 0, 1]
    assert manifest.ids("train").tolist() == [0, 1, 2, 4, 5, 6]
    assert manifest.ids("test").tolist() == [8, 9, 10, 11]
    assert manifest.extra_columns == ["grade"]
    assert manifest.table["grade"].to_pylist()[5] == 2.5
    assert manifest.groups[4] == "g2"
    assert source.reader.read(5)[0, 0, 0] == 5


def test_validation_of_a_list_respects_its_groups(image_list):
    manifest = open_source(image_list, val_split=0.34).manifest
    assert len(manifest.ids("val"))
    for group in set(manifest.groups):
        labelled = (manifest.groups == group) & (manifest.labels >= 0)
        assert len(set(manifest.splits[labelled])) == 1


def test_space_warps(spacewarps):
    source = open_source(spacewarps / "samples.csv")
    manifest = source.manifest
    assert len(manifest) == 429
    assert [manifest.counts(s).tolist() for s in ("train", "val", "test")] == [[141, 57], [42, 16], [68, 18]]
    assert (manifest.labels == -1).sum() == 87
    assert manifest.extra_columns == ["grade"]
    assert source.reader.read(0).shape == (300, 300, 3)


def test_parquet_with_labels_as_pandas_writes_them(image_list):
    table = pa.table({"path": [f"images/{i}.png" for i in range(4)], "label": [0.0, 1.0, float("nan"), 1.0]})
    pq.write_table(table, image_list.with_name("s.parquet"))
    manifest = open_source(image_list.with_name("s.parquet"), val_split=0).manifest
    assert manifest.classes == ("0", "1")
    assert manifest.labels.tolist() == [0, 1, -1, 1]


def test_absolute_missing_and_repeated_paths(image_list):
    folder = image_list.parent
    lines = [f"{folder}/images/0.png,a", "images/1.png,b", "images/gone.png,a", "./images/1.png,b", "images/1.png,b"]
    lines += [f"images/{i}.png,{'ab'[i % 2]}" for i in range(2, 10)]
    image_list.write_text("filepath,label\n" + "\n".join(lines))
    source = open_source(image_list, val_split=0.3)
    assert source.reader.read(0)[0, 0, 0] == 0
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        source.reader.read(2)
    assert any("2 rows repeat" in note for note in source.notes)
    assert len(set(source.manifest.splits[[1, 3, 4]])) == 1


def test_lists_that_cannot_be_used(image_list):
    image_list.write_text("filepath,label\nno/1.png,a\nno/2.png,b\n")
    with pytest.raises(DataError, match=r"None of the 2 files.*no such file"):
        open_source(image_list)
    image_list.write_text("filepath,label\nimages/1.png,a\n ,b\n")
    with pytest.raises(DataError, match="row 2 below the header has no image path"):
        open_source(image_list)
    image_list.write_text("filepath,label,split\nimages/1.png,a,train\nimages/2.png,b,holdout\n")
    with pytest.raises(DataError, match="'holdout'; allowed are train, val, test"):
        open_source(image_list)
    image_list.write_text("filepath,kind\nimages/1.png,a\nimages/2.png,b\n")
    with pytest.raises(DataError, match="no column named label, target, class"):
        open_source(image_list)
    assert open_source(image_list, target="kind", val_split=0).manifest.classes == ("a", "b")


# ---- what may be named -------------------------------------------------------------------------


def test_unknown_names_get_close_ones(tmp_path, in_tmp):
    with pytest.raises(DataError, match="Did you mean 'cifar10'"):
        open_source("cifar-10")
    (in_tmp / "flowers").mkdir()
    with pytest.raises(DataError, match="Did you mean 'flowers'"):
        open_source("flower")
    (in_tmp / "a.docx").write_bytes(b"")
    with pytest.raises(DataError, match="is no data set: files end in"):
        open_source("a.docx")


def test_a_name_wins_over_a_folder_and_says_so(in_tmp):
    for name in "ab":
        _save(in_tmp / "digits" / name / "1.png")
    assert any("write ./digits" in note for note in open_source("digits").notes)
    assert open_source("./digits", val_split=0).manifest.classes == ("a", "b")


def test_columns_cannot_be_named_where_there_are_none(split_folder):
    for options in ({"target": "x"}, {"group_column": "x"}):
        with pytest.raises(ConfigError, match="names a column of a CSV"):
            open_source(split_folder, **options)


def test_arrays_of_images(tmp_path):
    x = np.arange(6 * 3 * 5 * 5, dtype=np.uint8).reshape(6, 3, 5, 5)
    np.savez(tmp_path / "a.npz", X=x, y=[0, 1] * 3)
    source = open_source(tmp_path / "a.npz", val_split=0)
    assert (source.kind, source.reader.channels) == ("image", 3)
    assert np.array_equal(source.reader.read(4)[:, :, 1], x[4, 1])
    again = open_paths([tmp_path / "a.npz"], like=source)
    assert np.array_equal(again.reader.array, source.reader.array)
    np.savez(tmp_path / "b.npz", X=x[:, 0].astype(np.float32))
    assert open_source_channels(tmp_path / "b.npz") == (1, np.float32)
    with pytest.raises(DataError, match="trained on 3 of uint8"):
        open_paths([tmp_path / "b.npz"], like=source)


def open_source_channels(path):
    x = np.load(path)["X"]
    np.savez(path.with_name("c.npz"), x_train=x, y_train=[0, 1] * 3)
    reader = open_source(path.with_name("c.npz"), val_split=0).reader
    return reader.channels, reader.dtype


# ---- never-seen data ---------------------------------------------------------------------------


def test_images_folders_and_lists_are_opened_without_labels(split_folder, image_list, in_tmp):
    like = open_source(split_folder)
    lone = _save(in_tmp / "lone.jpeg", value=77)
    source = open_paths([lone, split_folder, image_list], like=like)
    assert len(source.manifest) == 1 + 22 + 12
    assert set(source.manifest.labels) == {-1}
    assert set(source.manifest.splits) == {""}
    assert source.manifest.classes == ("cat", "dog")
    assert source.manifest.keys[0] == str(lone)
    assert source.reader.read(0)[0, 0, 0] == 77
    assert source.reader.read(1 + 22 + 5)[0, 0, 0] == 5
    assert open_paths([image_list], like=like.encoding).manifest.table["grade"].to_pylist()[5] == 2.5


def test_images_are_read_with_the_channels_of_the_training_data(tmp_path):
    for name in "ab":
        _save(tmp_path / "t" / name / "1.png", channels=1)
    like = open_source(tmp_path / "t", val_split=0)
    colour = _save(tmp_path / "c.png", channels=3)
    assert open_paths([colour], like=like.manifest).reader.read(0).shape == (8, 8, 1)


def test_paths_that_cannot_be_predicted(split_folder, tmp_path):
    like = open_source(split_folder)
    with pytest.raises(DataError, match=r"nowhere\.png does not exist"):
        open_paths([tmp_path / "nowhere.png"], like=like)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_paths([tmp_path / "empty"], like=like)
    with pytest.raises(DataError, match="Nothing to predict"):
        open_paths([], like=like)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column filepath"):
        open_paths([tmp_path / "t.csv"], like=like)
    with pytest.raises(DataError, match="the model reads tables"):
        open_paths([next(split_folder.rglob("*.png"))], like=open_source("iris"))
