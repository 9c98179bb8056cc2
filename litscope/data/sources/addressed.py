"""Shards that are named by their addresses -> an index of them, and where they lie. No torch.

What a text may name, `shard_names` says. Tar files beside which `litscope prepare` or `litscope index` put an index are
read by it. Of others the headers are read first, which is done once: the index that is made of them is kept in the
cache, under what they are called, how large they are and when they were written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from litscope.addresses import CUT, absolute, hidden, is_url, shown
from litscope.console import number_of, shell_word
from litscope.data.reading.cache import default_folder
from litscope.data.shards.index import FILE, Index, Shard
from litscope.data.shards.scan import Asked
from litscope.data.sources.foreign import Tar, index_tars, unique_names
from litscope.data.sources.listing import order_classes
from litscope.data.sources.shard_names import by_split
from litscope.data.sources.splits import canonical_split
from litscope.data.storage.retries import looking
from litscope.data.storage.store import Store, Unanswered
from litscope.data.storage.urls import folder_of, join, local_path, name_of, place_of
from litscope.errors import ConfigError, DataError
from litscope.rundir import whole_file

T = TypeVar("T")
U = TypeVar("U")

INDICES = "indices"
"""Folder of the cache that holds indices: of tar files without one, and copies of those that are elsewhere."""

_AT_ONCE = 32  # requests for sizes
_SHARDS_AT_ONCE = 8  # tar files whose headers are read
_LOCAL_PIECE, _REMOTE_PIECE = 1 << 14, 1 << 22
_TAR = ".tar"


@dataclass(frozen=True)
class Found:
    """What addresses stand for.

    Attributes:
        name: for the person.
        index: of all samples; the names of its shards start from `root`, or are whole addresses.
        root: folder of the shards, as `addresses` show it.
        notes: lines for the person.
    """

    name: str
    index: Index
    root: str
    notes: tuple[str, ...] = ()


def find_shards(dataset: str, cache_dir: Path | None = None, progress: bool = True) -> Found:
    """Find shards and their index.

    Args:
        dataset: see `shard_names`.
        cache_dir: where indices are kept; None for the usual place.
        progress: draw a bar while headers are read.

    Raises:
        ConfigError, DataError: if they cannot be used.
    """
    named = by_split(dataset)
    finder = _Finder(Store(), (cache_dir or default_folder()) / INDICES, progress)
    folders, tars = list[_Part](), dict[str, str]()  # address of a tar file -> split
    whole_folders: list[str] = []
    for split, urls in named.items():
        for url in urls:
            if name_of(url).lower().endswith(_TAR):
                tars[url] = split
            elif (part := finder.indexed(url, split)) is not None:
                folders.append(part)
                whole_folders += [] if split else [part.root]
            else:
                inside = tars_in(finder.store, url)
                finder.notes += _several_folders(url, inside)
                tars |= dict.fromkeys(inside, split)
    parts = [*folders, *finder.of_tars(tars)]
    first = next(url for urls in named.values() for url in urls)
    root = first.rstrip("/") if not name_of(first).lower().endswith((_TAR, ".parquet")) else folder_of(first)
    root = absolute(root)
    found = Found(name_of(root) or root, *_joined(parts, root))
    _require_samples(found.index, [split for split in named if split])
    there = _require_there(finder.store, found)
    notes = [note for folder in whole_folders for note in unlisted(folder, there, found.index)]
    return replace(found, notes=(*finder.notes, *notes))


def _several_folders(url: str, tars: Sequence[str]) -> list[str]:
    """A line for the person, where the tar files of a folder lie in several: they may be sets of their own."""
    folders = list(dict.fromkeys(map(folder_of, tars)))
    if len(folders) < 2:
        return []
    return [f"{url}: the tar files of {len(folders):,} folders in it are one set, those of {folders[0]} among them"]


def _require_samples(index: Index, splits: Sequence[str]) -> None:
    """Refuse a split to train or to choose by that was named, and has no sample with a label: another one would be
    drawn in its place.

    Raises:
        DataError: naming it.
    """
    has_label = pc.greater_equal(index.table["label"], 0)
    for split in splits:
        if split != "test" and not pc.any(pc.and_(has_label, pc.equal(index.table["split"], split))).as_py():
            raise DataError(
                f"The shards of --{split}-urls hold no sample with a label. Name others"
                + ("." if split == "train" else ", or leave it out: then a part of the training shards validates.")
            )


def unlisted(folder: str, names: Iterable[str], index: Index) -> list[str]:
    """A line for the person, where tar files lie in a folder that its index does not list."""
    listed = {name_of(shard.name) for shard in index.shards}
    others = sorted(name for name in names if name.lower().endswith(_TAR) and name_of(name) not in listed)
    others = [name for name in others if folder_of(name) == folder]
    if not others:
        return []
    what = f"{number_of(len(others), 'tar file')} of {folder}, such as {name_of(others[0])}"
    return [f"{what}, not in its index, and so not read; `litscope index {shell_word(folder)} --overwrite` lists all"]


def _require_there(store: Store, found: Found) -> dict[str, int]:
    """Refuse a set of which a shard is missing, or is another, as far as its storage can be listed.

    Returns:
        Address -> bytes of the files that lie there.

    Raises:
        DataError: naming the first.
    """
    sizes = {place_of(found.root, shard.name): shard.num_bytes for shard in found.index.shards}
    there: dict[str, int] = {}
    for folder in dict.fromkeys(map(folder_of, sizes)):
        mine = [url for url in sizes if folder_of(url) == folder]
        if local_path(folder) is not None:
            there |= {url: path.stat().st_size for url in mine if (path := local_path(url)) and path.is_file()}
        elif folder.startswith("http"):
            there |= {url: sizes[url] for url in mine}  # who reads them will tell
        else:
            try:
                there |= looking.ask(partial(store.list, f"{folder}/"))
            except Unanswered:
                raise
            except DataError:  # it may not be listed, and may be read all the same
                there |= {url: sizes[url] for url in mine}
    missing = [url for url in sizes if url not in there]
    if missing:
        raise DataError(f"{len(missing):,} of {len(sizes):,} shards are not there: {missing[0]}. Bring them all there.")
    other = next((url for url, size in sizes.items() if there[url] != size), None)
    if other is not None:
        raise DataError(
            f"{other} has {there[other]:,} bytes, and {sizes[other]:,} by its index: it is another file, or was cut. "
            "Bring it there once more, or make the index anew: litscope index."
        )
    return there


@dataclass(frozen=True)
class _Part:
    """An index, and the folder that the names of its shards start from."""

    index: Index
    root: str


class _Finder:
    """Finds the indices of addresses, which are kept in a folder."""

    def __init__(self, store: Store, kept: Path, progress: bool) -> None:
        self.store, self._kept, self._progress = store, kept, progress
        self._of_folders: dict[str, _Part | None] = {}
        self.notes: list[str] = []

    def indexed(self, url: str, split: str) -> _Part | None:
        """What an index, or a folder that holds one, lists; None for a folder without."""
        file = url if name_of(url).endswith(".parquet") else join(url, FILE)
        folder = folder_of(file)
        if folder not in self._of_folders:
            self._of_folders[folder] = self._read(file) if looking.ask(lambda: self.store.exists(file)) else None
            if self._of_folders[folder] is None and file == url:
                raise DataError(f"{url} does not exist.")
        part = self._of_folders[folder]
        return part if part is None or not split else _Part(_in_split(part.index, split), part.root)

    def of_tars(self, tars: Mapping[str, str]) -> list[_Part]:
        """The indices of tar files: those that lie beside them, and one of all others."""
        parts, others = list[_Part](), dict[str, str]()
        for folder in dict.fromkeys(map(folder_of, tars)):
            mine = {url: split for url, split in tars.items() if folder_of(url) == folder}
            beside = self._beside(folder)
            listed = [] if beside is None else [whole(place_of(folder, one.name)) for one in beside.index.shards]
            numbers = {name: at for at, name in enumerate(listed)}
            others |= {url: split for url, split in mine.items() if whole(url) not in numbers}
            chosen = {numbers[whole(url)]: split for url, split in mine.items() if whole(url) in numbers}
            if beside is not None and chosen:
                parts.append(_Part(_of_shards(beside.index, chosen), folder))
        if others:
            parts.append(_Part(self._made(others), ""))
        return parts

    def _beside(self, folder: str) -> _Part | None:
        """The index in a folder; one that may not be looked at, as beside presigned addresses, is none."""
        try:
            return self.indexed(join(folder, FILE) if folder != "." else FILE, "")
        except Unanswered:
            raise
        except DataError:
            if is_url(folder) and not folder.startswith("file"):
                return None
            path = local_path(folder)
            if path is not None and (path / FILE).exists():
                raise
            return None

    def _read(self, file: str) -> _Part:
        path = local_path(file)
        if path is not None:
            return _Part(Index.read(path), folder_of(file))
        copy = self._kept / _key([shown(file), *looking.ask(lambda: (self.store.size(file), self.store.version(file)))])
        if not (copy / FILE).exists():
            _make(copy)
            with whole_file(copy / FILE) as out:
                out.write(looking.ask(lambda: self.store.read_all(file)))
        return _Part(Index.read(copy / FILE), folder_of(file))

    def _made(self, tars: Mapping[str, str]) -> Index:
        """The index of tar files that have none."""
        opened = open_tars(self.store, tars)
        versions = _at_once(lambda url: self.store.version(url), tars)
        facts = [[tar.name, tar.split, tar.num_bytes, version] for tar, version in zip(opened, versions, strict=True)]
        folder = self._kept / _key([asdict(Asked()), *facts])
        if (folder / FILE).exists():
            return Index.read(folder / FILE)
        _make(folder)  # before the headers are read, which may take long
        made = index_tars(opened, Asked(), num_threads=_SHARDS_AT_ONCE, progress=self._progress)
        self.notes += made.notes
        made.index.write(folder)
        return made.index


def whole(url: str) -> str:
    """An address by which a file can be told from others: a path of this machine from its root, without a secret."""
    path = local_path(url)
    return shown(url).removesuffix(f"?{CUT}") if path is None else str(path.absolute())


def tars_in(store: Store, folder: str) -> list[str]:
    """The addresses of the tar files in a folder that has no index.

    Raises:
        ConfigError: for a web server, which has no list.
        DataError: if there are none.
    """
    place = folder if folder.endswith("/") or local_path(folder) is not None else f"{folder}/"
    try:
        listed = looking.ask(lambda: store.list(place))
    except ConfigError as error:
        raise ConfigError(f"{error} Or put {FILE} there: `litscope index` writes it.") from None
    found = [hidden(one) for one in listed if one.lower().endswith(_TAR)]
    if not found:
        raise DataError(f"{folder} holds neither {FILE} nor a tar file.")
    return found


def open_tars(store: Store, tars: Mapping[str, str], has_checksums: bool = False) -> list[Tar]:
    """Tar files, ready to be indexed.

    Args:
        store: that reads them.
        tars: address -> split; "" for that which its name begins with, or none.
        has_checksums: all of their bytes are read.

    Raises:
        DataError: if one is not there.
    """
    sizes = _at_once(lambda url: store.size(url), tars)
    return [
        Tar(
            url if path is None else str(path.absolute()),
            split or split_of(name_of(url)),
            size,
            partial(_read, store, url),
            _LOCAL_PIECE if path is not None and not has_checksums else _REMOTE_PIECE,
        )
        for (url, split), size, path in zip(tars.items(), sizes, map(local_path, tars), strict=True)
    ]


def _read(store: Store, url: str, offset: int, size: int) -> bytes:
    return looking.ask(lambda: store.read(url, offset, size))


def split_of(name: str) -> str:
    """The split that the name of a shard begins with; "" if it is none.

    >>> [split_of(name) for name in ("train-0000.tar", "imagenet1k-validation-01.tar", "val0001.tar", "0001.tar")]
    ['train', 'val', 'val', '']
    """
    words = re.findall(r"[^\W\d_]+", name.lower().removesuffix(_TAR))
    return next((split for word in words if (split := canonical_split(word))), "")


def _at_once(ask: Callable[[T], U], what: Iterable[T]) -> list[U]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda one: looking.ask(lambda: ask(one)), what))


def _key(facts: Sequence[object]) -> str:
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"The index of shards cannot be kept in {folder.parent} ({error.strerror})"
        raise DataError(f"{said}. Give another --cache-dir, or set LITSCOPE_CACHE.") from error


# ---- several indices as one --------------------------------------------------------------------


def _in_split(index: Index, split: str) -> Index:
    return _with_column(index, "split", pa.array([split] * len(index), pa.string()))


def _of_shards(index: Index, chosen: Mapping[int, str]) -> Index:
    """The samples of some shards, in the split that is said for each; "" leaves them in theirs."""
    new = np.full(len(index.shards), -1, np.int32)
    new[list(chosen)] = np.arange(len(chosen), dtype=np.int32)
    said = np.full(len(index.shards), "", dtype=object)
    said[list(chosen)] = list(chosen.values())
    numbers = index.table["shard"].to_numpy()
    rows = np.flatnonzero(new[numbers] >= 0)
    rows = rows[np.argsort(new[numbers[rows]], kind="stable")]
    table = index.table.take(pa.array(rows))
    splits = pa.array(said[numbers[rows]], pa.string())
    splits = pc.if_else(pc.equal(splits, ""), table["split"].combine_chunks(), splits)
    shards = tuple(index.shards[number] for number in chosen)
    of = Index(table, index.classes, shards, index.encoding, index.made_from)
    return _with_column(_with_column(of, "split", splits), "shard", pa.array(new[numbers[rows]]))


def _joined(parts: Sequence[_Part], root: str) -> tuple[Index, str]:
    """One index of several, and what the names of its shards start from."""
    if len(parts) == 1 and (parts[0].root or not parts[0].index.shards):
        return parts[0].index, absolute(parts[0].root)
    classes = parts[0].index.classes
    if any(part.index.classes != classes for part in parts):
        classes = order_classes(name for part in parts for name in part.index.classes)
    kinds = {(part.index.encoding["kind"], part.index.encoding["dtype"]) for part in parts}
    if len(kinds) > 1:
        raise DataError(f"Shards of images of {' and '.join(sorted(dtype for _, dtype in kinds))} cannot be joined.")
    channels = max(part.index.encoding["channels"] for part in parts)
    shards, tables = list[Shard](), []
    position = {name: number for number, name in enumerate(classes)}
    names = unique_names([part.root or "others" for part in parts]) if _keys_collide(parts) else [""] * len(parts)
    for part, name in zip(parts, names, strict=True):
        index = part.index
        lookup = np.array([*(position[one] for one in index.classes), -1], np.int64)
        labels = pa.array(lookup[index.table["label"].to_numpy()])
        numbers = pa.array((index.table["shard"].to_numpy() + len(shards)).astype(np.int32))
        table = _with_column(_with_column(index, "label", labels), "shard", numbers).table
        if name:
            keys = pc.binary_join_element_wise(name, table["key"], "/")
            table = table.set_column(table.column_names.index("key"), "key", keys)
        tables.append(table)
        shards += [Shard(absolute(place_of(part.root, one.name)), one.num_bytes, one.digest) for one in index.shards]
    table = pa.concat_tables(tables, promote_options="default")
    encoding = {**parts[0].index.encoding, "channels": channels}
    return Index(table, classes, tuple(shards), encoding), root


def _keys_collide(parts: Sequence[_Part]) -> bool:
    keys = pa.chunked_array([chunk for part in parts for chunk in part.index.table["key"].chunks], pa.string())
    return len(parts) > 1 and bool(pc.count_distinct(keys).as_py() < len(keys))


def _with_column(index: Index, name: str, values: pa.Array) -> Index:
    table = index.table.set_column(index.table.column_names.index(name), name, values)
    return Index(table, index.classes, index.shards, index.encoding, index.made_from)
