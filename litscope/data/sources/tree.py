"""Tree: the files below a folder, however it is linked, and what was passed over on the way. No torch.

A link to a folder is followed once, and never where it leads back to a folder that holds it. A folder that cannot be
read is set aside, as a file would be. Names that begin with "." or "__" are passed over; images among them are counted.
Nothing is opened here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from litscope.data.reading import bands, fits, images

IMAGE_SUFFIXES = images.SUFFIXES | {bands.SUFFIX} | fits.SUFFIXES

_JUNK = frozenset({"__MACOSX", "__pycache__", ".git", ".ipynb_checkpoints"})
"""Hidden folders whose images nobody means."""

_SHOWN = 5  # names in a line for the person


def is_image(name: str) -> bool:
    """Whether a name ends as an image's does."""
    return fits.suffix_of(name) in IMAGE_SUFFIXES


def some(names: list[str]) -> str:
    """At most five names, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@dataclass
class _Listing:
    """Names in one folder: folders, links to folders, and everything else."""

    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


class Tree:
    """Files and folders below `root`; paths are relative to it, those of folders end in "/" ("" is the root).

    Args:
        root: an existing folder.

    Attributes:
        unreadable: path -> why it is set aside: folders that may not be read, links to themselves.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: dict[str, str] = {}
        self._repeated: set[str] = set()
        self._num_hidden: dict[str, int] = {}
        self._listings: dict[str, _Listing] = {}

    def folders(self, below: str) -> list[str]:
        """Names of the folders directly in one, sorted."""
        listing = self._list(below)
        links = []
        if listing.links:
            above = _with_ancestors(self._real(below))
            links = [name for name in listing.links if self._is_new(f"{below}{name}/", above)]
        return sorted([*listing.folders, *links])

    def images(self, below: str) -> list[str]:
        """Names of the images directly in one folder, sorted."""
        return sorted(filter(is_image, self._list(below).files))

    def files(self, below: str, recursive: bool = True) -> Iterator[str]:
        """Paths of all files below a folder; plain folders before links, so that a link repeats nothing."""
        seen = _with_ancestors(self._real(below))
        pending, links, is_first = [below], list[str](), True
        while pending or links:
            here = pending.pop() if pending else links.pop(0)
            if not is_first and not self._is_new(here, seen):
                continue
            is_first = False
            seen.add(self._real(here))
            listing = self._list(here)
            del self._listings[here]  # a data set has millions of names, and each folder is walked once
            for name in listing.files:
                yield here + name
            if recursive:
                pending += [f"{here}{name}/" for name in listing.folders]
                links += [f"{here}{name}/" for name in sorted(listing.links)]

    def notes(self) -> list[str]:
        """What was passed over, in lines for the person."""
        notes = []
        if self._repeated:
            names = some(sorted(path.rstrip("/") for path in self._repeated))
            notes.append(f"{len(self._repeated):,} links to folders that are read anyway are not followed: {names}")
        if self._num_hidden:
            count = sum(self._num_hidden.values())
            notes.append(
                f'{count:,} images are passed over, because a name begins with "." or "__": '
                f"{some(sorted(self._num_hidden))}. Rename what belongs to the data"
            )
        return notes

    def _list(self, below: str) -> _Listing:
        if below not in self._listings:
            listing = self._listings[below] = _Listing()
            try:
                for entry in os.scandir(self.root / below):
                    self._place(entry, below, listing)
            except OSError as error:
                self._set_aside(below.rstrip("/") or ".", error)
        return self._listings[below]

    def _place(self, entry: os.DirEntry[str], below: str, listing: _Listing) -> None:
        """Put one entry of a folder where it belongs."""
        name, path = entry.name, below + entry.name
        if name.startswith((".", "__")):
            if count := _num_hidden_images(entry):
                self._num_hidden[path] = count
            return
        try:
            is_folder = entry.is_dir()
        except OSError as error:  # a link to itself, or to what may not be looked at
            self._set_aside(path, error)
            return
        if not is_folder:
            listing.files.append(name)
        elif entry.is_symlink():
            listing.links.append(name)
        else:
            listing.folders.append(name)

    def _is_new(self, folder: str, seen: set[str]) -> bool:
        if self._real(folder) in seen:
            self._repeated.add(folder)
            return False
        return True

    def _set_aside(self, path: str, error: OSError) -> None:
        self.unreadable[path] = (error.strerror or str(error)).lower()

    def _real(self, folder: str) -> str:
        return os.path.realpath(self.root / folder)


def _with_ancestors(real: str) -> set[str]:
    return {real, *map(str, Path(real).parents)}


def _num_hidden_images(entry: os.DirEntry[str]) -> int:
    """Images that a hidden name hides; AppleDouble files ("._x.png") and well-known junk hold none."""
    name = entry.name
    if name in _JUNK or name.startswith("._"):
        return 0
    if not entry.is_dir(follow_symlinks=False):
        return int(is_image(name))
    return sum(is_image(file) for _, _, files in os.walk(entry.path) for file in files if not file.startswith("._"))
