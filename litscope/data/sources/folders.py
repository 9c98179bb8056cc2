"""A folder of images -> Rows: `train|val|test/<class>/...` or `<class>/...`. No torch.

Sub-folders of a class folder belong to the class. A class folder without images is a class too, so
that it can be reported. Images directly in a split's folder (or beside class folders) have no label.
Names that begin with "." or "__" are passed over. Nothing is opened or asked for its size here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from litscope.data.manifest import UNLABELLED
from litscope.data.reading import bands, images
from litscope.data.sources.rows import Rows, order_classes
from litscope.data.sources.splits import canonical_split
from litscope.errors import DataError

IMAGE_SUFFIXES = images.SUFFIXES | {bands.SUFFIX}


@dataclass
class _Found:
    """Images by (split, class or None), and how many other files there were."""

    keys: dict[tuple[str, str | None], list[str]] = field(default_factory=dict)
    num_others: int = 0

    def add(self, root: Path, prefix: str, split: str, label: str | None, recursive: bool = True) -> None:
        """Add the images below root/prefix."""
        keys = self.keys.setdefault((split, label), [])
        for key in walk(root, prefix, recursive):
            if os.path.splitext(key)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 once per file
                keys.append(key)
            else:
                self.num_others += 1


def list_folder(root: Path) -> Rows:
    """List a folder of images, sorted by path.

    Raises:
        DataError: if it holds no image, no class folder, or only one class.
    """
    found = _Found()
    split_folders = _split_folders(root)
    for folder in [] if split_folders else _folders(root):
        found.add(root, f"{folder}/", "", folder)
    for name, split in split_folders.items():
        for folder in _folders(root / name):
            found.add(root, f"{name}/{folder}/", split, folder)
        found.add(root, f"{name}/", split, None, recursive=False)
    if not split_folders:
        found.add(root, "", "", None, recursive=False)
    _check_layout(root, found)
    rows = _rows(root, found)
    skipped = [name for name in _folders(root) if split_folders and name not in split_folders]
    if skipped:
        rows.notes.append(f"folders beside {', '.join(split_folders)} are not used: {', '.join(skipped)}")
    return rows


def list_images(root: Path) -> list[str]:
    """Paths of all images below a folder, relative to it with "/", sorted; whatever the folders mean."""
    return sorted(key for key in walk(root, "") if Path(key).suffix.lower() in IMAGE_SUFFIXES)


def walk(root: Path, prefix: str, recursive: bool = True) -> Iterator[str]:
    """Names of all files below root/prefix, relative to root; links to folders are followed once."""
    pending, seen = [prefix], {os.path.realpath(root / prefix)}
    while pending:
        below = pending.pop()
        for entry in os.scandir(root / below):
            if _is_hidden(entry.name):
                continue
            if not entry.is_dir():
                yield below + entry.name
            elif recursive:
                if entry.is_symlink():
                    real = os.path.realpath(entry.path)
                    if real in seen:
                        continue
                    seen.add(real)
                pending.append(f"{below}{entry.name}/")


def _rows(root: Path, found: _Found) -> Rows:
    classes = order_classes(label for _, label in found.keys if label is not None)
    position = {label: index for index, label in enumerate(classes)}
    keys, labels, splits = [], [], []
    for (split, label), names in found.keys.items():
        keys += names
        labels.append(np.full(len(names), UNLABELLED if label is None else position[label], dtype=np.int64))
        splits.append(np.full(len(names), split, dtype=object))
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    all_labels = np.concatenate(labels)[order]
    notes = []
    if found.num_others:
        notes.append(f"{found.num_others:,} files that are not images are passed over")
    num_unlabelled = int((all_labels == UNLABELLED).sum())
    if num_unlabelled:
        notes.append(f"{num_unlabelled:,} images outside of the class folders are kept without a label")
    return Rows(
        name=root.resolve().name,
        keys=[keys[i] for i in order],
        labels=all_labels,
        classes=classes,
        splits=np.concatenate(splits)[order],
        notes=notes,
        root=root,
    )


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not _is_hidden(entry.name))


def _split_folders(root: Path) -> dict[str, str]:
    """Folder -> split, or nothing where the folders are classes.

    `train`, `test` ... are splits if there is nothing else beside them, or if one of them holds
    folders: among `car`, `boat` and `train` with images directly inside, `train` is a class.
    """
    names = _folders(root)
    known = {name: split for name in names if (split := canonical_split(name))}
    if len(known) == len(names) or any(_folders(root / name) for name in known):
        return known
    return {}


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__"))


def _check_layout(root: Path, found: _Found) -> None:
    expected = "Expected are train/<class>/..., val/<class>/..., test/<class>/... or <class>/..."
    classes = {label for _, label in found.keys if label is not None}
    num_images = sum(map(len, found.keys.values()))
    if not num_images:
        others = f" ({found.num_others:,} other files)" if found.num_others else ""
        raise DataError(f"{root} holds no images{others}. {expected} with {', '.join(sorted(IMAGE_SUFFIXES))} files.")
    if not classes:
        raise DataError(
            f"{root} holds {num_images:,} images, but no class folders, so they have no labels. {expected}; "
            "labels may also come from a CSV file with the columns filepath and label."
        )
    if len(classes) == 1:
        raise DataError(f"{root} holds one class only, {classes.pop()!r}; a classifier needs at least two. {expected}.")
