"""Tar files that others wrote -> an index of them. No torch.

The samples are those of `shards.scan`, in the order of their bytes. Keys begin with the name of their shard, so that
they are unique however many shards number their samples from 0. What is not whole is an error, unless it may be left
out; nothing is left out in silence.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from litscope.console import number_of, track
from litscope.data.manifest import UNLABELLED
from litscope.data.reading import bands, images
from litscope.data.reading.digests import DIGEST_TYPE
from litscope.data.shards.index import Index, Shard
from litscope.data.shards.members import Fetch
from litscope.data.shards.scan import Asked, Scan, scan
from litscope.data.sources.listing import index_labels
from litscope.data.storage.urls import name_of
from litscope.errors import DataError

_SHOWN = 5
_NAMED = 12
_HEADERS = 64  # images that are looked at to learn the number of channels
_HEAD_BYTES = 65_536
_ROWS = pa.schema(
    {
        "key": pa.string(),
        "text": pa.dictionary(pa.int32(), pa.string()),
        "offset": pa.int64(),
        "size": pa.int64(),
        "suffix": pa.dictionary(pa.int32(), pa.string()),
        "digest": DIGEST_TYPE,
    }
)


@dataclass(frozen=True)
class Tar:
    """A tar file that has no index.

    Attributes:
        name: how the index calls it.
        split: of its samples: train, val, test or "".
        num_bytes: of the file.
        fetch: reads the file.
        piece: bytes that are read at once; see `members.Window`.
    """

    name: str
    split: str
    num_bytes: int
    fetch: Fetch
    piece: int


@dataclass
class Indexed:
    """What was found in tar files.

    Attributes:
        index: of all samples.
        notes: lines for the person.
        broken: shard -> why it, or what comes after its samples, was left out.
    """

    index: Index
    notes: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


def index_tars(
    tars: Sequence[Tar],
    asked: Asked,
    *,
    labels: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    num_threads: int = 8,
    progress: bool = False,
) -> Indexed:
    """Find the samples of tar files.

    Args:
        tars: in the order of their numbers.
        asked: where labels and images are.
        labels: name of a sample -> its label, instead of what the tar files say. A name is the key, or the part of it
            in its tar file, with or without the image's suffix.
        skip_bad: leave out what is not whole, and say so.
        num_threads: tar files that are read at once.
        progress: draw a bar.

    Raises:
        DataError: if a tar file is not whole, or none holds an image.
    """

    def look(number: int) -> tuple[Scan, pa.Table]:
        found = scan(tars[number].fetch, tars[number].num_bytes, tars[number].piece, asked)
        return found, _rows(found, prefixes[number], labels)

    asked = replace(asked, has_table=labels is not None)
    prefixes = unique_names([tar.name for tar in tars])
    scans: list[Scan] = []
    tables: list[pa.Table] = []
    with ThreadPoolExecutor(num_threads, "litscope-index") as pool:
        for found, rows in track(pool.map(look, range(len(tars))), "reading headers", len(tars), progress):
            found.samples.clear()
            scans.append(found)
            tables.append(rows)
    unclear = next(((tar.name, found.unclear) for tar, found in zip(tars, scans, strict=True) if found.unclear), None)
    if unclear is not None:
        raise DataError(f"{unclear[0]}: {unclear[1]}.")
    broken = {tar.name: found.why for tar, found in zip(tars, scans, strict=True) if found.why}
    if broken and not skip_bad:
        raise DataError(_not_whole(broken, len(tars)))
    rows = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    if not rows.num_rows:
        raise DataError(_no_images(tars, asked, broken))
    what = "the table of labels" if labels is not None else asked.field or ".cls"
    indices, classes, notes = index_labels(rows["text"].cast(pa.string()), what, is_trained_on=False)
    counts = [table.num_rows for table in tables]
    numbers = np.repeat(np.arange(len(tars), dtype=np.int32), counts)
    splits = np.repeat(np.array([tar.split for tar in tars], dtype=object), counts)
    table = pa.table(
        {
            "key": rows["key"],
            "label": pa.array(indices),
            "split": pa.array(splits, pa.string()),
            "shard": pa.array(numbers),
            "offset": rows["offset"],
            "size": rows["size"],
            "suffix": rows["suffix"].cast(pa.string()),
            "digest": rows["digest"],
        }
    )
    notes += _told(scans, table, asked, labels is not None)
    shards = tuple(Shard(tar.name, tar.num_bytes, found.digest) for tar, found in zip(tars, scans, strict=True))
    encoding, more = _encoding(tars, table)
    return Indexed(Index(table, classes, shards, encoding), [*notes, *more], broken)


def unique_names(addresses: Sequence[str]) -> list[str]:
    """A name for each address: that of its file, with as many of its folders as it takes to tell them apart.

    >>> unique_names(["a/train-0.tar", "b/train-1.tar"]), unique_names(["s3://x/a/0.tar", "s3://x/b/0.tar"])
    (['train-0', 'train-1'], ['a/0', 'b/0'])
    """
    parts = [[*one.partition("://")[2 if "://" in one else 0].split("/")[:-1], name_of(one)] for one in addresses]
    depth = 1
    while True:
        names = ["/".join(part[-depth:]).removesuffix(".tar") for part in parts]
        if len(set(names)) == len(names) or depth >= max(map(len, parts)):
            return names
        depth += 1


def _rows(found: Scan, prefix: str, labels: Mapping[str, str] | None) -> pa.Table:
    samples, columns = found.samples, dict[str, Any]()
    columns["key"] = [f"{prefix}/{one.name}" for one in samples]
    columns["text"] = [one.label for one in samples]
    if labels is not None:
        columns["text"] = [
            next((labels[word] for word in (key, one.name, one.name + one.suffix, one.name.rpartition("/")[2])
                  if word in labels), None)
            for key, one in zip(columns["key"], samples, strict=True)
        ]  # fmt: skip
    for name in ("offset", "size", "suffix", "digest"):
        columns[name] = [getattr(one, name) for one in samples]
    arrays = []
    for name, kind in zip(_ROWS.names, _ROWS.types, strict=True):
        is_coded = pa.types.is_dictionary(kind)
        array = pa.array(columns[name], kind.value_type if is_coded else kind)
        arrays.append(array.dictionary_encode() if is_coded else array)
    return pa.table(arrays, _ROWS)


# ---- what is told ------------------------------------------------------------------------------


def _not_whole(broken: Mapping[str, str], count: int) -> str:
    told = "".join(f"\n  {name}: {why}" for name, why in list(broken.items())[:_SHOWN])
    more = f"\n  and {len(broken) - _SHOWN:,} more" if len(broken) > _SHOWN else ""
    return (
        f"{len(broken):,} of {number_of(count, 'shard')} cannot be read to the end. Write them anew, or leave out what "
        f"is not whole: litscope index ... --skip-bad{told}{more}"
    )


def _no_images(tars: Sequence[Tar], asked: Asked, broken: Mapping[str, str]) -> str:
    if broken:
        return _not_whole(broken, len(tars))
    wanted = f"that ends in .{asked.image_suffix}" if asked.image_suffix else f"({', '.join(sorted(images.SUFFIXES))})"
    return f"None of {number_of(len(tars), 'shard')} holds an image {wanted}, such as {tars[0].name}."


def _told(scans: Sequence[Scan], table: pa.Table, asked: Asked, has_table: bool) -> list[str]:
    notes = []
    without = int((table["label"].to_numpy() == UNLABELLED).sum())
    if without:
        where = "the table of labels" if has_table else (f"the field {asked.field!r}" if asked.field else ".cls")
        first = table["key"].filter(pa.array(table["label"].to_numpy() == UNLABELLED))[0].as_py()
        hint = _where_labels_may_be(scans) if without == table.num_rows and not has_table else ""
        notes.append(f"{without:,} of {number_of(table.num_rows, 'image')} have no label in {where}, as {first}{hint}")
    orphans = [name for found in scans for name in found.without_image]
    if orphans:
        shown = ", ".join(orphans[:_SHOWN]) + (", ..." if len(orphans) > _SHOWN else "")
        notes.append(f"{number_of(len(orphans), 'label')} without an image ({shown})")
    empty = sum(not count for count in np.bincount(table["shard"].to_numpy(), minlength=len(scans)))
    if empty:
        notes.append(f"{number_of(empty, 'shard')} without an image")
    return notes


def _where_labels_may_be(scans: Sequence[Scan]) -> str:
    fields = sorted({name for found in scans for name in found.fields})[:_NAMED]
    if fields:
        return f"; their .json has {', '.join(fields)}: litscope index ... --label-field NAME"
    others = sorted({name for found in scans for name in found.others})[:_NAMED]
    there = f"; there are {', '.join(f'.{name}' for name in others)}" if others else ""
    return f"{there}; a table of keys and labels will do: litscope index ... --labels FILE"


def _encoding(tars: Sequence[Tar], table: pa.Table) -> tuple[dict[str, Any], list[str]]:
    """Kind, channels and dtype, from the headers of images spread evenly over all: colour, unless all are gray."""
    kinds: Counter[tuple[int, str]] = Counter()
    last = ""
    for row in np.unique(np.linspace(0, table.num_rows - 1, _HEADERS).astype(np.int64)).tolist():
        shard, offset, size, suffix = (table[name][row].as_py() for name in ("shard", "offset", "size", "suffix"))
        tar = tars[shard]
        try:
            if suffix == bands.SUFFIX:
                array = np.load(io.BytesIO(tar.fetch(offset, size)), allow_pickle=False)
                if array.ndim != 3:
                    raise DataError(f"an array of shape {array.shape}, and images have three axes")
                kinds[array.shape[2], array.dtype.name] += 1
                continue
            try:
                header = images.read_header(tar.fetch(offset, min(size, _HEAD_BYTES)))
            except DataError:  # of some formats the size stands at the end
                header = images.read_header(tar.fetch(offset, size))
            kinds[1 if header.gray else 3, "uint8"] += 1
        except (DataError, ValueError) as error:
            last = f"{table['key'][row].as_py()}: {error}"
    if not kinds:
        raise DataError(f"No image can be read. {last}")
    if len({dtype for _, dtype in kinds}) > 1 or any(channels not in (1, 3) for channels, _ in kinds):
        channels, dtype = kinds.most_common(1)[0][0]
        return {"kind": "image", "channels": channels, "dtype": dtype}, []
    channels, dtype = max(kinds)
    gray = kinds[(1, dtype)]
    mixed = [
        f"gray and colour images are mixed ({gray} of {sum(kinds.values())} looked at are gray): all are read as colour"
    ]
    return {"kind": "image", "channels": channels, "dtype": dtype}, mixed if channels > 1 and gray else []
