"""A CSV file as it comes: encoding, separator, header, spaces before quotes -> Arrow columns. No torch.

    encoding     a byte order mark says it; else UTF-16 where every second byte is 0, else UTF-8, else cp1252 (said)
    separator    what Excel's first line `sep=;` names; else the comma, semicolon, tab or bar that the header has
                 most of, outside of quotes
    comments     lines before the header that begin with "#", unless it is itself the last of them: the one with as many
                 cells as the line below
    spaces       between a separator and a quote they are passed over; around numbers too
    quotes       inside of a quoted cell they are doubled; or, where one cannot be read so, they have a backslash before
                 them (said), and so does every sign that is meant as it stands

`look` finds these out; `Delimited.read` reads by them.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.csv

from litscope.errors import DataError

_PIECE = 1 << 20
_LOOKED_AT = 1 << 24  # characters that tell how quotes are written
_MAX_BLOCK = (1 << 31) - 1  # the most that Arrow's reader takes at a time
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's mark does: asked first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive. Save the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook. Save the sheet as CSV",
    b"\x1f\x8b": "compressed with gzip. Unpack it",
    b"PAR1": "a Parquet file. Rename it to .parquet",
}
_SPACED_QUOTE = rb'[,;|\t] +"'


@dataclass(frozen=True)
class Delimited:
    """How a file is to be read.

    Attributes:
        path: the file.
        names: of the columns, as they stand in the header.
        separator: of the cells.
        encoding: a codec's name.
        num_skipped: lines before the header that hold no column.
        is_spaced: whether a quote follows a separator and a space.
        num_comments: how many of the lines that are skipped say something.
        is_escaped: whether a backslash stands before a quote that is part of a cell.
    """

    path: Path
    names: list[str]
    separator: str
    encoding: str
    num_skipped: int
    is_spaced: bool
    num_comments: int = 0
    is_escaped: bool = False

    @property
    def notes(self) -> list[str]:
        """Lines to tell the person: what was guessed."""
        notes = []
        if self.encoding == "cp1252":
            notes.append(f"{self.path.name} is not UTF-8; it is read as Windows text (cp1252)")
        if self.num_comments:
            notes.append(
                f"{self.path.name}: {self.num_comments:,} lines before the header begin with # and are skipped"
            )
        if self.is_escaped:
            how = "with a backslash before them, so a backslash is no sign by itself"
            notes.append(f"{self.path.name}: quotes in its cells are written {how}")
        return notes

    def read(self, text_columns: Collection[str], null_values: Sequence[str]) -> pa.Table:
        """The rows, with Arrow's types.

        Args:
            text_columns: names (without white space around them) of columns that are read as text, as it stands.
            null_values: cells of other columns that hold no value.

        Raises:
            OSError, UnicodeError, pa.ArrowInvalid: if the file cannot be read by its own rules.
        """
        text = {name: pa.string() for name in self.names if name.strip() in text_columns}
        convert = pyarrow.csv.ConvertOptions(
            column_types=text, null_values=list(null_values), strings_can_be_null=False
        )
        try:
            return self._read(convert, _PIECE)
        except pa.ArrowInvalid as error:
            if "conversion error" not in str(error):
                raise
            # Arrow takes a column's type from its first block: numbers there, and a word a million rows below.
            return self._read(convert, _MAX_BLOCK)

    def _read(self, convert: pyarrow.csv.ConvertOptions, block_size: int) -> pa.Table:
        source: Any = self._without_spaces() if self.is_spaced else self.path
        size = len(source.getbuffer()) if self.is_spaced else self.path.stat().st_size
        options = pyarrow.csv.ReadOptions(
            encoding="utf-8" if self.is_spaced else self.encoding.removesuffix("-sig"),
            skip_rows=self.num_skipped,
            block_size=max(min(size + 1, block_size), 1 << 10),
        )
        escape = "\\" if self.is_escaped and not self.is_spaced else False
        parse = pyarrow.csv.ParseOptions(delimiter=self.separator, newlines_in_values=True, escape_char=escape)
        return pyarrow.csv.read_csv(source, read_options=options, parse_options=parse, convert_options=convert)

    def _without_spaces(self) -> io.BytesIO:
        """The file again, its cells told apart by Python's reader, which passes over a space before a quote."""
        out = io.StringIO(newline="")
        with self.path.open(encoding=self.encoding, newline="") as file:
            rows = _cells(file, self.separator, self.is_escaped)
            csv.writer(out, delimiter=self.separator, lineterminator="\n").writerows(rows)
        return io.BytesIO(out.getvalue().encode())


def look(path: Path) -> Delimited:
    """Look at a file.

    Raises:
        DataError: if it is another kind of file, empty, or in no encoding that is known.
        OSError: if it cannot be opened.
    """
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        separator, num_skipped = _said_by_excel(file.readline())
        if not num_skipped:
            file.seek(0)
        line, num_before, num_comments = _header(file, separator)
        separator = separator or _separator(line)
        lines = (each for part in ([line], file) for each in part)
        is_escaped = _is_escaped(path, encoding, separator)
        names = next(_cells(lines, separator, is_escaped), [])
    if not names:
        raise DataError(f"{path}: the file is empty.")
    is_spaced = _is_spaced(path, encoding)
    return Delimited(path, names, separator, encoding, num_skipped + num_before, is_spaced, num_comments, is_escaped)


def _header(file: TextIO, separator: str) -> tuple[str, int, int]:
    """The header's first line, how many lines stand before it here, and how many of these are comments.

    Args:
        separator: of the cells, where it is known; else "".
    """
    before: list[str] = []
    for line in file:
        if line.strip() and not line.startswith("#"):
            break
        before.append(line)
    else:
        line = ""
    comments = [at for at, text in enumerate(before) if text.strip()]
    if comments:
        last = before[comments[-1]]
        cells = [len(next(csv.reader([text], delimiter=separator or _separator(line)), [])) for text in (last, line)]
        if not line or cells[0] == cells[1] > 1:
            return last, comments[-1], len(comments) - 1
    return line, len(before), len(comments)


def _separator(line: str) -> str:
    """What a line has most of; a separator in quotes is none."""
    return max(",;\t|", key=re.sub(r'"[^"]*"', "", line).count)


def _said_by_excel(line: str) -> tuple[str, int]:
    """The separator that a first line `sep=;` names, and how many lines that takes."""
    found = re.fullmatch(r'"?sep=(.)"?', line.strip("\r\n"))
    return (found[1], 1) if found else ("", 0)


def _cells(lines: Iterable[str], separator: str, is_escaped: bool) -> Iterator[list[str]]:
    """The cells of each row, as Python tells them apart."""
    escape = "\\" if is_escaped else None
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, escapechar=escape)


def _is_escaped(path: Path, encoding: str, separator: str) -> bool:
    r"""Whether quotes in cells have a backslash before them: the file cannot be read otherwise, and can be read so.

    `"C:\data\",7` is read as it stands: there the backslash is the last sign of the cell, as it may be.
    """
    with path.open(encoding=encoding, newline="") as file:
        text = file.read(_LOOKED_AT)
        is_whole = not file.read(1)
    if '\\"' not in text:
        return False
    text = text if is_whole else text[: text.rfind("\n") + 1]
    return not _reads(text, separator, is_escaped=False) and _reads(text, separator, is_escaped=True)


def _reads(text: str, separator: str, is_escaped: bool) -> bool:
    """Whether each cell that begins with a quote ends with one, and with nothing else before the separator."""
    sep = re.escape(separator)
    end = rf"(?:{sep}|\r\n|\r|\n|\Z)"
    quoted = r'(?:[^"\\]|\\.|"")*+' if is_escaped else r'(?:[^"]|"")*+'
    plain = rf"(?:[^{sep}\r\n\\]|\\.)*+" if is_escaped else rf"[^{sep}\r\n]*+"
    cell = re.compile(rf' *"{quoted}" *{end}|(?! *"){plain}{end}', re.DOTALL)
    at = 0
    while at < len(text):
        found = cell.match(text, at)
        if found is None:
            return False
        at = found.end()
    return True


def _is_spaced(path: Path, encoding: str) -> bool:
    if encoding.startswith(("utf-16", "utf-32")):
        return re.search(_SPACED_QUOTE.decode(), path.read_text(encoding=encoding)) is not None
    overlap = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if re.search(_SPACED_QUOTE, overlap + piece):
                return True
            overlap = piece[-64:]
    return False


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(1 << 12)
    for begin, what in _OTHER_FILES.items():
        if head.startswith(begin):
            raise DataError(f"{path} is {what}.")
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if head and b"\0" in head:
        return _without_mark(path, head)
    for encoding in ("utf-8", "cp1252"):
        if _decodes(path, encoding):
            return encoding
    raise DataError(
        f"{path} is text in an encoding that is neither UTF-8, UTF-16 nor Windows' cp1252. Save it as UTF-8 "
        '(in Excel: "CSV UTF-8").'
    )


def _without_mark(path: Path, head: bytes) -> str:
    """UTF-16 without a byte order mark: ASCII text has its zeros at every second place."""
    odd, even = head[1::2].count(0), head[0::2].count(0)
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    if min(odd, even) == 0 and _decodes(path, encoding):
        return encoding
    raise DataError(f"{path} holds bytes that no text has (0), so it is no CSV file. Export the table again as CSV.")


def _decodes(path: Path, encoding: str) -> bool:
    """Whether all of a file is text in an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
