"""The names of data sets, and whether what is named is there: said before numpy, Arrow or torch is imported."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from litscope.data.sources.shard_names import is_addressed, require_there
from litscope.errors import DataError, did_you_mean

BUNDLED = ("digits", "iris", "breast_cancer")
"""Data sets that come with scikit-learn."""

NAMES = (*BUNDLED, "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
"""The data sets that `--dataset` may name, beside files and folders."""

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
"""Files that are read as tables, or as lists of images."""


def require_dataset(dataset: str) -> None:
    """Refuse what is neither the name of a data set, nor a folder, nor a file of a known kind, nor shards elsewhere.

    Raises:
        DataError: with names that are close, of data sets and of what lies beside the path.
    """
    if dataset not in NAMES and is_addressed(dataset):
        require_there(dataset)
        return
    path = Path(dataset).expanduser()
    if dataset in NAMES or path.is_dir():
        return
    if not path.is_file():
        hint = did_you_mean(dataset, NAMES) or did_you_mean(path.name, _neighbours(path))
        raise DataError(f"{dataset!r} is neither a file or folder nor a known data set ({', '.join(NAMES)}).{hint}")
    if path.suffix.lower() not in {*TABLE_SUFFIXES, ".npz"}:
        raise DataError(f"{path} is no data set: files end in {', '.join(sorted(TABLE_SUFFIXES))} or .npz.")


def require_paths(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Paths of new data, with `~` for the home folder. Shards elsewhere are not among them.

    Raises:
        DataError: for the first that does not exist.
    """
    found = [Path(path).expanduser() for path in paths]
    for path in found:
        if not path.exists():
            raise DataError(f"{path} does not exist.{did_you_mean(path.name, _neighbours(path))}")
    return found


def _neighbours(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path.parent)) if path.parent.is_dir() else []
