"""CSV files as spreadsheets and scripts write them: encodings, separators, headers, spaces before quotes."""

from __future__ import annotations

import pytest

from litscope.data.sources.source import open_paths, open_source
from litscope.data.sources.tables import read_table
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


def test_spaces_before_quotes_in_utf16_and_in_the_middle_of_a_large_file(tmp_path):
    path = tmp_path / "t.csv"
    assert _classes(path, 'x,label\n1, "ä"\n2, "b"\n'.encode("utf-16")) == ("b", "ä")
    text = "x,label\n" + "1,a\n2,b\n" * 262_140 + '3, "c"\n'
    assert _classes(path, text) == ("a", "b", "c")
