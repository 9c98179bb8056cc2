"""The members of a tar file, from its headers: what they are called, and where their bytes lie.

    ustar, GNU (long names, large sizes) and PAX headers; folders and links are passed over

A header whose checksum is wrong, a member that is longer than the file and a file without the end of an archive are
errors that say where. `tarfile` takes the first of these for the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from litscope.data.reading.digests import new_digest
from litscope.errors import DataError

BLOCK = 512
_ZEROS = bytes(BLOCK)
_FILES = b"0\x007"
_OTHERS = b"123456DMV"  # links, devices, folders, names of volumes
_SUM = slice(148, 156)
_LONG_NAME, _LONG_LINK, _PAX, _PAX_OF_ALL, _SPARSE = b"L", b"K", b"xX", b"g", b"S"
_MOST_HEADER = 1 << 20  # bytes of a long name or of PAX records

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}

Fetch = Callable[[int, int], bytes]
"""(offset, size) -> these bytes of a file."""


class BrokenTarError(DataError):
    """A tar file is not whole.

    Attributes:
        offset: of the byte from which on it cannot be read.
    """

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"at byte {offset:,}: {why}")
        self.offset = offset


@dataclass(frozen=True)
class Member:
    """A file in a tar file.

    Attributes:
        name: as it stands there.
        offset, size: of its bytes, in the tar file.
    """

    name: str
    offset: int
    size: int


class Window:
    """A part of a file that is moved forward over it.

    Args:
        fetch: reads the file.
        size: of the file.
        piece: bytes that are fetched at once. What lies between two parts that are asked for is passed over where it
            is longer than a quarter of this.
        is_whole: pass over nothing, and take the digest of the file.
    """

    def __init__(self, fetch: Fetch, size: int, piece: int, is_whole: bool = False) -> None:
        self.size = size
        self._fetch, self._piece, self._is_whole = fetch, piece, is_whole
        self._start, self._bytes = 0, b""
        self._digest = new_digest()

    @property
    def _end(self) -> int:
        return self._start + len(self._bytes)

    def at(self, offset: int, size: int) -> bytes:
        """These bytes; fewer at the end of the file. Offsets never become smaller."""
        if offset + size > self._end:
            self._move(offset, size)
        start = offset - self._start
        return self._bytes[start : start + size]

    def hexdigest(self) -> str:
        """Of the whole file, once the rest of it was fetched; "" where parts are passed over."""
        if not self._is_whole:
            return ""
        while self._end < self.size:
            self._append(self._piece)
            self._drop(self._end)
        return self._digest.hexdigest()

    def _move(self, offset: int, size: int) -> None:
        """Have at least the bytes that are asked for, if the file has them, and none before."""
        gap = offset - self._end
        if gap > 0 and not self._is_whole and gap > self._piece // 4:
            self._start, self._bytes = offset, b""
        while self._end < offset and self._end < self.size:
            self._append(self._piece)
            self._drop(min(offset, self._end))
        self._drop(offset)
        missing = offset + size - self._end
        if missing > 0 and self._end < self.size:
            self._append(max(self._piece, missing))

    def _append(self, size: int) -> None:
        start = self._end
        wanted = min(size, self.size - start)
        new = self._fetch(start, wanted)
        if len(new) < wanted:
            raise BrokenTarError(start + len(new), "the file ends here, and was longer when it was listed")
        if self._is_whole:
            self._digest.update(new)
        self._bytes += new

    def _drop(self, before: int) -> None:
        if before > self._start:
            self._bytes = self._bytes[before - self._start :]
            self._start = before


def members(window: Window) -> Iterator[Member]:
    """The files of an archive, in order.

    Raises:
        BrokenTarError: if it is not whole, no tar file, or compressed; what came before it is whole.
    """
    at, long_name, pax, pax_of_all = 0, "", dict[str, str](), dict[str, str]()
    if window.size == 0:
        raise BrokenTarError(0, "the file is empty")
    while True:
        header = window.at(at, BLOCK)
        if len(header) < BLOCK:
            where = min(at, window.size)
            raise BrokenTarError(where, "the file ends here, before the end of the archive: it was cut, or never ended")
        if header == _ZEROS:
            _require_end(window, at)
            return
        kind, size = header[156:157], _size(header, at)
        start = at + BLOCK
        if kind in _FILES or kind in _OTHERS:
            known = {**pax_of_all, **pax}
            if "size" in known and kind in _FILES:
                size = _whole_number(known["size"], at)
            if any(word.startswith("GNU.sparse") for word in known):
                raise BrokenTarError(at, "a file with holes (sparse), which has no bytes of its own to be read")
            name = known.get("path") or long_name or _name(header)
            long_name, pax = "", {}
        if kind in _OTHERS:
            size = 0
        end = start + size
        if end > window.size:
            raise BrokenTarError(
                start, f"the file ends {end - window.size:,} bytes before the end of a member: it was cut"
            )
        if kind in _FILES:
            if not name.endswith("/"):
                yield Member(name, start, size)
        elif kind in (_LONG_NAME, _LONG_LINK):
            if kind == _LONG_NAME:
                long_name = _text(_content(window, start, size, at).partition(b"\0")[0])
        elif kind in _PAX or kind == _PAX_OF_ALL:
            records = _records(_content(window, start, size, at), at)
            if kind == _PAX_OF_ALL:
                pax_of_all |= records
            else:
                pax = records
        elif kind == _SPARSE:
            raise BrokenTarError(at, "a file with holes (sparse), which has no bytes of its own to be read")
        elif kind not in _OTHERS:
            raise BrokenTarError(at, f"a member of the unknown kind {kind!r}")
        at = end + -size % BLOCK


def _size(header: bytes, at: int) -> int:
    """The size in a header, after its checksum was found right."""
    try:
        told = int(header[_SUM].split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        told = -1
    if told != sum(header) - sum(header[_SUM]) + 8 * 32:
        kind = next((name for magic, name in _COMPRESSED.items() if at == 0 and header.startswith(magic)), None)
        if kind is not None:
            raise BrokenTarError(at, f"compressed with {kind}; a sample has no place in it of its own. Unpack the file")
        what = "this is no tar file" if at == 0 else "no header of a member: the file is damaged from here on"
        raise BrokenTarError(at, what)
    field = header[124:136]
    if field[0] & 0x80:  # GNU: a number of 95 bits
        return int.from_bytes(field, "big") & ((1 << 95) - 1)
    return _whole_number(field.split(b"\0")[0].decode("latin-1").strip() or "0", at, 8)


def _whole_number(text: str, at: int, base: int = 10) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise BrokenTarError(at, f"a member has the size {text!r}")
    return number


def _name(header: bytes) -> str:
    name = _text(header[:100].partition(b"\0")[0])
    is_ustar = header[257:263] == b"ustar\0"
    prefix = _text(header[345:500].partition(b"\0")[0]) if is_ustar else ""
    return f"{prefix}/{name}" if prefix else name


def _content(window: Window, start: int, size: int, at: int) -> bytes:
    if size > _MOST_HEADER:
        raise BrokenTarError(at, f"a name or attributes of {size:,} bytes")
    return window.at(start, size)


def _records(content: bytes, at: int) -> dict[str, str]:
    """PAX: `27 path=folder/file.jpg\\n`, where 27 is the length of the record."""
    found: dict[str, str] = {}
    while content:
        length, _, rest = content.partition(b" ")
        if not length.isdigit() or not 5 <= int(length) <= len(content):
            raise BrokenTarError(at, "attributes of a member (PAX) that cannot be read")
        word, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        found[_text(word)] = _text(value)
        content = content[int(length) :]
    return found


def _text(name: bytes) -> str:
    """A name; bytes that are not UTF-8 stand as \\xNN."""
    return name.decode("utf-8", "backslashreplace")


def _require_end(window: Window, at: int) -> None:
    """Two blocks of zeros end an archive, and zeros may follow; what else follows is not passed over in silence."""
    if window.size < at + 2 * BLOCK:
        raise BrokenTarError(window.size, "the file ends within the end of the archive: it was cut")
    while at < window.size:
        piece = window.at(at, min(1 << 16, window.size - at))
        if piece.strip(b"\0"):
            where = at + len(piece) - len(piece.lstrip(b"\0"))
            raise BrokenTarError(where, "more after the end of the archive: two were joined. Give each as one file")
        at += len(piece)
