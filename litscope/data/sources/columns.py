"""Which column of a CSV or Parquet file is what: label, split, group, image paths, the index of rows. No torch.

    label     what --target names; else label, target or class, in any case
    split     split, in any case
    group     what --group-column names; in a list of images else `group`. In a table `group` is a column as others are
    image     what --image-column names; else a column of a usual name whose values are image paths
    index     what pandas and R write beside the rows: no feature

`none` for --group-column or --image-column says that there is no such column.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from litscope.data.manifest import Manifest
from litscope.data.reading import bands, fits, images
from litscope.data.sources.numbers import is_text, trimmed
from litscope.errors import ConfigError, DataError, did_you_mean

NONE = "none"
LABEL_COLUMNS = ("label", "target", "class")
SPLIT_COLUMN, GROUP_COLUMN = "split", "group"
IMAGE_SUFFIXES = images.SUFFIXES | {bands.SUFFIX} | fits.SUFFIXES

_IMAGE_NAMES = (
    *("filepath", "path", "file", "filename", "image", "imagepath", "imagefile", "imagefilename", "imagefilepath"),
    *("imagename", "imageid", "images", "img", "imgpath", "imgfile", "imgfilename", "imgname", "imgid", "imgs"),
    *("filepaths", "filenames", "files", "paths", "imagepaths", "imagenames", "fname", "fpath", "pic", "picture"),
    *("photo", "imageindex", "imageurl", "imguri", "imageuri", "imgurl"),
)
"""Usual names of a column of image paths, without case and punctuation, the most usual first."""
_CELL = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
"""A fraction: a cell, and hardly a column's name. (Whole numbers are: those of pixels.)"""
_LOOKED_AT = 1000  # values of a column that are looked at
_NUMBERED = re.compile(
    r"(?i:index|level_\d+|idx|row|rows?[ _.]?(id|idx|index|name|names|num|number)|(.*[ _.-])?id|no\.?|nr\.?|#)"
    r"|.*[a-z]I[dD]"
)
"""Names of columns that may number the rows."""
_UNNAMED = re.compile(r"|Unnamed: \d+(\.\d+)*|Unnamed: \d+_level_\d+|__index_level_\d+__|\.\.\.\d+")
"""Names that pandas, Arrow and R give to a column without one."""


@dataclass(frozen=True)
class Asked:
    """What a person says about a file, by flags; None is for what is usual.

    Attributes:
        target: the label column.
        group_column: rows of one value stay in one split; "none".
        image_column: image paths; "none": the file is a table.
        image_root: the folder that relative image paths start from.
        soft_labels: columns of grades; see `soft_labels`.
        soft_label_max: the grade that is certain.
        channels: of `.npz` and `.npy` files: whether channels are the first or the last axis of an image.
    """

    target: str | None = None
    group_column: str | None = None
    image_column: str | None = None
    image_root: str | os.PathLike[str] | None = None
    channels: Literal["first", "last"] | None = None
    soft_labels: tuple[str, ...] = ()
    soft_label_max: float | None = None


NOTHING = Asked()
"""Nothing is said: everything is as usual."""


def label_column(path: Path, names: Sequence[str], asked: str | None) -> str:
    """The column that holds the label.

    Raises:
        ConfigError: if the one that is asked for is none.
        DataError: if there is none of a usual name.
    """
    if asked is not None:
        return _asked(path, names, "--target", asked)
    found = _of_usual_name(names, LABEL_COLUMNS)
    if found is None:
        shown = ", ".join(names)
        if any(_CELL.fullmatch(name) or _suffix(name) in IMAGE_SUFFIXES for name in names):
            raise DataError(
                f"{path} seems to have no header: its first line is {shown}. Write the columns' names above it, and "
                "call the one that holds the label `label` (or name it with --target)."
            )
        raise DataError(
            f"{path} has no column named {', '.join(LABEL_COLUMNS)}. Say with --target which column holds the label; "
            f"its columns: {shown}."
        )
    return found


def has_usual_label(names: Sequence[str]) -> bool:
    """Whether a column has a usual name of one that holds the label."""
    return _of_usual_name(names, LABEL_COLUMNS) is not None


def one_hot_hint(table: pa.Table) -> str:
    """What is said of columns of which in each row one is 1 and the others are 0; "" where there are none."""
    rows = np.unique(np.linspace(0, table.num_rows - 1, _LOOKED_AT).astype(np.int64))
    head = table.take(pa.array(rows))
    names: list[str] = []
    ones: list[npt.NDArray[np.int64]] = []
    runs: list[tuple[list[str], list[npt.NDArray[np.int64]]]] = []
    for name in [*head.column_names, None]:
        values = None if name is None else _zeros_and_ones(head[name])
        if name is not None and values is not None:
            names.append(name)
            ones.append(values)
        elif names:
            runs.append((names, ones))
            names, ones = [], []
    found = max((_one_hot(*run) for run in runs), key=len, default=[])
    if not found:
        return ""
    shown = ", ".join(map(repr, found[:5])) + (", ..." if len(found) > 5 else "")
    return (
        f" In each row one of {shown} is 1 and the others are 0: a label, one-hot. Make one column of them, in pandas: "
        f"df['label'] = df[[{shown}]].idxmax(axis=1)."
    )


def _one_hot(names: list[str], ones: list[npt.NDArray[np.int64]]) -> list[str]:
    """The longest stretch of columns that add up to 1 in each row, of two or more; [] where there is none."""
    sums = np.cumsum([np.zeros_like(ones[0]), *ones], axis=0)  # (columns + 1, rows)
    for num in range(len(names), 1, -1):
        for start in range(len(names) - num + 1):
            if (sums[start + num] - sums[start] == 1).all():
                return names[start : start + num]
    return []


def _zeros_and_ones(values: pa.ChunkedArray) -> npt.NDArray[np.int64] | None:
    """(N,) 0 and 1 of a column that holds both and nothing else; else None."""
    kind = values.type
    if values.null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    found = values.to_numpy().astype(np.float64)
    return found.astype(np.int64) if set(np.unique(found).tolist()) == {0.0, 1.0} else None


def split_column(names: Sequence[str]) -> str | None:
    """The column that holds the split, if there is one."""
    return _of_usual_name(names, (SPLIT_COLUMN,))


def named_group(path: Path, names: Sequence[str], asked: str | None) -> str | None:
    """The group column that is asked for, if one is. Raises ConfigError."""
    return None if asked in (None, NONE) else _asked(path, names, "--group-column", str(asked))


def named_image(path: Path, names: Sequence[str], asked: str | None) -> str | None:
    """The column of image paths that is asked for, if one is. Raises ConfigError."""
    return None if asked in (None, NONE) else _asked(path, names, "--image-column", str(asked))


def group_of_run(known: Manifest, dataset: str | None, asked: str | None) -> str | None:
    """The group column with which a run began: of a table that may be `group`, which once was not asked for.

    Args:
        known: the run's manifest.
        dataset: where its data are.
        asked: what its recipe says.
    """
    is_file = Path(dataset or "").suffix.lower() in (".csv", ".tsv", ".parquet", ".pq")
    if asked is None and is_file and known.encoding.get("kind") == "table" and known.groups is not None:
        return GROUP_COLUMN
    return asked


def image_candidates(names: Sequence[str]) -> list[str]:
    """Columns that may hold image paths by their names, the most likely first."""
    rank = {usual: i for i, usual in enumerate(_IMAGE_NAMES)}
    plain = {name: re.sub(r"[\W_]", "", name.casefold()) for name in names}
    return sorted((name for name in names if plain[name] in rank), key=lambda name: rank[plain[name]])


def holds_paths(values: pa.ChunkedArray, root: Path, is_sure: bool) -> bool:
    """Whether the values of a column are paths of images.

    Args:
        root: the folder that relative paths start from.
        is_sure: the column's name is a usual one: half of the values are enough, and other files than those of images,
            or names that files are found for; else nearly all must end as images do.
    """
    if not is_text(values.type) and not (is_sure and pa.types.is_integer(values.type)):
        return False
    texts = [text for text in trimmed(values.slice(0, _LOOKED_AT)).to_pylist() if text]
    if not texts:
        return False
    num_images = sum(_suffix(text) in IMAGE_SUFFIXES for text in texts)
    if not is_sure:
        return num_images >= 0.9 * len(texts)
    num_paths = sum(re.fullmatch(r"\.[a-z][a-z0-9]{1,4}(\.gz)?", _suffix(text)) is not None for text in texts)
    return num_paths >= len(texts) / 2 or _lie_there(texts[:20], root)


def index_columns(table: pa.Table, of_pandas: Iterable[str]) -> list[str]:
    """Columns of a table that number or name its rows, and say nothing about them.

    Args:
        of_pandas: names that the file says are its index.
    """
    named = set(of_pandas)
    return [
        name
        for name in table.column_names
        if name in named or _UNNAMED.fullmatch(name) or (_NUMBERED.fullmatch(name) and _numbers_rows(table[name]))
    ]


def _asked(path: Path, names: Sequence[str], flag: str, asked: str) -> str:
    if asked in names:
        return asked
    hint = did_you_mean(asked, names)
    raise ConfigError(f"{flag} {asked!r} is no column of {path}.{hint} Its columns: {', '.join(names)}.")


def _of_usual_name(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first usual name that there is; as it is written, else in any case."""
    exact = next((name for name in usual if name in names), None)
    return exact or next((name for each in usual for name in names if name.casefold() == each), None)


def _suffix(text: str) -> str:
    return fits.suffix_of(text.split("?")[0])


def _lie_there(names: Sequence[str], root: Path) -> bool:
    """Whether most of some names without a suffix are those of images in a folder, or one level below."""
    if not root.is_dir():
        return False
    folders = [root, *sorted(folder for folder in root.iterdir() if folder.is_dir())[:20]]
    found = sum(
        any((folder / f"{name}{suffix}").exists() for folder in folders for suffix in ("", *IMAGE_SUFFIXES))
        for name in names
    )
    return found > len(names) / 2


def _numbers_rows(values: pa.ChunkedArray) -> bool:
    """Whether the values are integers in a row, in any order: 0 to N - 1, or from 1, or from 1001."""
    if not pa.types.is_integer(values.type) or values.null_count or len(values) < 2:
        return False
    ends = pc.min_max(values).as_py()
    if ends["max"] - ends["min"] != len(values) - 1:
        return False
    return len(np.unique(values.to_numpy())) == len(values)
