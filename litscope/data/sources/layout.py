"""Layout: which folders of a data set are splits and which are classes. No torch.

    train/<class>/..., val/<class>/..., test/<class>/...     also by names such as Training, valid, test_images, val2017
    <class>/...
    images/train/<class>/...                                 either, one level down, if nothing else has images
    train/train/<class>/...                                  a split's folder that was packed into itself

Where the folders are those of another task (boxes, masks), `other_task` says so.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from litscope.data.sources.splits import canonical_split
from litscope.data.sources.tree import Tree, some

_FILLERS = {"data", "dataset", "files", "folder", "image", "images", "img", "imgs", "photos", "pictures", "seg", "set"}
"""Words that a split's folder has beside train, val or test."""

_IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages", "frames", "pictures", "photos"}
_ANNOTATION_FOLDERS = {"labels", "label", "annotations", "annotation", "annots", "boxes", "bboxes", "xml", "xmls"}
_MASK_FOLDERS = _ANNOTATION_FOLDERS | {"masks", "mask", "segmentation", "segmentations", "segmentationclass", "gt"}
_ANNOTATION_SUFFIXES = (".txt", ".xml", ".json")


@dataclass(frozen=True)
class Layout:
    """Where the classes lie.

    Attributes:
        base: the folder that holds them, or the splits; "" is the root.
        splits: folder -> split; empty where the folders in `base` are classes.
        notes: lines for the person.
    """

    base: str
    splits: Mapping[str, str]
    notes: list[str] = field(default_factory=list)


def split_of(folder: str) -> str | None:
    """train, val or test for the usual names of a split's folder; None for any other."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\d_]+", folder)
    words = [word.casefold() for word in words if not re.fullmatch(r"(19|20)\d\d", word)]
    telling = [word for word in words if word not in _FILLERS]
    if len(telling) != 1:
        return None
    return canonical_split(telling[0]) or canonical_split(telling[0].removesuffix("set")) or None


def find_layout(tree: Tree) -> Layout:
    """The layout of a data set: its own folders first, then those one level down."""
    if splits := _splits_in(tree, ""):
        return _with_splits(tree, "", splits)
    names = tree.folders("")
    inside = {name: found for name in names if (found := _splits_in(tree, f"{name}/"))}
    holding = [name for name, found in inside.items() if any(tree.folders(f"{name}/{split}/") for split in found)]
    others = [name for name in names if name not in holding]
    if len(holding) == 1 and not tree.images("") and not any(tree.images(f"{name}/") for name in others):
        return _with_splits(tree, f"{holding[0]}/", inside[holding[0]])
    if len(names) == 1 and not inside and not tree.images("") and not tree.images(f"{names[0]}/"):
        wrapper = f"{names[0]}/"
        if len(tree.folders(wrapper)) > 1:
            return Layout(wrapper, {}, [f"the classes are the folders in {wrapper}"])
    notes = []
    if inside and len(names) > 1:
        splits = {split: "" for found in inside.values() for split in found}
        notes = [
            f"{some(list(inside))} hold folders called {some(list(splits))}: read as parts of the class, no splits"
        ]
    return Layout("", {}, notes)


def other_task(images: Mapping[str, Sequence[str]], others: Mapping[str, Counter[str]]) -> str:
    """What the folders look like, if they are not those of a classification; else "".

    Args:
        images: class folder -> names of its images; "" are those outside of the class folders.
        others: class folder -> how many other files have which suffix.
    """
    with_images = [name for name, keys in images.items() if keys]
    are_images = all(name == "" or name.casefold() in _IMAGE_FOLDERS or split_of(name) for name in with_images)
    for name in {*images, *others}:
        count, suffix = _annotations(others.get(name, Counter()))
        if are_images and not images.get(name) and count and name.casefold() in _ANNOTATION_FOLDERS:
            return f"It looks like a data set for object detection: {name}/ holds {count:,} {suffix} files."
    beside, suffix = _annotations(others.get("", Counter()))
    if with_images == [""] and beside and 2 * beside >= len(images[""]):
        return f"It looks like a data set for object detection: {beside:,} {suffix} files lie beside the images."
    masks = [name for name in with_images if name.casefold() in _MASK_FOLDERS]
    pictures = [name for name in with_images if name.casefold() in _IMAGE_FOLDERS]
    if len(with_images) == 2 and masks and pictures:
        stems = [{os.path.splitext(os.path.basename(key))[0] for key in images[name]} for name in with_images]  # noqa: PTH119, PTH122 once per file
        if 2 * len(stems[0] & stems[1]) >= len(stems[0]):
            return f"It looks like a data set for segmentation: {masks[0]}/ and {pictures[0]}/ hold the same names."
    return ""


def _annotations(suffixes: Counter[str]) -> tuple[int, str]:
    """The most frequent suffix of annotations, and how often it is there."""
    return max((suffixes[suffix], suffix) for suffix in _ANNOTATION_SUFFIXES)


def _splits_in(tree: Tree, below: str) -> dict[str, str]:
    """Folder -> split, or nothing where the folders are classes.

    `train`, `test` ... are splits if there is nothing else beside them, or if one of them holds
    folders: among `car`, `boat` and `train` with images directly inside, `train` is a class.
    """
    names = tree.folders(below)
    known = {name: split for name in names if (split := split_of(name))}
    if known and (len(known) == len(names) or any(tree.folders(f"{below}{name}/") for name in known)):
        return known
    return {}


def _with_splits(tree: Tree, base: str, names: Mapping[str, str]) -> Layout:
    splits = {}
    for name, split in names.items():
        folder = f"{base}{name}/"
        inner = tree.folders(folder)
        if len(inner) == 1 and split_of(inner[0]) == split and not tree.images(folder):
            folder += f"{inner[0]}/"
        splits[folder] = split
    notes = []
    unusual = [folder for folder in splits if canonical_split(folder.rstrip("/")) is None]
    if unusual:
        notes.append("splits: " + ", ".join(f"{splits[folder]} is {folder}" for folder in unusual))
    beside = [name for name in tree.folders(base) if name not in names]
    if base:
        beside = [*(f"{base}{name}" for name in beside), *(n for n in tree.folders("") if f"{n}/" != base)]
    if beside:
        notes.append(f"folders beside {', '.join(names)} are not used: {', '.join(beside)}")
    return Layout(base, splits, notes)
