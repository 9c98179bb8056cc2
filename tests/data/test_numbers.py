"""Numbers in cells: any offset, any size, as people write them; new cells are read as the training rows were."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from litscope.data.preflight import inspect
from litscope.data.sources.new import open_paths
from litscope.data.sources.source import open_source
from litscope.data.sources.tables import encode, fit_encoding
from litscope.errors import DataError

NOW = 1_700_000_000


def _open(path, cells, *, separator=",", **options):
    """A CSV file with a column x and a label, opened; cells are written as they are."""
    rows = [f"{cell}{separator}{'ab'[i % 2]}" for i, cell in enumerate(cells)]
    path.write_text("\n".join([f"x{separator}label", *rows]), encoding="utf-8")
    return open_source(path, **{"val_split": 0, **options})


def _new(path, source, cells, separator=","):
    """The features of new cells, by the encoding as a run's manifest keeps it."""
    path.write_text("\n".join([f"x{separator}y", *(f"{cell}{separator}" for cell in cells)]), encoding="utf-8")
    return open_paths([path], like=json.loads(json.dumps(source.encoding))).reader.array[:, 0].tolist()


# ---- far from 0, very large, very small --------------------------------------------------------


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_steps_of_one_unit_since_1970_stay_apart(tmp_path, unit):
    times = [NOW * unit + i for i in range(8)]
    source = _open(tmp_path / "t.csv", times)
    assert np.diff(source.reader.array[:, 0]).tolist() == [1] * 7
    x = source.reader.array[:, 0]
    assert _new(tmp_path / "n.csv", source, [times[5], times[0] - 1]) == [x[5], x[0] - 1]
    assert _new(tmp_path / "n.csv", source, [""]) == [pytest.approx(x.mean(), abs=1)]


@pytest.mark.parametrize("lowest", [-(2**63), -(2**53) - 1, 2**53 + 1, 2**63 - 9])
def test_integers_lose_nothing(lowest):
    table = pa.table({"x": pa.array([lowest + i for i in range(8)], pa.int64())})
    columns, _ = fit_encoding(table, np.ones(8, bool))
    assert np.diff(encode(table, columns, "t")[0][:, 0]).tolist() == [1] * 7


def test_unsigned_integers_and_both_ends_of_the_range():
    table = pa.table({"x": pa.array([2**64 - 4 + i for i in range(4)], pa.uint64())})
    columns, _ = fit_encoding(table, np.ones(4, bool))
    assert np.diff(encode(table, columns, "t")[0][:, 0]).tolist() == [1, 1, 1]
    table = pa.table({"x": pa.array([-(2**63), 0, 2**63 - 1, None], pa.int64())})
    columns, _ = fit_encoding(table, np.ones(4, bool))
    array = encode(table, columns, "t")[0]
    assert array[:, 0].tolist() == [-(2.0**63), 0, 2.0**63, 0]
    assert array[:, 1].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e-9, 1e9, 1e37, 1e200, 1e307])
@pytest.mark.parametrize("kind", [float, str])
def test_any_size_has_its_shape_kept(tmp_path, size, kind):
    values = np.array([1.0, 2.0, 4.0, 8.0]) * size
    source = _open(tmp_path / "t.csv", [kind(value) for value in values])
    x = source.reader.array[:, 0].astype(np.float64)
    assert np.allclose((x - x[0]) / (x[3] - x[0]), [0, 1 / 7, 3 / 7, 1], atol=1e-6)
    assert x.std() > 1e-6  # or the network's normalisation takes the column for a constant
    assert _new(tmp_path / "n.csv", source, [values[2]]) == [source.reader.array[2, 0]]


def test_a_float_far_from_zero_and_a_decimal_keep_their_steps():
    for values in (1e6 + np.arange(8) / 1024, 5e15 + np.arange(8.0)):
        table = pa.table({"x": values})
        columns, _ = fit_encoding(table, np.ones(8, bool))
        assert np.allclose(np.diff(encode(table, columns, "t")[0][:, 0]), np.diff(values), rtol=1e-6)


def test_ordinary_columns_are_kept_as_they_are():
    table = pa.table({"year": np.arange(1990, 2020), "x": np.linspace(-5, 5, 30), "same": np.full(30, 7)})
    columns, _ = fit_encoding(table, np.ones(30, bool))
    assert all(column.keys() == {"name", "type", "median", "indicator"} for column in columns)
    assert encode(table, columns, "t")[0][:, 0].tolist() == list(range(1990, 2020))


def test_an_encoding_of_an_earlier_version_reads_as_it_did_and_reads_large_integers_too():
    columns = [{"name": "x", "type": "number", "median": 2.0, "indicator": True}]
    table = pa.table({"x": pa.array([1.5, None, np.inf])})
    assert encode(table, columns, "t")[0].tolist() == [[1.5, 0], [2, 1], [2, 1]]
    table = pa.table({"x": pa.array([NOW * 10**9 + 1], pa.int64())})
    assert encode(table, columns, "t")[0].tolist() == [[np.float32(NOW * 1e9), 0]]


def test_the_dash_that_an_earlier_version_took_for_a_category_stays_one():
    columns = [{"name": "x", "type": "category", "levels": ["-", "a"]}]
    assert encode(pa.table({"x": ["-", "a", "", "b"]}), columns, "t")[0].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


# ---- dates and times ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "step"),
    [
        ([f"2024-01-{day:02}" for day in range(1, 9)], 86_400),
        ([f"2024-01-01 00:00:0{second}" for second in range(8)], 1),
        ([f"2024-01-01T00:00:0{second}Z" for second in range(8)], 1),
        ([f"10:00:0{second}" for second in range(8)], 1),
        ([f"1850-01-01 00:00:00.{tenth}" for tenth in range(8)], 0.1),
    ],
)
def test_dates_and_times_are_seconds(tmp_path, cells, step):
    source = _open(tmp_path / "t.csv", cells)
    x = source.reader.array[:, 0]
    assert np.allclose(np.diff(x), step, rtol=1e-5)
    assert any("as seconds" in note for note in source.notes)
    assert _new(tmp_path / "n.csv", source, [cells[6]]) == [x[6]]
    with pytest.raises(
        DataError, match="holds 'soon' in row 2 below the header; its training rows hold dates or times"
    ):
        _new(tmp_path / "n.csv", source, [cells[6], "soon"])
    with pytest.raises(DataError, match=r"holds '17'.* hold dates or times"):
        _new(tmp_path / "n.csv", source, ["17"])


@pytest.mark.parametrize(
    "kind", [pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("ns"), pa.duration("us"), pa.time64("us")]
)
def test_arrows_times_are_seconds_in_every_unit(kind):
    unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    start = 0 if pa.types.is_time(kind) else NOW
    table = pa.table({"x": pa.array([(start + i) * unit for i in range(8)]).cast(kind)})
    columns, _ = fit_encoding(table, np.ones(8, bool))
    assert np.diff(encode(table, columns, "t")[0][:, 0]).tolist() == [1] * 7
    other = pa.table({"x": table["x"].cast(pa.int64())})
    with pytest.raises(DataError, match="hold dates or times"):
        encode(other, columns, "t")
    numbers, _ = fit_encoding(other, np.ones(8, bool))
    with pytest.raises(DataError, match="its training rows hold numbers"):
        encode(table, numbers, "t")


# ---- as people write them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "separator", "values"),
    [
        ([" 1", "2 ", " ", "-", " 5.5"], ",", [1, 2, None, None, 5.5]),
        (['"1,234"', "12", '"1,234,567.5"', "3"], ",", [1234, 12, 1234567.5, 3]),
        (['"1,23,456"', "12", '"12,34,567"', "3"], ",", [123456, 12, 1234567, 3]),
        (["1,5", "2", "-3,25", "0,5e3"], ";", [1.5, 2, -3.25, 500]),
        (["1.234,5", "2", "-3.000.000", ",5"], ";", [1234.5, 2, -3e6, 0.5]),
        (["1,234", "2,500", "3", "4"], ";", [1.234, 2.5, 3, 4]),
        (["1,234", "2,500", "3", "4"], "\t", [1234, 2500, 3, 4]),
        (['"1,5"', '"2,25"', "3", "4"], ",", [1.5, 2.25, 3, 4]),
        (["1'234.5", "2", "3", "4"], ",", [1234.5, 2, 3, 4]),
        (["1 234,5", "2", "3", "1 000 000"], ";", [1234.5, 2, 3, 1e6]),
        (["1\N{NARROW NO-BREAK SPACE}234,5", "1\N{NO-BREAK SPACE}000", "3", "4"], ";", [1234.5, 1000, 3, 4]),
        (["\N{MINUS SIGN}1.5", "+2", "3.", ".5"], ",", [-1.5, 2, 3, 0.5]),
        (["1", "#DIV/0!", "#N/A", "<NA>", "NaT", "."], ",", [1, None, None, None, None, None]),
        (["0", "1", "\N{EN DASH}", "n/a", "none", "4"], ",", [0, 1, None, None, None, 4]),
    ],
)
def test_numbers_as_people_write_them(tmp_path, cells, separator, values):
    source = _open(tmp_path / "t.csv", cells, separator=separator)
    column = source.encoding["columns"][0]
    wanted = [column["median"] if value is None else value for value in values]
    assert column["type"] == "number"
    assert np.allclose(source.reader.array[:, 0], wanted, rtol=1e-6)
    if None in values:
        assert source.reader.array[:, 1].tolist() == [value is None for value in values]
    assert np.allclose(_new(tmp_path / "n.csv", source, cells, separator), wanted, rtol=1e-6)


def test_new_cells_are_read_by_the_marks_of_the_training_file(tmp_path):
    source = _open(tmp_path / "t.csv", ["1.234,5", "2,25", "3"], separator=";")
    assert any("a comma before decimals and a point between thousands" in note for note in source.notes)
    assert _new(tmp_path / "n.csv", source, ["1.234", "12"], ";") == [1234, 12]


@pytest.mark.parametrize(
    ("odd", "first"), [(["3+"], r"3\+"), (["$5", "unknown"], r"\$5"), (["1_000"], "1_000"), (["0x1F", "12 km"], "0x1F")]
)
def test_a_few_words_among_numbers_are_named(tmp_path, odd, first):
    cells = [*range(30), *odd]
    with pytest.raises(DataError, match=f"all but {len(odd)} of its {len(cells)} values are numbers; .* '{first}'"):
        _open(tmp_path / "t.csv", cells)
    few = _open(tmp_path / "t.csv", [i % 3 for i in range(30)] + odd)
    assert few.encoding["columns"][0]["type"] == "category"
    assert any("values are numbers; the first is" in note and "categories" in note for note in few.notes)


def test_text_in_parquet_that_somebody_made_text_stays_categories(tmp_path):
    pq.write_table(pa.table({"x": ["1", "2", "1", "2"], "label": list("abab")}), tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", val_split=0).encoding["feature_names"] == ["x=1", "x=2"]
    many = pa.table({"x": [f"{i},5" for i in range(40)], "label": list("ab") * 20})
    pq.write_table(many, tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", val_split=0).reader.array[3].tolist() == [3.5]


@pytest.mark.slow
def test_a_type_that_shows_itself_late_in_a_large_file(tmp_path):
    numbers = [str(i) for i in range(200_000)]
    assert _open(tmp_path / "t.csv", [*numbers, "1.5"]).reader.array[-1].tolist() == [1.5]
    with pytest.raises(DataError, match=r"all but 1 of its 200,001 values are numbers; the first is 'abc'"):
        _open(tmp_path / "t.csv", [*numbers, "abc"])


# ---- infinite ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cells", [["1", "inf", "-Infinity", "Inf", "5", "6"], ["1,000", "inf", "-inf", "+inf", "5", "6"]]
)
def test_infinite_cells_are_counted_and_warned_of(tmp_path, cells):
    source = _open(tmp_path / "t.csv", [f'"{cell}"' for cell in cells])
    assert source.infinite == {"x": 3}
    report = inspect(source)
    assert any("3 cells are infinite and are read as gaps (x: 3); correct them" in w for w in report.warnings)
    assert not report.is_clean
    assert report.to_dict()["infinite"] == {"x": 3}
    assert source.reader.array[:, 1].tolist() == [0, 1, 1, 1, 0, 0]
    (tmp_path / "n.csv").write_text("x\ninf\n2\n")
    opened = open_paths([tmp_path / "n.csv"], like=source)
    assert any("n.csv: 1 cells are infinite" in note for note in opened.notes)


def test_infinite_numbers_of_arrays_are_counted_too(tmp_path):
    x = np.array([[1.0, np.inf], [2.0, 3.0], [np.nan, 1.0], [-np.inf, 2.0]])
    np.savez(tmp_path / "a.npz", X=x, y=[0, 1, 0, 1])
    assert open_source(tmp_path / "a.npz", val_split=0).infinite == {"x0": 1, "x1": 1}
    assert open_source("iris").infinite == {}
