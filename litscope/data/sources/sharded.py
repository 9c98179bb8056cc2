"""Shards -> Listing: a folder of them on this machine, or addresses. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from litscope.data.manifest import in_one_piece, shared_strings
from litscope.data.shards.index import Index
from litscope.data.shards.reader import ShardReader
from litscope.data.sources.addressed import find_shards, unlisted
from litscope.data.sources.listing import Listing
from litscope.errors import DataError

WHERE_LABELS_MAY_BE = (
    "Of tar files they may be in a field of .json (litscope index ... --label-field NAME --overwrite), or in a table "
    "of keys (--labels FILE)."
)


def list_shards(file: Path, is_trained_on: bool = True) -> Listing:
    """What an index on this machine lists, in its order.

    Args:
        file: `index.parquet`, in the folder of its shards.
        is_trained_on: refuse a single class.

    Raises:
        DataError: if the index or a shard is missing or damaged.
    """
    index, folder = Index.read(file), file.parent.absolute()
    missing = [shard.name for shard in index.shards if "://" not in shard.name and not (folder / shard.name).is_file()]
    if missing:
        raise DataError(
            f"{file.parent} lacks {len(missing):,} of its {len(index.shards):,} shards: {missing[0]}. Bring them all "
            "to one folder, beside index.parquet."
        )
    notes = unlisted(str(folder), map(str, folder.glob("*.tar")), index)
    return _listing(file.parent.resolve().name, index, str(folder), is_trained_on, notes)


def list_addressed(dataset: str, cache_dir: Path | None, is_trained_on: bool = True) -> Listing:
    """What lies at addresses. Arguments as `addressed.find_shards`, raises as it."""
    found = find_shards(dataset, cache_dir)
    return _listing(found.name, found.index, found.root, is_trained_on, found.notes)


def shard_reader(rows: Listing, channels: int | None = None, dtype: npt.DTypeLike | None = None) -> ShardReader:
    """The reader of a listing of shards; arguments as there."""
    assert rows.shards is not None
    return ShardReader(rows.shard_root, rows.shards, channels, dtype)


def _listing(name: str, index: Index, root: str, is_trained_on: bool, notes: Sequence[str] = ()) -> Listing:
    if is_trained_on and len(index.classes) < 2:
        what = f"All labels in {name} are {index.classes[0]!r}" if index.classes else f"{name} has no labels"
        where = "" if index.classes else f" {WHERE_LABELS_MAY_BE}"
        raise DataError(f"{what}; a classifier needs at least two classes.{where}")
    table = index.table
    return Listing(
        name,
        in_one_piece(table["key"]),
        np.asarray(table["label"].to_numpy(), np.int64),
        index.classes,
        shared_strings(table["split"]),
        index.groups,
        "group" if index.groups is not None else "",
        index.extra,
        notes=list(notes),
        shards=index,
        shard_root=root,
    )
