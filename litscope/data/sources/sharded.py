"""A folder of shards, or its index -> Listing. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from litscope.data.shards.index import Index
from litscope.data.sources.listing import Listing
from litscope.errors import DataError


def list_shards(file: Path, is_trained_on: bool = True) -> Listing:
    """What an index lists, in its order.

    Args:
        file: `index.parquet`, in the folder of its shards.
        is_trained_on: refuse a single class.

    Raises:
        DataError: if the index or a shard is missing or damaged.
    """
    index, folder = Index.read(file), file.parent
    if is_trained_on and len(index.classes) < 2:
        raise DataError(f"All labels in {folder} are {index.classes[0]!r}; a classifier needs at least two classes.")
    missing = [shard.name for shard in index.shards if not (folder / shard.name).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing):,} of its {len(index.shards):,} shards: {missing[0]}. Bring them all to one "
            "folder, beside index.parquet."
        )
    table = index.table
    return Listing(
        folder.resolve().name,
        table["key"].to_pylist(),
        np.asarray(table["label"].to_numpy(), np.int64),
        index.classes,
        np.asarray(table["split"].to_numpy(zero_copy_only=False), dtype=object),
        index.groups,
        "group" if index.groups is not None else "",
        index.extra,
        root=folder,
        shards=index,
    )
