"""Tables: how columns become features, learnt from the training rows alone."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from litscope.data.sources.new import open_paths
from litscope.data.sources.source import open_source
from litscope.data.sources.table_files import read_table
from litscope.data.sources.tables import encode, feature_names, fit_encoding
from litscope.errors import ConfigError, DataError

CSV = """height,colour,label,split
1.0,red,a,train
3.0,blue,b,train
,red,a,train
5.0,,b,train
100,green,a,test
?,red,b,test
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(CSV)
    return path


def test_gaps_become_the_training_median_and_text_one_hot(table):
    source = open_source(table, val_split=0)
    assert source.encoding["feature_names"] == ["height", "height_missing", "colour=blue", "colour=red"]
    assert source.reader.array.tolist() == [
        [1, 0, 0, 1],
        [3, 0, 1, 0],
        [3, 1, 0, 1],
        [5, 0, 0, 0],
        [100, 0, 0, 0],  # green is in no training row
        [3, 1, 0, 1],
    ]
    assert source.manifest.classes == ("a", "b")
    assert source.manifest.keys[4] == "t.csv#4"
    notes = "\n".join(source.notes)
    assert "median 3" in notes
    assert "1 values that no training row has" in notes


def test_a_never_seen_table_is_encoded_in_the_same_way(table, tmp_path):
    source = open_source(table, val_split=0)
    encoding = json.loads(json.dumps(source.encoding))
    new = tmp_path / "new.csv"
    new.write_text("name,colour,height\nx,blue,\ny,violet,2\nz,,7\n")
    opened = open_paths([new], like=encoding)
    assert opened.reader.array.tolist() == [[3, 1, 1, 0], [2, 0, 0, 0], [7, 0, 0, 0]]
    assert opened.manifest.labels.tolist() == [-1, -1, -1]
    assert opened.notes


def test_one_row_of_a_table_may_be_all_gaps(table, tmp_path):
    source = open_source(table, val_split=0)
    new = tmp_path / "new.csv"
    new.write_text("colour,height\n,\n")
    assert open_paths([new], like=source).reader.array.tolist() == [[3, 1, 0, 0]]


def test_a_missing_column_and_a_wrong_type_are_named(table, tmp_path):
    source = open_source(table, val_split=0)
    new = tmp_path / "new.csv"
    new.write_text("colour\nred\n")
    with pytest.raises(DataError, match="lacks the columns 'height'"):
        open_paths([new], like=source)
    new.write_text("colour,height\nred,tall\n")
    with pytest.raises(DataError, match=r"'height'.*tall"):
        open_paths([new], like=source)


def test_what_a_new_table_may_not_hold_is_said_with_file_row_and_what_it_may(tmp_path):
    path, new = tmp_path / "t.csv", tmp_path / "new.csv"
    rows = [f"{'true' if i // 2 % 2 else 'false'},{i},{'uv'[i % 2]},{'ab'[i % 2]}" for i in range(8)]
    path.write_text("\n".join(["smoker,age,town,label", *rows]))
    source = open_source(path, val_split=0)
    new.write_text("smoker,age,town\ntrue,1,u\nyes,twelve,w\nno,2,u\n")
    with pytest.raises(DataError) as refused:
        open_paths([new], like=source)
    assert str(refused.value).splitlines() == [
        f"{new}: the column 'smoker' holds 'yes' in row 2 below the header (and 1 more); its training rows hold true "
        "and false. Write true or false (or 1 and 0), or leave the cell empty.",
        f"{new}: the column 'age' holds 'twelve' in row 2 below the header; its training rows hold numbers. Write a "
        "number, or leave the cell empty.",
    ]
    for cells in ("true,1,w\nFALSE,2,u", "1,1,w\n0,2,u", "True,1,w\n0,2,u"):  # the advice can be followed
        new.write_text(f"smoker,age,town\n{cells}\n")
        opened = open_paths([new], like=source)
        assert opened.reader.array.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0]]
        assert "such as 'w' (read as gaps; known are u, v)" in opened.notes[0]


def test_all_columns_that_cannot_be_used_are_named_at_once(tmp_path):
    path = tmp_path / "titanic.csv"
    rows = [f"{i + 1},name {i},T{i},{'free' if i == 7 else i / 2},{i % 3},{i % 2}" for i in range(40)]
    path.write_text("\n".join(["PassengerId,Name,Ticket,Fare,Pclass,Survived", *rows]))
    with pytest.raises(DataError) as refused:
        open_source(path, target="Survived", val_split=0)
    assert str(refused.value).splitlines() == [
        "3 columns cannot become features:",
        "  'Name': 40 different values; up to 20 become features (the first is 'name 0')",
        "  'Ticket': 40 different values; up to 20 become features (the first is 'T0')",
        "  'Fare': all but 1 of its 40 values are numbers; the first is 'free'",
        "Leave the columns out of the file, or turn them into numbers, or into at most 20 categories.",
    ]
    left = [",".join(cell for k, cell in enumerate(row.split(",")) if k not in (1, 2, 3)) for row in rows]
    path.write_text("\n".join(["PassengerId,Pclass,Survived", *left]))
    assert open_source(path, target="Survived").encoding["feature_names"] == ["Pclass"]


def test_medians_are_of_training_rows_only():
    columns, _ = fit_encoding(pa.table({"x": [1.0, 3.0, 1000.0]}), np.array([True, True, False]))
    assert columns == [{"name": "x", "type": "number", "median": 2.0, "indicator": False}]
    array, _ = encode(pa.table({"x": [None, float("inf"), 4.0]}), columns, "t")
    assert array.tolist() == [[2], [2], [4]]


def test_numbers_beyond_float32_are_scaled_and_one_that_comes_later_is_a_gap():
    table = pa.table({"x": [1.0, 1e300, 3.0, -1e300]})
    columns, _ = fit_encoding(table, np.ones(4, bool))
    array, _ = encode(table, columns, "t")
    assert array.dtype == np.float32
    assert array[0, 0] == array[2, 0] == 0  # a billionth of a billionth of a deviation
    assert -array[3, 0] == array[1, 0]
    assert 0.1 < array[1, 0] < 10
    columns, _ = fit_encoding(pa.table({"x": [1.0, 3.0]}), np.ones(2, bool))
    assert encode(table, columns, "t")[0].tolist() == [[1], [2], [3], [2]]


def test_types_of_columns():
    table = pa.table(
        {
            "flag": [True, False, None],
            "small": pa.array([1, 2, 3], pa.int8()),
            "price": pa.array(["1.50", "2.00", "3.25"]).cast(pa.decimal128(10, 2)),
            "kind": pa.array(["u", "v", "u"]).dictionary_encode(),
            "nothing": pa.nulls(3),
            "gaps": pa.array(["", "NA", " ? "]),
        }
    )
    columns, notes = fit_encoding(table, np.ones(3, bool))
    assert feature_names(columns) == ["flag", "flag_missing", "small", "price", "kind=u", "kind=v"]
    array, _ = encode(table, columns, "t")
    assert array[0].tolist() == [1, 0, 1, 1.5, 1, 0]
    assert array[2].tolist() == [0.5, 1, 3, 3.25, 1, 0]
    assert sum("left out" in note for note in notes) == 2


@pytest.mark.parametrize("values", [pa.array([b"a", b"b"]), pa.array([[1], [2]]), pa.array([{"a": 1}, {"a": 2}])])
def test_columns_that_are_no_features_are_named(values):
    with pytest.raises(DataError, match="column 'when'"):
        fit_encoding(pa.table({"when": values}), np.ones(2, bool))


def test_too_many_categories_are_an_error_with_the_columns_name():
    table = pa.table({"name": [f"n{i}" for i in range(21)]})
    with pytest.raises(DataError, match=r"'name' has 21 different values; up to 20"):
        fit_encoding(table, np.ones(21, bool))
    assert len(fit_encoding(table.slice(0, 20), np.ones(20, bool))[0][0]["levels"]) == 20


@pytest.mark.flag("target")
def test_target_says_which_column_is_the_label(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,species\n1,x\n2,y\n3,x\n4,y\n")
    with pytest.raises(DataError, match=r"--target.*a, species"):
        open_source(path)
    assert open_source(path, target="species").manifest.classes == ("x", "y")
    assert open_source(path, target="species").encoding["feature_names"] == ["a"]
    with pytest.raises(ConfigError, match="Did you mean 'species'"):
        open_source(path, target="specie")


@pytest.mark.flag("group-column")
def test_rows_of_one_group_stay_together(tmp_path):
    path = tmp_path / "t.csv"
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},{i % 2},p{i // 4}" for i in range(200)]
    path.write_text("x,label,patient\n" + "\n".join(lines))
    source = open_source(path, group_column="patient", val_split=0.2)
    assert source.encoding["feature_names"] == ["x"]
    groups = source.manifest.groups
    for name in set(groups):
        assert len(set(source.manifest.splits[groups == name])) == 1
    assert len(source.manifest.ids("val")) == 40
    with pytest.raises(ConfigError, match="Did you mean 'patient'"):
        open_source(path, group_column="patients")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_a_byte_order_mark(tmp_path, separator):
    path = tmp_path / "t.csv"
    text = "\n".join(separator.join(row) for row in (["x", " y ", "label"], ["1", "2", "a"], ["3", "4", "b"]))
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    source = open_source(path, val_split=0)
    assert source.encoding["feature_names"] == ["x", "y"]
    assert source.reader.array.tolist() == [[1, 2], [3, 4]]


def test_parquet_tables(tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0], "label": pa.array([0, 1], pa.int8())}), tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", val_split=0).manifest.classes == ("0", "1")


def test_the_name_of_a_folder_is_no_column(tmp_path):
    path = tmp_path / "year=2024" / "t.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"x": [1.0, 2.0], "label": ["a", "b"]}), path)
    assert read_table(path).column_names == ["x", "label"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("x,label\n", "no rows below its header"),
        ("x,x,label\n1,2,a\n", "more than one column named 'x'"),
        ("x,label\n1,a,b\n", "cannot be read"),
        ("label\na\nb\n", "no column to learn from"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        open_source(path)


def test_text_columns_stay_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("code,n\n007,1\n,2\n")
    assert read_table(path, ["code"])["code"].to_pylist() == ["007", ""]


def test_npz(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), np.array(["u", "v"] * 20)
    np.savez(tmp_path / "a.npz", X=x, y=y, X_test=x[:4], y_test=y[:4])
    source = open_source(tmp_path / "a.npz", val_split=0.25)
    assert source.kind == "table"
    assert [len(source.manifest.ids(s)) for s in ("train", "val", "test")] == [30, 10, 4]
    assert np.allclose(source.reader.array[40:], x[:4])
    np.savez(tmp_path / "new.npz", X=x[:7])
    assert np.allclose(open_paths([tmp_path / "new.npz"], like=source).reader.array, x[:7])
    np.savez(tmp_path / "new.npz", X=x[:7, :2])
    with pytest.raises(DataError, match="3 columns"):
        open_paths([tmp_path / "new.npz"], like=source)


def test_npz_with_splits_and_groups(tmp_path):
    split = np.array(["train"] * 6 + ["test"] * 2)
    np.savez(tmp_path / "a.npz", X=np.arange(16.0).reshape(8, 2), y=[0, 1] * 4, split=split, group=list("aabbccdd"))
    source = open_source(tmp_path / "a.npz", val_split=0.4)
    assert source.manifest.ids("test").tolist() == [6, 7]
    assert len(source.manifest.ids("val")) == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"A": np.zeros(3)}, "needs the arrays X and y; it has a"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(2)}, "3 rows and y has 2"),
        ({"X": np.zeros((3, 2)), "y": [0, 1, 0], "X_test": np.zeros((1, 2))}, "no array y_test"),
        ({"X": np.zeros((3, 2)), "y": [0, 1, 0], "X_test": np.zeros((1, 3)), "y_test": [0]}, "different shapes"),
        ({"X": np.zeros(3), "y": [0, 1, 0]}, "X has shape"),
        ({"X": np.zeros((3, 2)), "y": [0, 1, 0], "split": ["train", "test"]}, "3 rows and 2 splits"),
        ({"X": np.array([["a"], ["b"]]), "y": [0, 1]}, "features are numbers"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "no rows"),
    ],
)
def test_npz_files_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "a.npz")


def test_a_pickle_in_an_npz_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([{}, {}], dtype=object), y=[0, 1])
    with pytest.raises(DataError, match="cannot be read"):
        open_source(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        open_source(tmp_path / "a.npz")


def written(tmp_path, **columns):
    """A Parquet file of categories: name -> (values, whether they have an order)."""
    arrays = {
        name: pa.DictionaryArray.from_arrays(
            pa.array(np.unique(values, return_inverse=True)[1], pa.int8()), pa.array(np.unique(values)), ordered=order
        )
        for name, (values, order) in columns.items()
    }
    num = len(next(iter(arrays.values())))
    pq.write_table(pa.table({**arrays, "label": ["a", "b"] * (num // 2)}), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_whole_numbers_that_were_written_as_categories(tmp_path):
    zips = np.array([10, 9, 10, 300] * 10)
    path = written(tmp_path, zip=(zips, False), grade=(zips, True), many=(np.arange(40), False))
    assert pa.types.is_integer(pq.read_schema(path).field("zip").type), "Parquet gives them back as numbers"
    source = open_source(path, val_split=0)
    assert source.encoding["feature_names"] == ["zip=9", "zip=10", "zip=300", "grade", "many"]
    assert source.reader.array[:4, :4].tolist() == [[0, 1, 0, 10], [1, 0, 0, 9], [0, 1, 0, 10], [0, 0, 1, 300]]
    told = "column 'many': a category of 40 whole numbers (up to 20 become features of their own), so it is taken as"
    assert any(told in note for note in source.notes)
    assert any("column 'zip': 3 categories" in note for note in source.notes)
    new = tmp_path / "new.csv"
    new.write_text("zip,grade,many\n300,1,2\n11,2,3\n")
    assert open_paths([new], like=source).reader.array.tolist() == [[0, 0, 1, 1, 2], [0, 0, 0, 2, 3]]


def test_a_frame_with_a_category_of_whole_numbers(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"zip": pandas.Categorical([7, 8, 7, 9]), "x": [1, 2, 3, 4], "label": list("abab")})
    frame.to_parquet(tmp_path / "t.parquet")
    names = open_source(tmp_path / "t.parquet", val_split=0).encoding["feature_names"]
    assert names == ["zip=7", "zip=8", "zip=9", "x"]
