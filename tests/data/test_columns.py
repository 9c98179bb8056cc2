"""Which column of a file is what, as strangers call them: image paths, the index of rows, groups, label and split."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from litscope.data.sources.new import open_paths
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError


@pytest.fixture
def listed(tmp_path):
    """Writes a list beside six images, and opens it."""
    (tmp_path / "images").mkdir()
    for i in range(6):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / "images" / f"{i}.png")

    def write(header, row, **options):
        rows = [row.format(i=i, label="ab"[i % 2]) for i in range(6)]
        (tmp_path / "list.csv").write_text("\n".join([header, *rows]))
        return open_source(tmp_path / "list.csv", **{"val_split": 0, **options})

    write.folder = tmp_path
    return write


def _pixels(source):
    return [int(source.reader.read(i)[0, 0, 0]) for i in range(len(source.manifest))]


# ---- image paths -------------------------------------------------------------------------------

NAMES = [
    "file_name",
    "Filename",
    "image_id",
    "image_name",
    "ImagePath",
    "images",
    "IMG",
    "img_path",
    "fname",
    "FILE",
    "Path",
    "image-file",
    "image_url",
]


@pytest.mark.parametrize("name", [*NAMES, "File Name", "Image Index", " filepath "])
def test_lists_of_images_by_whatever_name(listed, name):
    source = listed(f"{name},label", "images/{i}.png,{label}")
    assert source.kind == "image"
    assert source.manifest.keys[3] == "images/3.png"
    assert _pixels(source) == list(range(6))


@pytest.mark.flag("image-column")
def test_paths_under_another_name_are_asked_for_and_named(listed):
    row = "images/{i}.png,{label},{i}"
    with pytest.raises(DataError, match=r"'scan' holds image paths .*--image-column scan; .*--image-column none"):
        listed("scan,label,x", row)
    with pytest.raises(DataError, match="--image-column 'the scan'"):
        listed("the scan,label,x", row)
    source = listed("scan,label,x", row, image_column="scan")
    assert _pixels(source) == list(range(6))
    assert source.manifest.extra_columns == ["x"]
    for name in ("scan", "filepath"):
        table = listed(f"{name},label,x", row, image_column="none")
        assert table.encoding["feature_names"] == ["x"]
        assert any(f"{name!r} holds image paths and is left out" in note for note in table.notes)
    with pytest.raises(ConfigError, match=r"--image-column 'scans' .*Did you mean 'scan'"):
        listed("scan,label,x", row, image_column="scans")


def test_a_column_of_a_usual_name_that_holds_no_paths_is_a_feature(listed):
    assert listed("file,label,x", "form {label},{label},{i}").encoding["feature_names"] == [
        "file=form a", "file=form b", "x",
    ]  # fmt: skip
    assert listed("image,label,x", "9{i},{label},{i}").encoding["feature_names"] == ["image", "x"]
    assert listed("path,label,x", "north/{label},{label},{i}").encoding["columns"][0]["type"] == "category"
    many = "image_id,label\n" + "\n".join(f"scan {i},{'ab'[i % 2]}" for i in range(40))
    (listed.folder / "list.csv").write_text(many)
    with pytest.raises(DataError, match="If 'image_id' names images: --image-column image_id, and --image-root"):
        open_source(listed.folder / "list.csv")


def test_of_two_columns_of_paths_the_most_usual_is_taken_and_it_is_said(listed):
    source = listed("image,filepath,label", "images/0.png,images/{i}.png,{label}")
    assert _pixels(source) == list(range(6))
    assert any("of the column 'filepath'; 'image' holds paths too (--image-column image)" in n for n in source.notes)
    assert _pixels(listed("image,mask_path,label", "images/{i}.png,images/0.png,{label}")) == list(range(6))


def test_integers_that_name_files(listed):
    pq.write_table(pa.table({"image_id": list(range(6)), "label": list("ababab")}), listed.folder / "l.parquet")
    assert _pixels(open_source(listed.folder / "l.parquet", val_split=0)) == list(range(6))


def test_new_lists_are_read_by_the_training_column_or_the_one_that_is_named(listed):
    like = json.loads(json.dumps(listed("scan,label", "images/{i}.png,{label}", image_column="scan").encoding))
    new = listed.folder / "new.csv"
    new.write_text("filepath,scan\nnowhere.png,images/4.png\n")
    assert _pixels(open_paths([new], like=like)) == [4]
    new.write_text("picture of it,filename\nimages/5.png,images/2.png\n")
    assert _pixels(open_paths([new], like=like)) == [2]
    assert _pixels(open_paths([new], like=like, image_column="picture of it")) == [5]
    new.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="Name the one that holds their paths with --image-column"):
        open_paths([new], like=like)
    with pytest.raises(ConfigError, match="names a column of a CSV or Parquet file"):
        open_paths([listed.folder / "images"], like=like, image_column="scan")


# ---- the index of rows -------------------------------------------------------------------------


INDEXES = ["__index_level_0__", "id", "Id", "PassengerId", "sample_id", "INDEX", "level_0", "rownames", "...1"]


@pytest.mark.parametrize("name", ["", "Unnamed: 0", *INDEXES])
@pytest.mark.parametrize("start", [0, 1, 1001])
def test_columns_that_number_the_rows_are_left_out(tmp_path, name, start):
    path = tmp_path / "t.csv"
    order = np.random.default_rng(0).permutation(8) if start else np.arange(8)
    path.write_text(f"{name},x,label\n" + "\n".join(f"{start + i},{i / 2},{'ab'[i // 4]}" for i in order))
    source = open_source(path, val_split=0)
    assert source.encoding["feature_names"] == ["x"]
    assert any(f"column {name!r} numbers or names the rows and is left out" in note for note in source.notes)
    for header, row in (("x", "3"), (f"{name},x", "7,3")):
        (tmp_path / "n.csv").write_text(f"{header}\n{row}\n")
        assert open_paths([tmp_path / "n.csv"], like=source).reader.array.tolist() == [[3]]


def test_what_is_only_called_so_stays_a_feature(tmp_path):
    path = tmp_path / "t.csv"
    for cells in ([0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 9], [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]):
        path.write_text("id,x,label\n" + "\n".join(f"{c},{i / 2},{'ab'[i % 2]}" for i, c in enumerate(cells)))
        assert open_source(path, val_split=0).encoding["feature_names"] == ["id", "x"]
    path.write_text("width,grid,label\n" + "\n".join(f"{i},{i},{'ab'[i % 2]}" for i in range(6)))
    assert open_source(path, val_split=0).encoding["feature_names"] == ["width", "grid"]


def test_the_index_that_pandas_names_in_a_parquet_file(tmp_path):
    table = pa.table({"x": [1.0, 2.0, 3.0], "label": list("aba"), "patient": ["p1", "p7", "p3"]})
    facts = json.dumps({"index_columns": ["patient"], "columns": []})
    pq.write_table(table.replace_schema_metadata({"pandas": facts}), tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", val_split=0).encoding["feature_names"] == ["x"]
    by_patient = open_source(tmp_path / "t.parquet", val_split=0, group_column="patient")
    assert by_patient.manifest.groups.tolist() == ["p1", "p7", "p3"]
    ranged = json.dumps({"index_columns": [{"kind": "range", "start": 0, "stop": 3, "step": 1}]})
    pq.write_table(table.replace_schema_metadata({"pandas": ranged}), tmp_path / "t.parquet")
    assert "patient=p7" in open_source(tmp_path / "t.parquet", val_split=0).encoding["feature_names"]


def test_a_run_that_was_trained_with_an_index_still_predicts(tmp_path):
    old = {"kind": "table", "columns": [{"name": "Unnamed: 0", "type": "number", "median": 1.0, "indicator": False}]}
    (tmp_path / "n.csv").write_text("Unnamed: 0,x\n5,1\n,2\n")
    assert open_paths([tmp_path / "n.csv"], like=old).reader.array.tolist() == [[5], [1]]


# ---- groups, label, split ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_without_a_group_are_not_kept_together(tmp_path, suffix):
    """pandas writes NaN: as integers beside gaps become floats, and as the word nan."""
    numbers = [None if i % 2 else i // 8 for i in range(40)]
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text("x,p,label\n" + "\n".join(f"{i},{'nan' if i % 2 else i // 8},{'ab'[i % 2]}" for i in range(40)))
    else:
        groups = pa.array(numbers).cast(pa.float64()).fill_null(np.nan)
        pq.write_table(pa.table({"x": range(40), "p": groups, "label": list("ab" * 20)}), path)
    manifest = open_source(path, val_split=0.2, group_column="p").manifest
    assert manifest.groups.tolist() == [None if n is None else str(n) for n in numbers]
    assert {"train", "val"} == set(manifest.splits[1::2])


@pytest.mark.flag("group-column")
def test_a_table_has_groups_only_where_it_is_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,group,label\n" + "\n".join(f"{i},{'uv'[i % 2]},{'ab'[i // 4 % 2]}" for i in range(40)))
    source = open_source(path, val_split=0.1)
    assert source.encoding["feature_names"] == ["x", "group=u", "group=v"]
    assert source.manifest.groups is None
    assert len(source.manifest.ids("val")) == 4
    assert any("column 'group' is a feature; if it tells" in note for note in source.notes)
    quiet = open_source(path, val_split=0.1, group_column="none")
    assert quiet.encoding == source.encoding
    assert not any("--group-column" in note for note in quiet.notes)
    asked = open_source(path, val_split=0.1, group_column="group")
    assert asked.encoding["feature_names"] == ["x"]
    assert set(asked.manifest.groups) == {"u", "v"}


def test_a_list_of_images_has_them_and_may_do_without(listed):
    source = listed("filepath,label,group", "images/{i}.png,{label},{label}")
    assert source.manifest.groups.tolist() == list("ababab")
    assert any("rows of one 'group' stay in one split (--group-column none" in note for note in source.notes)
    none = listed("filepath,label,group", "images/{i}.png,{label},{label}", group_column="none")
    assert none.manifest.groups is None
    assert none.manifest.table["source_group"].to_pylist() == list("ababab")


def test_arrays_may_do_without_groups(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.arange(16.0).reshape(8, 2), y=[0, 1] * 4, group=list("aabbccdd"))
    assert open_source(tmp_path / "a.npz").manifest.groups is not None
    assert open_source(tmp_path / "a.npz", group_column="none").manifest.groups is None


def test_label_and_split_in_any_case(listed):
    source = listed("ImagePath,Label,Split", "images/{i}.png,{label},Train")
    assert (source.manifest.classes, source.manifest.extra_columns) == (("a", "b"), [])
    assert set(source.manifest.splits) == {"train"}
    other = listed("ImagePath,CLASS,Split", "images/{i}.png,{label},wood")
    assert other.manifest.extra_columns == ["Split"]


def test_one_hot_labels_are_pointed_out(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{i},{i % 2},{int(i % 3 == 0)},{int(i % 3 == 1)},{int(i % 3 == 2)},{i % 5}" for i in range(30)]
    path.write_text("\n".join(["x,flag,cat,dog,my bird,y", *rows]))
    with pytest.raises(DataError, match="has no column named label, target, class") as caught:
        open_source(path)
    assert "In each row one of 'cat', 'dog', 'my bird' is 1 and the others are 0" in str(caught.value)
    assert "df['label'] = df[['cat', 'dog', 'my bird']].idxmax(axis=1)" in str(caught.value)
    path.write_text("\n".join(["x,flag,y", *[f"{i},{i % 2},{i % 5}" for i in range(30)]]))
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert "one-hot" not in str(caught.value)
