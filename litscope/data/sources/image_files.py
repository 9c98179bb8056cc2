"""Image paths as people write them into lists -> files that are there. No torch.

    ~/a.jpg, file:///data/a.jpg                  the file they mean
    images/a.jpg                                 below the root, which is the list's folder or --image-root
    images/a, images/a.JPG                       `a` with an image's suffix, in any case, in either Unicode form
    C:\\data\\images\\a.jpg, https://host/a.jpg,   written on another machine: below the root, without the folders
    /home/somebody/data/images/a.jpg             that are not there
    a.jpg, where the root holds images/a.jpg     one folder below the root, if it is the only one that has it

A path that is there as it stands is never looked for elsewhere, and no two paths become one file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.reading.fits import suffix_of
from litscope.data.sources.columns import IMAGE_SUFFIXES
from litscope.data.sources.numbers import trimmed
from litscope.errors import DataError

_PROBES = 256  # paths that are looked at to see whether all are there as they stand
_MAX_FOLDERS = 20  # below the root that are looked into
_MAX_SEARCHES = 100  # paths that are looked for in vain, before the others are only looked up
_ANCHOR = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*/+|[A-Za-z]:/*|/+")
"""Where a whole path begins: a URL's host, a drive, the root."""


def image_keys(path: Path, column: pa.ChunkedArray, root: Path) -> tuple[list[str], list[str]]:
    """The paths of images in a list: absolute or relative to the root, with "/" as separator.

    Args:
        path: the list.
        column: (N,) its paths.
        root: the folder that relative paths start from.

    Returns:
        (N,) paths, those of files that are there wherever they could be found; and lines for the person.

    Raises:
        DataError: if a row has no path.
    """
    try:
        texts = trimmed(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}: the column of image paths is of type {column.type}; paths are text.") from error
    is_empty = pc.or_(pc.is_null(texts), pc.equal(texts, "")).fill_null(True).to_numpy(zero_copy_only=False)
    if is_empty.any():
        raise DataError(f"{path}: row {int(np.argmax(is_empty)) + 1} below the header has no image path.")
    keys = [_plain(text) for text in texts.to_pylist()]
    moved = _find(root, keys)
    if not moved:
        return keys, []
    first, where = next(iter(moved.items()))
    note = f"{path.name}: {len(moved):,} image paths are not there as they stand; {first} is read from {root / where}"
    return [moved.get(key, key) for key in keys], [note]


def check_some(root: Path, keys: Sequence[str]) -> None:
    """Refuse paths not one of which is there, as far as some of them tell.

    Raises:
        DataError: with what to do.
    """
    if not any(os.path.exists(root / key) for key in _probes(keys)):  # noqa: PTH110 a name may be too long for a path
        raise DataError(
            f"None of the {len(keys):,} images is there. The first is {root / keys[0]}. {hint(root, keys[0])}"
        )


def hint(root: Path, key: str) -> str:
    """What to do about images of a list that are not there.

    Args:
        key: the path of one of them.
    """
    if "://" in key:
        return (
            f"{key} is a URL, and images are read from files: download them, and name their folder with --image-root."
        )
    return f"Relative paths start from {root}; another folder is named with --image-root."


def _plain(text: str) -> str:
    """A path as it stands in a list, with "/" and without "./", "~", "file:" and the query of a URL."""
    if text.lower().startswith("file:"):
        text = unquote(urlsplit(text).path)
        text = text[1:] if re.match(r"/[A-Za-z]:", text) else text
    elif "://" in text:
        text = unquote(re.split(r"[?#]", text, maxsplit=1)[0])
    text = text.replace("\\", "/")
    text = os.path.expanduser(text) if text.startswith("~") else text  # noqa: PTH111 a name may be no user's
    return text.removeprefix("./")


def _find(root: Path, keys: Sequence[str]) -> dict[str, str]:
    """Path -> where its file is, for those that are not there as they stand and are found elsewhere."""
    probes = _probes(keys)
    is_there = [os.path.exists(root / key) for key in probes]  # noqa: PTH110 a name may be too long for a path
    if all(is_there):
        return {}
    search = _Search(root, may_move=sum(is_there) < len(probes) / 2)
    found: dict[str, str] = {}
    sources: dict[str, list[str]] = defaultdict(list)
    for key in dict.fromkeys(keys):
        where = key if os.path.exists(root / key) else search.find(key)  # noqa: PTH110
        if where is not None:
            found[key] = where
            sources[os.path.normpath(where)].append(key)
    return {key: where for key, where in found.items() if key != where and len(sources[os.path.normpath(where)]) == 1}


def _probes(keys: Sequence[str]) -> list[str]:
    """Some of the paths, spread evenly over them, and some with letters that may be written in two ways."""
    accented = list(islice((key for key in keys if not key.isascii()), _PROBES))
    return [*(keys[i] for i in np.unique(np.linspace(0, len(keys) - 1, _PROBES).astype(np.int64))), *accented]


def _one_form(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _alike(name: str) -> str:
    return _one_form(name).casefold()


class _Search:
    """Looks for files that are not where their paths say.

    Args:
        root: where the search begins.
        may_move: whether relative paths may lie elsewhere too: no, where most are there as they stand.
    """

    def __init__(self, root: Path, may_move: bool) -> None:
        self._folders = _Folders(root)
        self._below = self._folders.below()
        self._may_move = may_move
        self._moves: list[tuple[str, str]] = []  # (what a path begins with, what its file begins with)
        self._num_failed = 0

    def find(self, key: str) -> str | None:
        """Where a file is; None if it is not found."""
        here = self._folders.find(key)
        anchor = _ANCHOR.match(key)
        if here is not None or not (anchor or self._may_move):
            return here
        for begin, base in self._moves:
            if key.startswith(begin) and (found := self._folders.find(base + key[len(begin) :])):
                return found
        if self._num_failed >= _MAX_SEARCHES:
            return None
        found = self._search(key, anchor.end() if anchor else 0)
        self._num_failed += found is None
        return found

    def _search(self, key: str, start: int) -> str | None:
        """Leave out more and more of a path's folders until a file is below the root, or one folder below it."""
        starts = [start, *(i + 1 for i, letter in enumerate(key) if letter == "/" and i >= start)]
        for at in starts:
            may_be_below = at == 0 or start > 0  # a relative path keeps its own folders, or lies in them below the root
            bases = ["", *(f"{folder}/" for folder in self._below if may_be_below)]
            places = [(base, found) for base in bases if (found := self._folders.find(base + key[at:]))]
            if places and (places[0][0] == "" or len(places) == 1):
                base, found = places[0]
                self._moves.insert(0, (key[:at], base))
                return found
        return None


@dataclass
class _Folders:
    """What is in folders, each listed once.

    Attributes:
        root: paths are relative to it.
    """

    root: Path
    known: dict[str, tuple[set[str], dict[str, list[str]]]] = field(default_factory=dict)

    def find(self, path: str) -> str | None:
        """A file that is there: of this path, else the only one that differs in case, in an image's suffix, or in the
        Unicode form of its letters (macOS writes accents apart from them)."""
        asked, name = os.path.split(path)
        folder = self._folder(asked)
        names, alike = self._list(folder)
        if name in names:
            return path if folder == asked else os.path.join(folder, name)  # noqa: PTH118 as above
        found = alike.get(_alike(name), [])
        return os.path.join(folder, found[0]) if len(found) == 1 else None  # noqa: PTH118 as above

    def _folder(self, path: str) -> str:
        """A folder that is there: of this path, else the only one that differs in the Unicode form of its letters."""
        if path.isascii() or (self.root / path).is_dir():
            return path
        parent, name = os.path.split(path)
        parent = self._folder(parent)
        try:
            entries = [entry.name for entry in os.scandir(self.root / parent) if entry.is_dir()]
        except OSError:
            return path
        found = [entry for entry in entries if _one_form(entry) == _one_form(name)]
        return os.path.join(parent, found[0]) if len(found) == 1 else path  # noqa: PTH118 as above

    def below(self) -> list[str]:
        """Folders directly below the root."""
        if not self.root.is_dir():
            return []
        found = (entry.name for entry in os.scandir(self.root) if entry.is_dir() and not entry.name.startswith("."))
        return sorted(found)[:_MAX_FOLDERS]

    def _list(self, folder: str) -> tuple[set[str], dict[str, list[str]]]:
        """The names in a folder; and those for a name in lower case, with its suffix or without."""
        if folder not in self.known:
            alike: dict[str, list[str]] = defaultdict(list)
            try:
                names = {entry.name for entry in os.scandir(self.root / folder) if entry.is_file()}
            except OSError:
                names = set()
            for name in names:
                suffix = suffix_of(name)
                stem = name[: len(name) - len(suffix)]
                for key in {_alike(name), _alike(stem if suffix in IMAGE_SUFFIXES else name)}:
                    alike[key].append(name)
            self.known[folder] = names, alike
        return self.known[folder]
