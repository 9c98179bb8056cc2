"""`litscope index`: tar files that others wrote -> the index beside them. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from litscope.addresses import hidden
from litscope.console import number_of
from litscope.data.manifest import SPLITS
from litscope.data.shards.index import FILE, Index, Shard
from litscope.data.shards.scan import Asked
from litscope.data.shards.write import UNLABELLED_SHARDS
from litscope.data.sources.addressed import open_tars, tars_in
from litscope.data.sources.foreign import index_tars
from litscope.data.sources.shard_names import by_split
from litscope.data.sources.table_files import open_table
from litscope.data.storage.store import Store
from litscope.data.storage.urls import folder_of, join, local_path, name_of, place_of
from litscope.errors import ConfigError, DataError, did_you_mean

_KEYS = ("key", "name", "file", "filename", "image", "path", "id")
_LABELS = ("label", "target", "class")


@dataclass(frozen=True)
class How:
    """How tar files are indexed.

    Attributes:
        output: folder or address of the index; None: beside the tar files.
        asked: where labels and images are.
        labels: a CSV or Parquet file of keys and labels, instead of what the tar files say.
        target: its label column.
        skip_bad: leave out what is not whole.
        overwrite: replace an index that is there.
        num_threads: tar files that are read at once.
    """

    output: str | None = None
    asked: Asked = field(default_factory=Asked)
    labels: str | None = None
    target: str | None = None
    skip_bad: bool = False
    overwrite: bool = False
    num_threads: int = 8

    def __post_init__(self) -> None:
        if self.num_threads < 1:
            raise ConfigError(f"--workers {self.num_threads}: it is 1 or more.")
        if self.labels is not None and self.asked.field is not None:
            raise ConfigError("--labels and --label-field: give one of them.")
        if self.target is not None and self.labels is None:
            raise ConfigError(f"--target {self.target} names a column of --labels FILE. Give the file, too.")


@dataclass
class Made:
    """What an index lists now.

    Attributes:
        index: address of the file.
        num_samples, num_shards, num_bytes, classes: of all.
        splits: name of a split -> samples in it.
        broken: shard -> why what it holds, or the rest of it, was left out.
        notes: lines for the person.
    """

    index: str
    num_samples: int
    num_shards: int
    num_bytes: int
    classes: list[str]
    splits: dict[str, int]
    broken: dict[str, str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return dict(vars(self))

    def lines(self) -> list[str]:
        """For a terminal."""
        told = [*self.notes, *(f"  left out: {name}: {why}" for name, why in self.broken.items())]
        counts = ", ".join(f"{split} {count:,}" for split, count in self.splits.items())
        what = f"{number_of(self.num_samples, 'sample')} of {len(self.classes):,} classes"
        return [*told, f"{what} in {number_of(self.num_shards, 'shard')}: {self.index}", f"  {counts}"]


def make_index(named: Sequence[str], how: How) -> Made:
    """Read the headers of tar files, and write the index of their samples.

    Args:
        named: addresses of tar files or of folders, each also as `train=ADDRESS`.

    Raises:
        ConfigError, DataError: if it cannot be made or written.
    """
    store = Store()
    tars: dict[str, str] = {}
    for word in named:
        for split, urls in by_split(word).items():
            for url in urls:
                is_tar = name_of(url).lower().endswith(".tar")
                for one in [url] if is_tar else tars_in(store, url):
                    if tars.setdefault(one, split) != split:
                        raise ConfigError(f"{one} is named for two splits. Leave it out of one.")
    file = _target(store, tars, how)
    labels = None if how.labels is None else labels_of(Path(how.labels).expanduser(), how.target)
    opened = open_tars(store, tars, how.asked.has_checksums)
    made = index_tars(
        opened,
        how.asked,
        labels=labels,
        skip_bad=how.skip_bad,
        num_threads=how.num_threads,
        progress=True,
    )
    if labels is not None and not len(made.index.classes):
        raise DataError(f"No key of {how.labels} is that of a sample, such as {made.index.table['key'][0].as_py()}.")
    index = _named_from(made.index, folder_of(file))
    _write(store, index, file)
    splits = index.table["split"].to_numpy(zero_copy_only=False)
    counts = {split or UNLABELLED_SHARDS: int((splits == split).sum()) for split in (*SPLITS, "")}
    if counts.pop(UNLABELLED_SHARDS):
        counts["no split"] = int((splits == "").sum())
    return Made(
        file,
        len(index),
        len(index.shards),
        sum(shard.num_bytes for shard in index.shards),
        list(index.classes),
        {split: count for split, count in counts.items() if count},
        made.broken,
        made.notes,
    )


def labels_of(file: Path, target: str | None) -> dict[str, str]:
    """Key -> label of a CSV or Parquet file. Of two columns that are not called so, the first is the key.

    Raises:
        ConfigError: for a column that there is not.
        DataError: if the file cannot be read, or says two things of a key.
    """
    table = open_table(file)
    names = table.names
    if target is not None and target not in names:
        raise ConfigError(f"--target {target}: {file} has {', '.join(names)}.{did_you_mean(target, names)}")
    label = target or next((name for name in names if name.lower() in _LABELS), None)
    others = [name for name in names if name != label]
    key = next((name for name in others if name.lower() in _KEYS), others[0] if others else None)
    if label is None and len(names) == 2:
        label = next(name for name in names if name != key)
    if label is None or key is None:
        raise DataError(f"{file} needs a column of keys and one of labels; it has {', '.join(names)}. Give --target.")
    rows = table.read({key, label})
    columns = [pc.utf8_trim_whitespace(rows[name].cast(pa.string())).to_pylist() for name in (key, label)]
    found: dict[str, str] = {}
    for name, text in zip(*columns, strict=True):
        if name and text and found.setdefault(name, text) != text:
            raise DataError(f"{file} gives {name} two labels, {found[name]!r} and {text!r}.")
    return found


def _target(store: Store, tars: dict[str, str], how: How) -> str:
    """The address of the index that is to be written."""
    folders = sorted({folder_of(url) for url in tars})
    if how.output is None and len(folders) > 1:
        raise ConfigError(
            f"The tar files lie in {len(folders):,} folders ({folders[0]}, {folders[1]}). Say where their index goes: "
            "-o DIR."
        )
    folder = how.output or folders[0]
    file = hidden(join(folder, FILE)) if folder != "." else FILE
    if file.lower().startswith("http"):
        raise ConfigError(f"{file}: nothing can be written there. Say where the index goes: -o DIR.")
    if not how.overwrite and store.exists(file):
        raise ConfigError(f"{file} is there already. Give --overwrite to replace it, or another -o DIR.")
    return file


def _named_from(index: Index, folder: str) -> Index:
    """The index with names of shards that start from its folder, where they lie in it."""
    path = local_path(folder)
    root = folder if path is None else str(path.absolute())
    shards = []
    for shard in index.shards:
        is_beside = place_of(root, name_of(shard.name)) == shard.name
        shards.append(Shard(name_of(shard.name) if is_beside else shard.name, shard.num_bytes, shard.digest))
    return Index(index.table, index.classes, tuple(shards), index.encoding, index.made_from)


def _write(store: Store, index: Index, file: str) -> None:
    path = local_path(file)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        index.write(path.parent)
        return
    if any(local_path(place_of(folder_of(file), shard.name)) is not None for shard in index.shards):
        raise ConfigError(
            f"{file}: the tar files are on this machine, where others cannot read them. Bring them there, too."
        )
    with tempfile.TemporaryDirectory() as folder:
        index.write(Path(folder))
        store.put(Path(folder) / FILE, file)
