"""CSV files as spreadsheets and scripts write them: encodings, separators, headers, spaces before quotes."""

from __future__ import annotations

import pytest

from litscope.data.sources.new import open_paths
from litscope.data.sources.source import open_source
from litscope.data.sources.table_files import open_table, read_table
from litscope.errors import DataError

TEXT = "größe,label\n1,ä\n2,ö\n3,ä\n4,ö\n"


def _classes(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_source(path, val_split=0).manifest.classes


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
def test_encodings(tmp_path, encoding):
    path = tmp_path / "t.csv"
    assert _classes(path, TEXT.encode(encoding)) == ("ä", "ö")
    source = open_source(path, val_split=0)
    assert source.encoding["feature_names"] == ["größe"]
    assert source.reader.array.tolist() == [[1], [2], [3], [4]]
    said = any("not UTF-8; it is read as Windows text (cp1252)" in note for note in source.notes)
    assert said == (encoding in ("cp1252", "latin-1"))
    assert open_paths([path], like=source).notes == source.notes[: int(said)]


@pytest.mark.slow
def test_an_encoding_that_shows_itself_late(tmp_path):
    text = "größe,label\n" + "1,a\n2,b\n" * 300_000 + "3,ä\n"
    assert _classes(tmp_path / "t.csv", text.encode("cp1252")) == ("a", "b", "ä")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "is an Excel workbook or a ZIP archive. Save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0rest", "is an old Excel workbook"),
        (b"\x1f\x8brest", "compressed with gzip. Unpack it"),
        (b"PAR1rest", "is a Parquet file. Rename it"),
        (bytes(range(256)) * 4, "bytes that no text has"),
        (b"x,label\n1,\x81\x8d\n2,b\n", "neither UTF-8, UTF-16 nor Windows' cp1252. Save it as UTF-8"),
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
    ],
)
def test_files_that_are_no_text(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        open_source(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("x|label\n1|a\n2|b\n", {"x": [1, 2], "label": ["a", "b"]}),
        ("sep=;\nx;label\n1;a\n2;b\n", {"x": [1, 2], "label": ["a", "b"]}),
        ('"sep=|"\r\nx|label\r\n1|a\r\n2|b\r\n', {"x": [1, 2], "label": ["a", "b"]}),
        ('"a, b";"c, d"\n1;2\n', {"a, b": [1], "c, d": [2]}),
        ("\n\nx,label\n1,a\n2,b\n", {"x": [1, 2], "label": ["a", "b"]}),
        ("x,label,,\n1,a,,\n2,b,,\n", {"x": [1, 2], "label": ["a", "b"]}),
        ("x,label\r1,a\r2,b\r", {"x": [1, 2], "label": ["a", "b"]}),
        ('"x\ny",label\n1,a\n', {"x\ny": [1], "label": ["a"]}),
        (
            '"x", "label"\n"u.png", "cat"\n"v.png",  "dog, ""big"""\n',
            {"x": ["u.png", "v.png"], "label": ["cat", 'dog, "big"']},
        ),
        ('x; "label"\n1; "a\nb"\n2; c\n', {"x": [1, 2], "label": ["a\nb", "c"]}),
        ('x,label\n"u, ",a\n"v, ""w"", ",b\n', {"x": ["u, ", 'v, "w", '], "label": ["a", "b"]}),
        ("x\tlabel\n1\ta b\n2\tc\n", {"x": [1, 2], "label": ["a b", "c"]}),
    ],
)
def test_separators_headers_and_spaces(tmp_path, text, columns):
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert read_table(tmp_path / "t.csv").to_pydict() == columns


@pytest.mark.slow
def test_spaces_before_quotes_in_utf16_and_in_the_middle_of_a_large_file(tmp_path):
    path = tmp_path / "t.csv"
    assert _classes(path, 'x,label\n1, "ä"\n2, "b"\n'.encode("utf-16")) == ("b", "ä")
    text = "x,label\n" + "1,a\n2,b\n" * 262_140 + '3, "c"\n'
    assert _classes(path, text) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("before", "names", "num_comments"),
    [
        ("# Archive, of planets\n# COLUMN x: Size, in km\n#\n\nx,y,label\n", ["x", "y", "label"], 3),
        ('#\n# say "hi\n x,y,label\n', ["x", "y", "label"], 2),
        ("# made by numpy\n# x,y,label\n", ["# x", "y", "label"], 1),
        ("#,y,label\n", ["#", "y", "label"], 0),
        ("# 1, 2, 3\n#;y;label\n", ["#", "y", "label"], 1),
    ],
)
def test_comments_before_the_header(tmp_path, before, names, num_comments):
    path = tmp_path / "a.csv"
    separator = ";" if ";" in before else ","
    path.write_text(before + "".join(f"{i}.5,{i % 7},{'ab'[i % 2]}\n".replace(",", separator) for i in range(9)))
    table = read_table(path)
    assert table.column_names == names
    assert table["y"].to_pylist() == [i % 7 for i in range(9)]
    said = [note for note in open_source(path, val_split=0).notes if "before the header" in note]
    assert said == [f"a.csv: {num_comments} lines before the header begin with # and are skipped"] * bool(num_comments)


@pytest.mark.parametrize("line", ["5.1,3.5,setosa", "images/0.png,cat"])
def test_a_file_without_a_header(tmp_path, line):
    (tmp_path / "a.csv").write_text(f"{line}\n{line}\n")
    with pytest.raises(DataError, match=f"seems to have no header: its first line is {line.replace(',', ', ')}"):
        open_source(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["image_id", "row"])
def test_when_every_column_numbers_the_rows_that_is_said(tmp_path, name):
    (tmp_path / "a.csv").write_text(f"{name},label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(9)))
    with pytest.raises(DataError, match=f"no column to learn from: column '{name}' numbers") as refused:
        open_source(tmp_path / "a.csv")
    assert ("--image-column image_id" in str(refused.value)) == (name == "image_id")


# ---- quotes in cells -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first", "is_escaped"),
    [
        ('name,label\n"say \\"hi\\"",a\n"x",b\n', 'say "hi"', True),
        ('name,label\n"5\\"",a\n"6\\"",b\n', '5"', True),
        ('name,label\n"a, \\"b\\" \\\\ c",a\nx,b\n', 'a, "b" \\ c', True),
        ('name;label\n"say \\"hi\\"" ;a\n"x" ;b\n', None, True),
        ('name,label\n"C:\\data\\",a\n"x",b\n', "C:\\data\\", False),
        ('name,label\n"say ""hi""",a\n"x",b\n', 'say "hi"', False),
        ('name,label\n5\\" pipe,a\nx,b\n', '5\\" pipe', False),
        ('name,label\nC:\\new,a\n"x",b\n', "C:\\new", False),
    ],
)
def test_a_quote_in_a_cell_is_doubled_or_has_a_backslash_before_it(tmp_path, text, first, is_escaped):
    (tmp_path / "t.csv").write_text(text)
    file = open_table(tmp_path / "t.csv")
    assert any("with a backslash before them" in note for note in file.notes) == is_escaped
    table = file.read()
    assert table.column_names == ["name", "label"]
    assert table["label"].to_pylist() == ["a", "b"]
    if first is not None:
        assert table["name"].to_pylist() == [first, "x" if '"6' not in text else '6"']


def test_backslashes_before_quotes_and_spaces_before_quotes(tmp_path):
    (tmp_path / "t.csv").write_text('name, label\n"say \\"hi\\"", "a"\n"x", "b"\n')
    table = read_table(tmp_path / "t.csv")
    assert table["name"].to_pylist() == ['say "hi"', "x"]
    assert table["label"].to_pylist() == ["a", "b"]
