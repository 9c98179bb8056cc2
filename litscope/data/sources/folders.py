"""A folder of images -> Listing: `train|val|test/<class>/...` or `<class>/...`. No torch.

Sub-folders of a class folder belong to the class. A class folder without images is a class too, so that it can be
reported. Images directly in a split's folder (or beside class folders) have no label. `layout` finds out which folders
are splits, `tree` walks over them. Nothing is opened or asked for its size here.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from litscope.data.manifest import UNLABELLED
from litscope.data.sources.layout import find_layout, other_task
from litscope.data.sources.listing import Listing, look_alikes, order_classes
from litscope.data.sources.tree import IMAGE_SUFFIXES, Tree, is_image, some
from litscope.errors import DataError

OTHER_PICTURES = frozenset(
    f".{name}"
    for name in (
        *("heic", "heif", "avif", "jp2", "j2k", "jxl", "svg", "psd", "ico", "tga", "eps", "exr", "hdr", "dds", "qoi"),
        *("dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf", "dcm", "nii"),
    )
)
"""Endings of pictures that litscope does not read: phones, cameras and clinics write them."""
_CONVERT = ": convert them to JPEG, PNG or .npy"


@dataclass
class _Found:
    """What lies below the root.

    Attributes:
        tree: walks over it.
        keys: (split, class or None) -> its images.
        others: class folder as on the disk ("" outside of them) -> how many other files have which suffix.
        folders: class -> the names that its folders have on the disk.
    """

    tree: Tree
    keys: dict[tuple[str, str | None], list[str]] = field(default_factory=dict)
    others: dict[str, Counter[str]] = field(default_factory=dict)
    folders: dict[str, set[str]] = field(default_factory=dict)

    def add_classes(self, base: str, split: str) -> None:
        """Add the images in a folder of class folders; those beside the class folders have no label."""
        for folder in self.tree.folders(base):
            label = class_name(folder)
            self.folders.setdefault(label, set()).add(folder)
            self._add((split, label), folder, self.tree.files(f"{base}{folder}/"))
        self._add((split, None), "", self.tree.files(base, recursive=False))

    def _add(self, part: tuple[str, str | None], folder: str, files: Iterable[str]) -> None:
        keys = self.keys.setdefault(part, [])
        others = self.others.setdefault(folder, Counter())
        for key in files:
            if is_image(key):
                keys.append(key)
            else:
                others[os.path.splitext(key)[1].lower()] += 1  # noqa: PTH122 once per file

    @property
    def other_suffixes(self) -> Counter[str]:
        """Endings of the files that are not read -> how many have it."""
        return sum(self.others.values(), Counter())


def list_folder(root: Path, is_trained_on: bool = True) -> Listing:
    """List a folder of images, sorted by path.

    Args:
        is_trained_on: refuse a folder that has no classes, or one only.

    Raises:
        DataError: if it holds no image, no class folder, or only one class; if it may not be read, or is one of boxes
            or masks.
    """
    found = _Found(Tree(root))
    layout = find_layout(found.tree)
    for folder, split in (layout.splits or {layout.base: ""}).items():
        found.add_classes(folder, split)
    _check(root, found, is_trained_on)
    rows = _rows(root, found)
    rows.notes += [*layout.notes, *found.tree.notes()]
    rows.unreadable = found.tree.unreadable
    return rows


def list_images(root: Path) -> tuple[list[str], list[str]]:
    """All images below a folder, whatever its folders mean.

    Returns:
        Their paths relative to it with "/", sorted; and lines for the person.
    """
    tree = Tree(root)
    files = list(tree.files(""))
    keys = sorted(filter(is_image, files))
    others = Counter(os.path.splitext(key)[1].lower() for key in files if not is_image(key))  # noqa: PTH122 as above
    unreadable = [f"{root / path} is set aside: {reason}" for path, reason in tree.unreadable.items()]
    return keys, [*unreadable, *_notes_on_others(others), *tree.notes()]


def class_name(folder: str) -> str:
    """The class that a folder's name means: without white space around it, its accents in one Unicode form (NFC)."""
    return unicodedata.normalize("NFC", folder.strip() or folder)


def _rows(root: Path, found: _Found) -> Listing:
    classes = order_classes(label for _, label in found.keys if label is not None)
    position = {label: index for index, label in enumerate(classes)}
    keys, labels, splits = [], [], []
    for (split, label), names in found.keys.items():
        keys += names
        labels.append(np.full(len(names), UNLABELLED if label is None else position[label], dtype=np.int64))
        splits.append(np.full(len(names), split, dtype=object))
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    all_labels = np.concatenate(labels)[order]
    notes = [*_notes_on_names(found.folders), *look_alikes(classes)]
    notes += _notes_on_others(found.other_suffixes)
    num_unlabelled = int((all_labels == UNLABELLED).sum())
    if num_unlabelled:
        notes.append(f"{num_unlabelled:,} images outside of the class folders are kept without a label")
    return Listing(
        name=root.resolve().name,
        keys=[keys[i] for i in order],
        labels=all_labels,
        classes=classes,
        splits=np.concatenate(splits)[order],
        notes=notes,
        root=root,
    )


def _notes_on_others(suffixes: Counter[str]) -> list[str]:
    """Lines about files that are not read.

    Args:
        suffixes: their endings, in lower case -> how many have it.
    """
    pictures = Counter({suffix: count for suffix, count in suffixes.items() if suffix in OTHER_PICTURES})
    rest, notes = suffixes - pictures, []
    if rest:
        notes.append(f"{rest.total():,} files that are not images are passed over ({_counted(rest)})")
    if pictures:
        notes.append(
            f"{pictures.total():,} images of a kind that is not read are passed over ({_counted(pictures)}){_CONVERT}"
        )
    return notes


def _counted(suffixes: Counter[str]) -> str:
    """`16 .heic, 1 .db`: the most frequent five."""
    shown = [f"{count:,} {suffix or 'without an ending'}" for suffix, count in suffixes.most_common(5)]
    return ", ".join([*shown, "..."] if len(suffixes) > len(shown) else shown)


def _notes_on_names(folders: dict[str, set[str]]) -> list[str]:
    notes = []
    for label, names in folders.items():
        if len(names) > 1:
            written = " and ".join(map(ascii, sorted(names)))
            notes.append(f"the folders {written} are one class, {label!r}: only white space or Unicode's form differs")
    spaced = sorted(repr(name) for names in folders.values() for name in names if name != name.strip() and name.strip())
    if spaced:
        notes.append(f"labels: white space around {len(spaced):,} folder names is dropped: {some(spaced)}")
    return notes


def _check(root: Path, found: _Found, is_trained_on: bool) -> None:
    expected = "Expected are train/<class>/..., val/<class>/..., test/<class>/... or <class>/..."
    if reason := found.tree.unreadable.get("."):
        raise DataError(f"{root} cannot be read: {reason}.")
    images: dict[str, list[str]] = {}
    for (_, label), keys in found.keys.items():
        images.setdefault(label or "", []).extend(keys)
    classes = images.keys() - {""}
    num_images = sum(map(len, images.values()))
    if not num_images:
        num_others = found.other_suffixes.total()
        others = f" ({num_others:,} other files)" if num_others else ""
        pictures = [note for note in _notes_on_others(found.other_suffixes) if note.endswith(_CONVERT)]
        passed = "".join(f" {note}." for note in (*pictures, *found.tree.notes()))
        raise DataError(
            f"{root} holds no images{others}.{passed} {expected} with {', '.join(sorted(IMAGE_SUFFIXES))} files."
        )
    if not is_trained_on:
        return
    if task := other_task(images, found.others):
        raise DataError(
            f"{root} has no class for each image. {task} litscope trains classifiers. {expected}, or a CSV file with "
            "the columns filepath and label."
        )
    if not classes:
        raise DataError(
            f"{root} holds {num_images:,} images, but no class folders, so they have no labels. {expected}; "
            "labels may also come from a CSV file with the columns filepath and label."
        )
    if len(classes) == 1:
        raise DataError(f"{root} holds one class only, {min(classes)!r}; a classifier needs at least two. {expected}.")
