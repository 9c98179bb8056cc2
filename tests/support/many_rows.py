"""Shards of millions of samples that take no room: the files are holes, but for the samples that are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import simplejpeg

from litscope.data.looks import spread
from litscope.data.reading.digests import DIGEST_BYTES, DIGEST_TYPE, bytes_digest
from litscope.data.shards.index import Index, Shard

PER_SHARD, ROOM = 10_000, 50_176
"""Samples of a shard, and bytes of each in it."""

CLASSES = 1000


def write_many(folder: Path, count: int, looked_at: Sequence[int] = ()) -> Index:
    """An index of `count` samples, every tenth of which validates, with shards of holes.

    Real images are those that are read before the first batch, some of all samples and some of the training ones, and
    those of `looked_at`.
    """
    at, rng = np.arange(count), np.random.default_rng(0)
    is_val = at % 10 == 9
    digests = rng.integers(0, 256, (count, DIGEST_BYTES), np.uint8)
    sizes = np.full(count, 48_000)
    folder.mkdir(parents=True, exist_ok=True)
    num_bytes = PER_SHARD * ROOM
    shards = tuple(Shard(f"train-{number:04d}.tar", num_bytes, "0" * 32) for number in range(-(-count // PER_SHARD)))
    for shard in shards:
        with (folder / shard.name).open("wb") as file:
            file.truncate(num_bytes)
    image = simplejpeg.encode_jpeg(rng.integers(0, 256, (24, 32, 3), np.uint8).repeat(10, 0).repeat(10, 1), 50)
    real = np.union1d(spread(at, 256), spread(at[~is_val], 200))
    for sample_id in np.union1d(real, np.asarray(looked_at, np.int64)).tolist():
        content = image + sample_id.to_bytes(8, "little")
        with (folder / shards[sample_id // PER_SHARD].name).open("r+b") as file:
            file.seek(sample_id % PER_SHARD * ROOM + 512)
            file.write(content)
        sizes[sample_id], digests[sample_id] = len(content), np.frombuffer(bytes_digest(content), np.uint8)
    number = pc.utf8_lpad(pc.cast(pa.array(at), pa.string()), 9, "0")
    of_class = pc.utf8_lpad(pc.cast(pa.array(at % CLASSES), pa.string()), 4, "0")
    content = pa.py_buffer(digests.tobytes())
    columns = {
        "key": pc.binary_join_element_wise(pc.binary_join_element_wise(of_class, number, "/"), "jpg", "."),
        "label": pa.array(at % CLASSES),
        "split": pa.DictionaryArray.from_arrays(pa.array(is_val.astype(np.int8)), ["train", "val"]).cast(pa.string()),
        "shard": pa.array((at // PER_SHARD).astype(np.int32)),
        "offset": pa.array(at % PER_SHARD * ROOM + 512),
        "size": pa.array(sizes),
        "suffix": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), [".jpg"]).cast(pa.string()),
        "digest": pa.FixedSizeBinaryArray.from_buffers(DIGEST_TYPE, count, [None, content]),
    }
    encoding = {"kind": "image", "channels": 3, "dtype": "uint8"}
    index = Index(pa.table(columns), tuple(f"c{number:04d}" for number in range(CLASSES)), shards, encoding)
    index.write(folder)
    return index
